/* SPDX-License-Identifier: Apache-2.0 */
/* Chains that are well made, with contents that are not. */
#include "tests/guest/pvh/hostile/attacks.h"

#define PATIENCE_MS 2000
#define SIZE	    64

#define BLK_IN		 0
#define BLK_OUT		 1
#define BLK_FLUSH	 4
#define BLK_GET_ID	 8
#define BLK_DISCARD	 11
#define BLK_WRITE_ZEROES 13
#define BLK_FEATURES	 (FEATURE_VERSION_1 | FEATURE_INDIRECT | 1ULL << 9 | 1ULL << 13 | 1ULL << 14)
#define BLK_OK		 0

struct header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t num_sectors;
	uint32_t flags;
};

static uint64_t capacity; /* sectors */

static void add(struct vdev *d, unsigned q, unsigned *n, uint32_t offset, uint32_t len,
		uint16_t flags)
{
	struct queue_memory *m = d->queues[q].memory;

	if (*n)
		m->desc[*n - 1].flags |= DESC_NEXT;
	m->desc[*n] = (struct desc){
		.addr = (uintptr_t)m->buffer + offset,
		.len = len,
		.flags = flags,
		.next = (uint16_t)(*n + 1),
	};
	++*n;
}

/* Offers what was added, on a device that is started anew if it has had enough. */
static enum outcome submit(struct vdev *d, unsigned q)
{
	enum outcome outcome;

	offer(d, q, 0);
	notify(d, q);
	outcome = wait_for(d, q, d->queues[q].offered, PATIENCE_MS);
	if (outcome == SILENT)
		complain(d, "stays silent about request", d->queues[q].offered);
	if (outcome != ANSWERED && !start_device(d, SIZE))
		complain(d, "does not come up after request", d->queues[q].offered);
	return outcome;
}

/* A request with `in` bytes to be written by the device before the status, or `out` to be read. */
static uint8_t block(struct vdev *d, uint32_t type, uint64_t sector, uint32_t out, uint32_t in)
{
	struct queue_memory *m = d->queues[0].memory;
	unsigned n = 0;

	*(struct header *)(void *)m->buffer = (struct header){.type = type, .sector = sector};
	m->buffer[64] = 0xff;
	add(d, 0, &n, 0, 16, 0);
	if (out)
		add(d, 0, &n, 4096, out, 0);
	if (in)
		add(d, 0, &n, 4096, in, DESC_WRITE);
	add(d, 0, &n, 64, 1, DESC_WRITE);
	return submit(d, 0) == ANSWERED ? m->buffer[64] : 0xfe;
}

static void must_fail(struct vdev *d, uint32_t type, uint64_t sector, uint32_t out, uint32_t in)
{
	if (block(d, type, sector, out, in) == BLK_OK) {
		complain(d, "did what it cannot at sector", sector);
		complain(d, "  type and bytes", (uint64_t)type << 32 | out | in);
	}
}

static void beyond_the_end(struct vdev *d)
{
	const uint64_t sectors[] = {
		capacity,   capacity + 1, 1ULL << 31, 1ULL << 32, 1ULL << 54, (1ULL << 55) - 1,
		1ULL << 55, 1ULL << 56,	  1ULL << 63, ~0ULL - 7,  ~0ULL,
	};

	for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		must_fail(d, BLK_IN, sectors[i], 0, 512);
		must_fail(d, BLK_OUT, sectors[i], 512, 0);
	}
	must_fail(d, BLK_IN, capacity - 1, 0, 1024);
	must_fail(d, BLK_OUT, capacity - 1, 1024, 0);
	for (unsigned bytes = 1; bytes < 1100; bytes += 37) {
		block(d, BLK_IN, capacity - 1, 0, bytes);
		block(d, BLK_OUT, capacity - 1, bytes, 0);
	}
}

static void ranges(struct vdev *d, uint32_t type)
{
	const uint64_t sectors[] = {0, capacity - 1, capacity, 1ULL << 55, 1ULL << 63, ~0ULL};
	const uint32_t counts[] = {0, 2, 0x400001, 0x7fffffff, 0x80000000, 0xffffffff};
	struct range *range = (struct range *)(void *)(d->queues[0].memory->buffer + 4096);

	for (unsigned s = 1; s < sizeof(sectors) / sizeof(sectors[0]); s++)
		for (unsigned c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
			*range = (struct range){.sector = sectors[s], .num_sectors = counts[c]};
			must_fail(d, type, any(), 16, 0);
			range->flags = (uint32_t)any();
			must_fail(d, type, any(), 16, 0);
		}
	/* No range, pieces of one, too many. */
	*range = (struct range){.sector = 8, .num_sectors = 8};
	for (unsigned bytes = 0; bytes < 64; bytes += 5)
		must_fail(d, type, 0, bytes, 0);
	must_fail(d, type, 0, 16 * 1024, 0);
}

/* The header, and the rest, byte by byte; and in one piece with what follows. */
static void odd_pieces(struct vdev *d)
{
	struct queue_memory *m = d->queues[0].memory;

	for (unsigned split = 0; split < 40; split++) {
		unsigned n = 0;

		*(struct header *)(void *)m->buffer = (struct header){.type = BLK_OUT, .sector = 8};
		if (split < 16)
			for (unsigned i = 0; i < 16 + split; i++)
				add(d, 0, &n, i, 1, 0);
		else
			add(d, 0, &n, 0, split, 0);
		if (split % 3 == 0)
			add(d, 0, &n, 4096, 512 - split, 0);
		add(d, 0, &n, 64, 1 + split % 2, split % 5 ? DESC_WRITE : 0);
		submit(d, 0);
	}
	/* A header that is too short. */
	for (unsigned bytes = 0; bytes < 16; bytes++) {
		unsigned n = 0;

		add(d, 0, &n, 0, bytes, 0);
		add(d, 0, &n, 64, 1, DESC_WRITE);
		submit(d, 0);
	}
	/* 300 pieces: more than seg_max allows. */
	for (unsigned i = 0; i < 300; i++)
		m->indirect[i] = (struct desc){
			.addr = (uintptr_t)m->buffer,
			.len = i ? i < 299 ? 512 : 1 : 16,
			.flags = (uint16_t)((i ? DESC_WRITE : 0) | (i < 299 ? DESC_NEXT : 0)),
			.next = (uint16_t)(i + 1),
		};
	m->desc[0] = (struct desc){(uintptr_t)m->indirect, 300 * 16, DESC_INDIRECT, 0};
	*(struct header *)(void *)m->buffer = (struct header){.type = BLK_IN};
	submit(d, 0);
}

void attack_disk(const char *value)
{
	struct vdev *d = device_of(BLK);
	uint64_t usual;

	if (!d)
		return;
	usual = d->features;
	d->features = BLK_FEATURES;
	if (!start_device(d, SIZE)) {
		/* An image that cannot be discarded from. */
		d->features = usual;
		start_device(d, SIZE);
	}
	capacity = *mmio64(d->config);
	beyond_the_end(d);
	for (unsigned type = 0; type < 40; type++)
		if (type != BLK_OUT)
			block(d, type == 39 ? 0xffffffff : type, any(), 512, 512);
	ranges(d, BLK_DISCARD);
	ranges(d, BLK_WRITE_ZEROES);
	for (unsigned room = 0; room < 1000; room += room < 24 ? 1 : 97)
		block(d, BLK_GET_ID, 0, 0, room);
	odd_pieces(d);
	for (unsigned at = 0; at < 0x60; at++) {
		*mmio8(d->config + at) = (uint8_t)any();
		*mmio32(d->config + at) = (uint32_t)any();
	}
	d->features = usual;
}

/* Frames of every length and with any header; commands of every class with any data. */
void attack_net(const char *value)
{
	struct vdev *d = device_of(NET);

	if (!d || !start_device(d, SIZE))
		return;
	for (unsigned len = 0; len < 2000; len += len < 100 ? 1 : 91) {
		unsigned n = 0;

		memset(d->queues[1].memory->buffer, (int)(any() & 0xff), 12);
		add(d, 1, &n, 0, len, 0);
		submit(d, 1);
	}
	for (unsigned i = 0; i < 200; i++) {
		unsigned n = 0;

		for (unsigned b = 0; b < 12; b++)
			d->queues[1].memory->buffer[b] =
				i < 100 ? (uint8_t)below(6) : (uint8_t)any();
		add(d, 1, &n, 0, 1 + below(12), 0);
		add(d, 1, &n, below(12), below(40000), 0);
		submit(d, 1);
	}
	for (unsigned i = 0; i < 600; i++) {
		uint8_t *buffer = d->queues[2].memory->buffer;
		unsigned n = 0;

		buffer[0] = (uint8_t)(i < 300 ? i / 32 : any());
		buffer[1] = (uint8_t)(i < 300 ? i % 32 : any());
		*(uint64_t *)(void *)(buffer + 2) = i % 3 ? any() : below(4);
		add(d, 2, &n, 0, below(16), 0);
		if (i % 7)
			add(d, 2, &n, 64, below(4), DESC_WRITE);
		submit(d, 2);
	}
}
