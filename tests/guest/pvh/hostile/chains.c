/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of descriptors, indices and rings that no driver would make. A queue that is told nonsense
 * may answer or ask for a reset; it may not stay silent. */
#include "tests/guest/pvh/hostile/attacks.h"

#define SIZE	    16
#define PATIENCE_MS 1000

/* Changes a good chain of n descriptors into a bad one. */
typedef void (*spoil_fn)(struct queue *queue, unsigned n, uint64_t arg);

static void judge(struct vdev *d, unsigned q, const char *what, uint64_t number)
{
	bool must_answer = answers_at_once(d, q);

	notify(d, q);
	if (wait_for(d, q, d->queues[q].offered, must_answer ? PATIENCE_MS : 1) == SILENT &&
	    must_answer)
		complain(d, what, number);
}

static void try_chain(struct vdev *d, unsigned q, spoil_fn spoil, uint64_t arg)
{
	if (!start_device(d, SIZE)) {
		complain(d, "does not come up for chain", arg);
		return;
	}
	spoil(&d->queues[q], good_chain(d, q), arg);
	offer(d, q, 0);
	judge(d, q, "stays silent about chain", arg);
}

/* The same for every queue of every device. */
static void try_everywhere(spoil_fn spoil, uint64_t arg)
{
	for (unsigned i = 0; i < num_vdevs; i++)
		for (unsigned q = 0; q < vdevs[i].num_queues; q++)
			try_chain(&vdevs[i], q, spoil, arg);
}

/* --- shapes --- */

enum shape {
	SELF_LINK,
	LOOP,
	EMPTY_LOOP,
	TOO_LONG,
	NEXT_AT_SIZE,
	NEXT_FAR,
	ALL_EMPTY,
	FIRST_EMPTY,
	WRITABLE_FIRST,
	ALL_WRITABLE,
	ALL_READABLE,
	ALL_FLAGS,
	UNKNOWN_FLAGS,
	HUGE,
	ONE_BYTE,
	NUM_SHAPES
};

static void make_all(struct queue *queue, unsigned n, uint32_t len, uint16_t flags)
{
	for (unsigned i = 0; i < n; i++) {
		queue->memory->desc[i].len = len;
		queue->memory->desc[i].flags = flags | (i + 1 < n ? DESC_NEXT : 0);
	}
}

/* A ring full of linked descriptors, of the kind that the first one is, whose last leads back. */
static void fill_and_close(struct queue *queue, uint32_t len)
{
	for (unsigned i = 0; i < queue->size; i++)
		queue->memory->desc[i] = (struct desc){
			.addr = (uintptr_t)queue->memory->buffer,
			.len = len,
			.flags = (queue->memory->desc[0].flags & DESC_WRITE) | DESC_NEXT,
			.next = (uint16_t)((i + 1) % queue->size),
		};
}

static void spoil_shape(struct queue *queue, unsigned n, uint64_t shape)
{
	struct desc *desc = queue->memory->desc, *last = &desc[n - 1];

	switch (shape) {
	case SELF_LINK:
		last->flags |= DESC_NEXT;
		last->next = (uint16_t)(n - 1);
		break;
	case LOOP:
		last->flags |= DESC_NEXT;
		last->next = 0;
		break;
	case EMPTY_LOOP: fill_and_close(queue, 0); break;
	case TOO_LONG: fill_and_close(queue, 16); break;
	case NEXT_AT_SIZE:
	case NEXT_FAR:
		last->flags |= DESC_NEXT;
		last->next = shape == NEXT_FAR ? 0xffff : queue->size;
		break;
	case ALL_EMPTY:
		for (unsigned i = 0; i < n; i++)
			desc[i].len = 0;
		break;
	case FIRST_EMPTY: desc[0].len = 0; break;
	case WRITABLE_FIRST: desc[0].flags ^= DESC_WRITE; break;
	case ALL_WRITABLE: make_all(queue, n, 16, DESC_WRITE); break;
	case ALL_READABLE: make_all(queue, n, 16, 0); break;
	case ALL_FLAGS: make_all(queue, n, 16, 0xffff); break;
	case UNKNOWN_FLAGS: make_all(queue, n, 16, 0xfff8); break;
	case HUGE: make_all(queue, n, 0xffffffff, desc[0].flags & DESC_WRITE); break;
	default: make_all(queue, n, 1, desc[0].flags & DESC_WRITE); break;
	}
}

void attack_chains(const char *value)
{
	for (unsigned shape = 0; shape < NUM_SHAPES; shape++)
		try_everywhere(spoil_shape, shape);
}

/* --- addresses --- */

/* Where no buffer lies, or not all of it. */
static const uint64_t bad_addresses[] = {
	RAM_END - 8,	    /* its end sticks out */
	RAM_END,	    /* the hole behind RAM */
	0xc0000000,	    /* the windows of PCI */
	0xe8000000,	    /* ECAM */
	0xf8000000,	    /* KVM's pages */
	0xfec00000,	    /* IOAPIC */
	0xfee00000,	    /* local APIC */
	0xfffffff0,	    /* up to 4 GiB */
	0xffffffff,	    /* across */
	0x100000000,	    /* the 64-bit window */
	0x1000000000000,    /* beyond what a processor can address */
	0x8000000000000000, /* the sign */
	0xfffffffffffffff0, /* up to the end */
	0xffffffffffffffff, /* across */
};

/* arg: descriptor in the low byte, address above; 0xff is the device's own BAR. */
static uint64_t own_bar;

static void spoil_address(struct queue *queue, unsigned n, uint64_t arg)
{
	uint64_t address = arg >> 8 == 0xff ? own_bar : bad_addresses[arg >> 8];
	struct desc *desc = &queue->memory->desc[(arg & 0xff) % n];

	desc->addr = address;
	if (desc->len < 32)
		desc->len = 32;
}

void attack_addresses(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++) {
		own_bar = vdevs[i].bar;
		for (unsigned q = 0; q < vdevs[i].num_queues; q++)
			for (unsigned n = 0; n < 3; n++) {
				for (unsigned a = 0;
				     a < sizeof(bad_addresses) / sizeof(bad_addresses[0]); a++)
					try_chain(&vdevs[i], q, spoil_address, a << 8 | n);
				try_chain(&vdevs[i], q, spoil_address, 0xff00 | n);
			}
	}
	/* The table of MSI-X, the notifications: what would happen if a device could write there.
	 */
	for (unsigned i = 0; i < num_vdevs; i++) {
		own_bar = vdevs[i].notify;
		try_chain(&vdevs[i], 0, spoil_address, 0xff00 | 1);
		own_bar = vdevs[i].bar + vdevs[i].table;
		try_chain(&vdevs[i], 0, spoil_address, 0xff00 | 1);
	}
}

/* --- indirect tables --- */

enum indirect {
	GOOD_TABLE,
	NO_TABLE,
	ODD_TABLE,
	LONG_TABLE,
	LONGER_TABLE,
	HUGE_TABLE,
	HUGE_SUM,
	TABLE_IN_HOLE,
	TABLE_AT_END,
	TABLE_IN_BAR,
	NESTED,
	WITH_NEXT,
	INNER_LOOP,
	INNER_NEXT,
	TABLE_IS_BUFFER,
	TABLE_IS_RING,
	NOT_FIRST,
	NUM_INDIRECT
};

/* A table of `count` descriptors, all but the first n empty and of the last one's kind. */
static void long_table(struct queue *queue, unsigned n, unsigned count)
{
	struct desc *table = queue->memory->indirect;

	for (unsigned i = n; i < count; i++) {
		table[i] = table[n - 1];
		table[i].len = 0;
		table[i].next = (uint16_t)(i + 1);
	}
	for (unsigned i = 0; i + 1 < count; i++)
		table[i].flags |= DESC_NEXT;
	queue->memory->desc[0].len = count * (uint32_t)sizeof(struct desc);
}

static void spoil_indirect(struct queue *queue, unsigned n, uint64_t how)
{
	struct desc *table = queue->memory->indirect, *desc = queue->memory->desc;

	memcpy(table, desc, n * sizeof(*table));
	desc[0] = (struct desc){.addr = (uintptr_t)table,
				.len = n * (uint32_t)sizeof(*table),
				.flags = DESC_INDIRECT};
	switch (how) {
	case NO_TABLE: desc[0].len = 0; break;
	case ODD_TABLE: desc[0].len -= 1; break;
	case LONG_TABLE: long_table(queue, n, 1024); break;
	case LONGER_TABLE: long_table(queue, n, 1025); break;
	case HUGE_TABLE: desc[0].len = 0xfffffff0; break;
	case HUGE_SUM:
		/* Each fits RAM; together they are more than 32 bits can count. */
		long_table(queue, n, 1024);
		for (unsigned i = 0; i < 1024; i++) {
			table[i].addr = 0;
			table[i].len = RAM_END;
		}
		break;
	case TABLE_IN_HOLE: desc[0].addr = 0xc0000000; break;
	case TABLE_AT_END: desc[0].addr = RAM_END - sizeof(*table); break;
	case TABLE_IN_BAR: desc[0].addr = own_bar; break;
	case NESTED:
		table[n - 1].flags = DESC_INDIRECT;
		table[n - 1].addr = (uintptr_t)table;
		break;
	case WITH_NEXT:
		desc[0].flags |= DESC_NEXT;
		desc[0].next = 1;
		break;
	case INNER_LOOP:
		table[n - 1].flags |= DESC_NEXT;
		table[n - 1].next = 0;
		break;
	case INNER_NEXT:
		table[n - 1].flags |= DESC_NEXT;
		table[n - 1].next = (uint16_t)n;
		break;
	case TABLE_IS_BUFFER: table[n > 1 ? 1 : 0].addr = (uintptr_t)table; break;
	case TABLE_IS_RING: desc[0].addr = (uintptr_t)desc; break;
	case NOT_FIRST:
		desc[1] = desc[0];
		desc[0] = table[0];
		desc[0].flags |= DESC_NEXT;
		desc[0].next = 1;
		break;
	default: break;
	}
}

void attack_indirect(const char *value)
{
	own_bar = vdevs[0].bar;
	for (unsigned how = 0; how < NUM_INDIRECT; how++)
		try_everywhere(spoil_indirect, how);
	/* The same by a driver that has not asked for them. */
	for (unsigned i = 0; i < num_vdevs; i++) {
		vdevs[i].features &= ~FEATURE_INDIRECT;
		for (unsigned q = 0; q < vdevs[i].num_queues; q++)
			try_chain(&vdevs[i], q, spoil_indirect, GOOD_TABLE);
		vdevs[i].features |= FEATURE_INDIRECT;
	}
}

/* --- the available ring --- */

static void jump(struct vdev *d, unsigned q, uint16_t head, uint16_t by)
{
	struct queue *queue = &d->queues[q];

	if (!start_device(d, SIZE)) {
		complain(d, "does not come up for a jump of", by);
		return;
	}
	good_chain(d, q);
	queue->memory->avail.ring[0] = head;
	queue->offered = by;
	*(volatile uint16_t *)&queue->memory->avail.idx = by;
	judge(d, q, "stays silent about a jump of", by);
}

void attack_available(const char *value)
{
	static const uint16_t jumps[] = {SIZE + 1, SIZE * 2, 0x7fff, 0x8000, 0xfffe, 0xffff};
	static const uint16_t heads[] = {SIZE, SIZE + 1, 0x7fff, 0xffff};

	for (unsigned i = 0; i < num_vdevs; i++)
		for (unsigned q = 0; q < vdevs[i].num_queues; q++) {
			for (unsigned j = 0; j < sizeof(jumps) / sizeof(jumps[0]); j++)
				jump(&vdevs[i], q, 0, jumps[j]);
			for (unsigned j = 0; j < sizeof(heads) / sizeof(heads[0]); j++)
				jump(&vdevs[i], q, heads[j], 1);
		}
}

/* One head as often as the ring holds, and again while those may be in flight. */
void attack_duplicates(const char *value)
{
	for (unsigned round = 0; round < 50; round++)
		for (unsigned i = 0; i < num_vdevs; i++) {
			struct vdev *d = &vdevs[i];
			unsigned q = d->num_queues > 1;

			if (!start_device(d, SIZE)) {
				complain(d, "does not come up for duplicates", round);
				return;
			}
			good_chain(d, q);
			for (unsigned n = 0; n < SIZE; n++)
				offer(d, q, 0);
			notify(d, q);
			for (unsigned n = 0; n < 8; n++) {
				offer(d, q, n % 2);
				notify(d, q);
			}
		}
}

/* --- where rings are --- */

static void try_rings(struct vdev *d, unsigned q, uint64_t desc, uint64_t avail, uint64_t used)
{
	if (!reset_device(d) || !negotiate(d, d->features)) {
		complain(d, "does not come up for rings at", desc);
		return;
	}
	for (unsigned i = 0; i < d->num_queues; i++)
		if (i != q)
			set_up_queue(d, i, SIZE);
	*mmio16(d->common + COMMON_Q_SELECT) = (uint16_t)q;
	*mmio16(d->common + COMMON_Q_SIZE) = 256;
	*mmio64(d->common + COMMON_Q_DESC) = desc;
	*mmio64(d->common + COMMON_Q_AVAIL) = avail;
	*mmio64(d->common + COMMON_Q_USED) = used;
	*mmio16(d->common + COMMON_Q_ENABLE) = 1;
	go(d);
	for (unsigned i = 0; i < 3; i++)
		*mmio16(d->notify + (uint64_t)q * d->notify_stride) = (uint16_t)q;
}

/* Everything in one place: what the device writes changes what it reads next. */
static void overlap(struct vdev *d, unsigned q)
{
	struct queue_memory *m = d->queues[q].memory;
	uint64_t at = (uintptr_t)m->buffer;
	volatile uint16_t *idx = (volatile uint16_t *)(uintptr_t)(at + 2);

	for (unsigned i = 0; i < sizeof(m->buffer) / 8; i++)
		((volatile uint64_t *)m->buffer)[i] = any();
	try_rings(d, q, at, at, at);
	for (unsigned i = 0; i < 50; i++) {
		*idx = (uint16_t)(*idx + 1);
		*mmio16(d->notify + (uint64_t)q * d->notify_stride) = (uint16_t)q;
	}
}

void attack_rings(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++)
		for (unsigned q = 0; q < vdevs[i].num_queues; q++) {
			struct vdev *d = &vdevs[i];
			struct queue_memory *m = d->queues[q].memory;
			uint64_t desc = (uintptr_t)m->desc, avail = (uintptr_t)&m->avail;
			uint64_t used = (uintptr_t)&m->used;

			for (unsigned a = 0; a < sizeof(bad_addresses) / sizeof(bad_addresses[0]);
			     a++) {
				try_rings(d, q, bad_addresses[a], avail, used);
				try_rings(d, q, desc, bad_addresses[a], used);
				try_rings(d, q, desc, avail, bad_addresses[a]);
			}
			try_rings(d, q, d->bar, d->bar, d->bar);
			try_rings(d, q, desc + 8, avail, used);
			try_rings(d, q, desc, avail + 1, used);
			try_rings(d, q, desc, avail, used + 2);
			overlap(d, q);
		}
}
