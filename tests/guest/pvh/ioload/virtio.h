/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A polling driver for one virtio function on PCI (virtio 1.2): capabilities, negotiation, split
 * rings. It takes what the function's firmware or VMM left undone: its BAR is put below 4 GiB.
 */
#ifndef TESTS_GUEST_PVH_IOLOAD_VIRTIO_H
#define TESTS_GUEST_PVH_IOLOAD_VIRTIO_H

#include "tests/guest/pvh/guest.h"

#define QUEUE_SIZE 256
#define MAX_QUEUES 2

#define VIRTIO_NET   0x10411af4U /* device and vendor */
#define VIRTIO_BLOCK 0x10421af4U

#define F_INDIRECT  (1ULL << 28)
#define F_EVENT_IDX (1ULL << 29)
#define F_VERSION_1 (1ULL << 32)

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct used_elem {
	uint32_t id;
	uint32_t len;
};

struct queue {
	unsigned size;
	struct desc *desc;
	volatile uint16_t *avail; /* flags, index, ring, used_event */
	volatile uint16_t *used;  /* flags, index, ring, avail_event */
	uint32_t doorbell;
	uint16_t number;
	bool event_idx;
	uint16_t next_avail; /* put into the ring */
	uint16_t published;
	uint16_t next_used;
	uint32_t kicks;
};

struct virtio {
	unsigned slot;
	uint32_t common, device; /* addresses of the register blocks */
	uint32_t notify, notify_multiplier;
	uint64_t features;
	struct queue queues[MAX_QUEUES];
};

/* Finds the function `id` in the ECAM at `ecam`, negotiates what of `wanted` it has, and sets
 * num_queues queues up. Prints why it cannot, and returns false. */
bool virtio_start(struct virtio *v, uint32_t ecam, uint32_t id, uint64_t wanted,
		  unsigned num_queues);

/* The chain that begins at descriptor `head` into the available ring; queue_kick() shows it. */
void queue_add(struct queue *q, uint16_t head);

/* Publishes what was added, and tells the device if it wants to be told. */
void queue_kick(struct queue *q);

/* Takes the next answer, if there is one. */
bool queue_take(struct queue *q, struct used_elem *ret);

#endif
