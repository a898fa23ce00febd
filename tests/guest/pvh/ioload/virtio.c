/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pvh/ioload/virtio.h"

#define BAR_BASE 0xc8000000U /* in the 32-bit window of every VMM that this is for */

/* 4.1.4: what a vendor capability describes. */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_DEVICE = 4 };

/* 4.1.4.3 */
#define DEVICE_FEATURE_SELECT 0x00
#define DEVICE_FEATURE	      0x04
#define DRIVER_FEATURE_SELECT 0x08
#define DRIVER_FEATURE	      0x0c
#define DEVICE_STATUS	      0x14
#define QUEUE_SELECT	      0x16
#define QUEUE_SIZE_REG	      0x18
#define QUEUE_ENABLE	      0x1c
#define QUEUE_NOTIFY_OFF      0x1e
#define QUEUE_DESC	      0x20
#define QUEUE_DRIVER	      0x28
#define QUEUE_DEVICE	      0x30

#define ACKNOWLEDGE_DRIVER 3
#define FEATURES_OK	   8
#define DRIVER_OK	   4

struct rings {
	struct desc desc[QUEUE_SIZE];
	uint16_t avail[2 + QUEUE_SIZE + 1 + 1]; /* the last one only fills up */
	uint16_t used[2 + QUEUE_SIZE * 4 + 1];
} __attribute__((aligned(4096)));

static struct rings rings[MAX_QUEUES];

static uint32_t read_config(uint32_t function, unsigned offset)
{
	return *mmio32(function + offset);
}

static bool fail(const char *why)
{
	guest_put("FAILED ");
	guest_print(why);
	return false;
}

/* --- the function ------------------------------------------------------------------------------
 */

/* Its configuration space in ECAM; 0 when there is none. */
static uint32_t find(uint32_t ecam, uint32_t id)
{
	for (unsigned slot = 0; slot < GUEST_PCI_SLOTS; slot++)
		if (read_config(ecam + (slot << 15), 0) == id)
			return ecam + (slot << 15);
	return 0;
}

static void place_bar(uint32_t function, unsigned bar)
{
	unsigned offset = 0x10 + 4 * bar;
	bool wide = (read_config(function, offset) & 6) == 4;

	*mmio32(function + 4) = 0;
	*mmio32(function + offset) = BAR_BASE;
	if (wide)
		*mmio32(function + offset + 4) = 0;
	*mmio32(function + 4) = 6; /* decode memory, be a master */
}

static bool find_blocks(struct virtio *v, uint32_t function)
{
	unsigned cap = read_config(function, 0x34) & 0xfc;
	unsigned bar = 6;

	while (cap) {
		uint32_t head = read_config(function, cap);
		unsigned type = head >> 24;
		uint32_t at = BAR_BASE + read_config(function, cap + 8);

		if ((head & 0xff) == 9 && type && type <= CAP_DEVICE)
			bar = read_config(function, cap + 4) & 0xff;
		if ((head & 0xff) == 9 && type == CAP_COMMON)
			v->common = at;
		if ((head & 0xff) == 9 && type == CAP_DEVICE)
			v->device = at;
		if ((head & 0xff) == 9 && type == CAP_NOTIFY) {
			v->notify = at;
			v->notify_multiplier = read_config(function, cap + 16);
		}
		cap = head >> 8 & 0xfc;
	}
	if (!v->common || !v->notify || bar > 5)
		return false;
	place_bar(function, bar);
	return true;
}

static void negotiate(struct virtio *v, uint64_t wanted)
{
	uint64_t offered;

	*mmio32(v->common + DEVICE_FEATURE_SELECT) = 0;
	offered = *mmio32(v->common + DEVICE_FEATURE);
	*mmio32(v->common + DEVICE_FEATURE_SELECT) = 1;
	offered |= (uint64_t)*mmio32(v->common + DEVICE_FEATURE) << 32;
	v->features = offered & wanted;
	*mmio32(v->common + DRIVER_FEATURE_SELECT) = 0;
	*mmio32(v->common + DRIVER_FEATURE) = (uint32_t)v->features;
	*mmio32(v->common + DRIVER_FEATURE_SELECT) = 1;
	*mmio32(v->common + DRIVER_FEATURE) = (uint32_t)(v->features >> 32);
}

static void set_up_queue(struct virtio *v, unsigned i)
{
	struct queue *q = &v->queues[i];
	struct rings *r = &rings[i];
	const uint32_t where[] = {(uint32_t)(uintptr_t)r->desc, (uint32_t)(uintptr_t)r->avail,
				  (uint32_t)(uintptr_t)r->used};
	unsigned size;

	*mmio16(v->common + QUEUE_SELECT) = (uint16_t)i;
	size = *mmio16(v->common + QUEUE_SIZE_REG);
	if (size > QUEUE_SIZE)
		*mmio16(v->common + QUEUE_SIZE_REG) = size = QUEUE_SIZE;
	*q = (struct queue){.size = size,
			    .desc = r->desc,
			    .avail = r->avail,
			    .used = r->used,
			    .number = (uint16_t)i,
			    .event_idx = v->features & F_EVENT_IDX};
	r->avail[0] = !q->event_idx; /* no interrupts: everything is polled */
	for (unsigned part = 0; part < 3; part++) {
		*mmio32(v->common + QUEUE_DESC + 8 * part) = where[part];
		*mmio32(v->common + QUEUE_DESC + 8 * part + 4) = 0;
	}
	q->doorbell = v->notify + *mmio16(v->common + QUEUE_NOTIFY_OFF) * v->notify_multiplier;
	*mmio16(v->common + QUEUE_ENABLE) = 1;
}

bool virtio_start(struct virtio *v, uint32_t ecam, uint32_t id, uint64_t wanted,
		  unsigned num_queues)
{
	uint32_t function = find(ecam, id);
	volatile uint8_t *status;

	*v = (struct virtio){.slot = (function - ecam) >> 15};
	if (!function)
		return fail("no such function");
	if (!find_blocks(v, function))
		return fail("it lacks a capability");
	status = mmio8(v->common + DEVICE_STATUS);
	*status = 0;
	while (*status)
		;
	*status = ACKNOWLEDGE_DRIVER;
	negotiate(v, wanted | F_VERSION_1 | F_EVENT_IDX);
	*status = ACKNOWLEDGE_DRIVER | FEATURES_OK;
	if (!(*status & FEATURES_OK))
		return fail("it refuses the features");
	for (unsigned i = 0; i < num_queues; i++)
		set_up_queue(v, i);
	*status = ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK;
	return true;
}

/* --- rings ---------------------------------------------------------------------------------------
 */

static void barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void queue_add(struct queue *q, uint16_t head)
{
	q->avail[2 + q->next_avail++ % q->size] = head;
}

void queue_kick(struct queue *q)
{
	uint16_t old = q->published, event;
	bool wanted;

	if (q->next_avail == old)
		return;
	barrier();
	q->avail[1] = q->published = q->next_avail;
	barrier();
	event = q->used[2 + 4 * q->size];
	/* 2.7.7.2 and 2.7.10 */
	wanted = q->event_idx
			 ? (uint16_t)(q->published - event - 1) < (uint16_t)(q->published - old)
			 : !(q->used[0] & 1);
	if (wanted) {
		*mmio16(q->doorbell) = q->number;
		q->kicks++;
	}
}

bool queue_take(struct queue *q, struct used_elem *ret)
{
	const volatile uint16_t *elem = &q->used[2 + 4 * (q->next_used % q->size)];

	if (q->used[1] == q->next_used)
		return false;
	__asm__ volatile("" : : : "memory");
	*ret = (struct used_elem){.id = elem[0], .len = elem[2] | (uint32_t)elem[3] << 16};
	q->next_used++;
	/* As far away as can be: no interrupt is wanted. */
	q->avail[2 + q->size] = (uint16_t)(q->next_used + 0x8000);
	return true;
}
