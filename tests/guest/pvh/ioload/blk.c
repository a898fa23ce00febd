/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as Linux makes them: one indirect descriptor each where the device has that. */
#include "tests/guest/pvh/ioload/blk.h"
#include "tests/guest/pvh/ioload/meter.h"

#define F_FLUSH (1ULL << 9) /* without it every write would be flushed */

#define SECTOR 512
#define CHAIN  3 /* descriptors */

struct header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

static struct slot {
	struct desc table[CHAIN];
	struct header header;
	uint64_t started;
	volatile uint8_t status;
} __attribute__((aligned(64))) slots[BLK_MAX_DEPTH];

static uint8_t data[BLK_MAX_DEPTH][BLK_MAX_BYTES] __attribute__((aligned(4096)));
static struct virtio device;

static uint32_t address(const volatile void *p)
{
	return (uint32_t)(uintptr_t)p;
}

static void prepare_slot(const struct blk_work *work, unsigned i)
{
	struct slot *s = &slots[i];
	struct queue *q = &device.queues[0];
	bool indirect = device.features & F_INDIRECT;
	struct desc *desc = indirect ? s->table : q->desc + (size_t)CHAIN * i;
	uint16_t base = indirect ? 0 : (uint16_t)(CHAIN * i);

	s->header = (struct header){.type = work->write};
	desc[0] = (struct desc){address(&s->header), sizeof(s->header), DESC_NEXT, base + 1};
	desc[1] = (struct desc){address(data[i]), work->bytes,
				DESC_NEXT | (work->write ? 0 : DESC_WRITE), base + 2};
	desc[2] = (struct desc){address(&s->status), 1, DESC_WRITE, 0};
	if (indirect)
		q->desc[CHAIN * i] =
			(struct desc){address(s->table), sizeof(s->table), DESC_INDIRECT, 0};
	/* The first touch of a page is the hypervisor's work; not in the time that is measured. */
	memset(data[i], (int)i, work->bytes);
}

static uint32_t next_random(void)
{
	static uint32_t state = 2463534242U;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static void submit(const struct blk_work *work, unsigned i, uint32_t blocks)
{
	static uint32_t next;
	uint32_t block = work->random ? next_random() % blocks : next++ % blocks;

	slots[i].header.sector = (uint64_t)block * (work->bytes / SECTOR);
	slots[i].status = 0xff;
	slots[i].started = meter_now();
	queue_add(&device.queues[0], (uint16_t)(CHAIN * i));
}

void blk_run(uint32_t ecam, const struct blk_work *work)
{
	struct queue *q = &device.queues[0];
	struct used_elem answer;
	unsigned in_flight = 0;
	struct meter meter;
	uint32_t blocks;

	if (!virtio_start(&device, ecam, VIRTIO_BLOCK, F_FLUSH | F_INDIRECT, 1))
		return;
	/* Disks are smaller than 2 TiB here. */
	blocks = *mmio32(device.device) / (work->bytes / SECTOR);
	for (unsigned i = 0; i < work->depth; i++)
		prepare_slot(work, i);
	meter_begin(&meter, work->ms);
	for (; in_flight < work->depth; in_flight++)
		submit(work, in_flight, blocks);
	while (in_flight) {
		queue_kick(q);
		while (!queue_take(q, &answer))
			__asm__ volatile("pause");
		do {
			unsigned i = answer.id / CHAIN;

			meter_count(&meter, slots[i].started, work->bytes);
			meter.errors += slots[i].status != 0;
			if (meter_over(&meter))
				in_flight--;
			else
				submit(work, i, blocks);
		} while (queue_take(q, &answer));
	}
	meter_end(&meter, q->kicks);
}
