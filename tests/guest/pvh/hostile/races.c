/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processors against one device. The second changes what the device is reading, as fast as it
 * can, while the first notifies. The number behind the word is how long, in milliseconds.
 */
#include "tests/guest/pvh/hostile/attacks.h"

#define SIZE	   64
#define USUAL_MS   600
#define SECOND_CPU 1

static struct vdev *volatile target;
static volatile unsigned target_queue;
static void (*volatile job)(struct vdev *d, unsigned q);
static volatile bool busy;
static uint64_t second_random = 0x5eed;

static uint64_t second_any(void)
{
	second_random ^= second_random << 13;
	second_random ^= second_random >> 7;
	second_random ^= second_random << 17;
	return second_random;
}

/* The second processor: does the job while there is one. */
static void second(void)
{
	for (;;) {
		void (*todo)(struct vdev *, unsigned) = job;

		if (todo) {
			busy = true;
			todo(target, target_queue);
		} else {
			busy = false;
			__asm__ volatile("pause");
		}
	}
}

static void set_job(struct vdev *d, unsigned q, void (*todo)(struct vdev *d, unsigned q))
{
	static bool started;

	target = d;
	target_queue = q;
	if (!started) {
		started = true;
		guest_start_cpu(SECOND_CPU, second);
	}
	job = todo;
	while (!busy)
		__asm__ volatile("pause");
}

static void end_job(void)
{
	job = NULL;
	while (busy)
		__asm__ volatile("pause");
}

/* --- what the second one does --- */

/* Between what is right and what is not. */
static void change_descriptors(struct vdev *d, unsigned q)
{
	static const uint64_t addresses[] = {RAM_END, RAM_END - 8, 0xfee00000, ~0ULL, 0x2000000};
	struct queue_memory *m = d->queues[q].memory;

	for (unsigned i = 0; i < 1000; i++) {
		volatile struct desc *desc = (i & 1 ? m->desc : m->indirect) + second_any() % 4;
		struct desc good = *desc;

		switch (second_any() % 5) {
		case 0: desc->addr = addresses[second_any() % 5]; break;
		case 1: desc->len = (uint32_t)second_any(); break;
		case 2: desc->flags ^= (uint16_t)(1U << second_any() % 3); break;
		case 3: desc->next = (uint16_t)second_any(); break;
		default: *(volatile uint64_t *)(void *)m->buffer = second_any() % 16; break;
		}
		for (unsigned n = second_any() % 64; n; n--)
			__asm__ volatile("pause");
		*desc = good;
	}
}

static void change_rings(struct vdev *d, unsigned q)
{
	struct queue_memory *m = d->queues[q].memory;
	volatile struct avail *avail = &m->avail;
	volatile struct used *used = &m->used;

	for (unsigned i = 0; i < 1000; i++) {
		uint16_t idx = avail->idx;

		switch (second_any() % 4) {
		case 0: avail->idx = (uint16_t)(idx + second_any() % SIZE); break;
		case 1:
			avail->ring[second_any() % SIZE] = (uint16_t)(second_any() % (SIZE + 2));
			break;
		case 2: used->idx = (uint16_t)second_any(); break;
		default: avail->flags = (uint16_t)second_any(); break;
		}
	}
}

static void change_status(struct vdev *d, unsigned q)
{
	volatile uint8_t *status = mmio8(d->common + COMMON_STATUS);

	for (unsigned i = 0; i < 20; i++) {
		*status = 0;
		*status = (uint8_t)second_any();
		*mmio16(d->common + COMMON_Q_SELECT) = (uint16_t)(second_any() % 4);
		*mmio16(d->common + COMMON_Q_SIZE) = (uint16_t)(1U << second_any() % 10);
	}
}

static void change_bar(struct vdev *d, unsigned q)
{
	uint64_t config = guest_ecam(d->slot, 0);

	for (unsigned i = 0; i < 20; i++) {
		*mmio32(config + 0x10) = 0xc4000000 + (uint32_t)(second_any() % 4) * d->bar_size;
		*mmio32(config + 0x14) = 0;
		*mmio32(config + 4) = second_any() % 4 ? 2 : 0;
		*mmio32(config + 0x10) = d->home[0];
		*mmio32(config + 0x14) = d->home[1];
		*mmio32(config + 4) = 2;
		*mmio16(config + d->msix + 2) = (uint16_t)second_any();
	}
}

/* --- what the first one does --- */

/* Requests, direct and indirect, without waiting for more than the ring allows. */
static void request(struct vdev *d, unsigned q, unsigned round)
{
	struct queue *queue = &d->queues[q];
	struct queue_memory *m = queue->memory;
	unsigned n = good_chain(d, q);

	memcpy(m->indirect, m->desc, n * sizeof(m->desc[0]));
	m->desc[4] = (struct desc){
		.addr = (uintptr_t)m->indirect, .len = n * 16, .flags = DESC_INDIRECT};
	for (unsigned i = 0; i < 8; i++) {
		offer(d, q, i & 1 ? 4 : 0);
		notify(d, q);
		wait_for(d, q, queue->offered, round % 4 ? 0 : 5);
	}
}

static void race(const char *value, void (*todo)(struct vdev *d, unsigned q))
{
	uint32_t each = (value ? guest_number(value) : USUAL_MS) / (num_vdevs ? num_vdevs : 1);

	for (unsigned i = 0; i < num_vdevs; i++) {
		struct vdev *d = &vdevs[i];
		unsigned q = d->num_queues > 1;
		uint32_t start = now_ms();

		for (unsigned round = 0; ((now_ms() - start) & 0xfff) < each; round++) {
			if (!start_device(d, SIZE) &&
			    (todo == change_descriptors || todo == change_rings)) {
				complain(d, "does not come up in round", round);
				break;
			}
			set_job(d, q, todo);
			request(d, q, round);
			end_job();
		}
		restore_function(d);
	}
}

void attack_race_descriptors(const char *value)
{
	race(value, change_descriptors);
}

void attack_race_rings(const char *value)
{
	race(value, change_rings);
}

void attack_race_reset(const char *value)
{
	race(value, change_status);
}

void attack_race_bars(const char *value)
{
	race(value, change_bar);
}

void attack_race_random(const char *value)
{
	race(value, random_registers);
}
