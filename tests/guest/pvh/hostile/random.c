/* SPDX-License-Identifier: Apache-2.0 */
/* Anything, anywhere, in an order that one number decides. */
#include "tests/guest/pvh/hostile/attacks.h"

#define SIZE 16

static unsigned any_width(void)
{
	return 1U << below(4);
}

static void any_port(void)
{
	static const uint16_t bases[] = {0x20, 0x40, 0x60,  0x70,  0x80,
					 0x92, 0xe9, 0x402, 0x608, 0xcf8};
	uint16_t port = (uint16_t)(below(4) ? bases[below(10)] + below(9) : any());
	uint32_t value = (uint32_t)any();

	/* COM1 is for the report; these two would end the guest. */
	if ((port >= 0x3f5 && port < 0x400) || (port >= 0x61 && port <= 0x64) ||
	    (port >= 0x5fd && port <= 0x600))
		return;
	switch (below(6)) {
	case 0: in8(port); break;
	case 1: in16(port); break;
	case 2: in32(port); break;
	case 3: out8(port, (uint8_t)value); break;
	case 4: out16(port, (uint16_t)value); break;
	default: out32(port, value); break;
	}
}

static void any_config(void)
{
	unsigned slot = below(4) ? vdevs[below(num_vdevs)].slot : below(32);
	uint64_t at = guest_ecam(slot, below(8) ? below(256) : below(4096));

	if (below(2))
		read_width(at, any_width());
	else
		write_width(at, any_width(), any());
}

static void any_register(struct vdev *d)
{
	const uint64_t bases[] = {
		d->common, d->common,	      d->isr,	       d->config,
		d->notify, d->bar + d->table, d->bar + d->pba, d->bar + below(d->bar_size - 64)};
	uint64_t at = bases[below(8)] + below(64);
	uint64_t value = below(2) ? any() : below(64);

	if (below(3) == 0)
		read_width(at, any_width());
	else
		write_width(at, any_width(), value);
}

static void any_descriptor(struct desc *desc, const struct queue_memory *m)
{
	*desc = (struct desc){
		.addr = below(4) ? (uintptr_t)m->buffer + below(sizeof(m->buffer))
				 : any() >> below(64),
		.len = below(4) ? below(4096) : (uint32_t)any(),
		.flags = (uint16_t)(below(8) ? below(4) : any()),
		.next = (uint16_t)(below(8) ? below(SIZE) : any()),
	};
	/* The guest itself is not for the device to write over. */
	if (desc->addr < RAM_END && desc->len > sizeof(m->buffer) - 4096)
		desc->len = 4096;
	if (desc->addr < (uintptr_t)m->buffer ||
	    (desc->addr < RAM_END &&
	     desc->addr + desc->len > (uintptr_t)m->buffer + sizeof(m->buffer)))
		desc->addr = (uintptr_t)m->buffer;
}

static void any_ring(struct vdev *d)
{
	unsigned q = below(d->num_queues);
	struct queue *queue = &d->queues[q];
	struct queue_memory *m = queue->memory;

	if (!queue->size)
		return;
	for (unsigned i = below(8); i; i--)
		any_descriptor(&m->desc[below(SIZE)], m);
	for (unsigned i = below(4); i; i--)
		any_descriptor(&m->indirect[below(SIZE)], m);
	if (d->type == BLK)
		*mmio32((uintptr_t)m->buffer) = below(14) & ~1U; /* any type but a write */
	for (unsigned i = below(4) + 1; i; i--)
		offer(d, q, (uint16_t)(below(32) ? below(SIZE) : any()));
	if (below(64) == 0)
		*(volatile uint16_t *)&m->avail.idx = (uint16_t)any();
	*mmio16(d->notify + (uint64_t)q * d->notify_stride) = (uint16_t)q;
}

/* Without rings, and without a word: for a second processor. */
void random_registers(struct vdev *d, unsigned q)
{
	for (unsigned n = 0; n < 20; n++) {
		if (below(3))
			any_register(d);
		else
			any_config();
	}
}

/* seed,count */
void attack_random(const char *value)
{
	unsigned count = 1000;

	if (value) {
		random_state = guest_number(value);
		while (*value && *value != ',' && *value != ' ')
			value++;
		if (*value == ',')
			count = guest_number(value + 1);
	}
	for (unsigned i = 0; i < num_vdevs; i++)
		start_device(&vdevs[i], SIZE);
	for (unsigned n = 0; n < count; n++) {
		struct vdev *d = &vdevs[below(num_vdevs)];

		switch (below(16)) {
		case 0: any_port(); break;
		case 1:
		case 2: any_config(); break;
		case 3:
		case 4:
		case 5:
		case 6: any_register(d); break;
		case 7:
			restore_function(d);
			if (!start_device(d, SIZE))
				complain(d, "does not come up at step", n);
			break;
		default: any_ring(d); break;
		}
	}
}
