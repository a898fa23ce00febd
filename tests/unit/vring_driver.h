/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of one split virtqueue (virtio 1.2, section 2.7), working on real guest memory:
 * for tests of devices. It checks nothing, so it can be as wrong as a test wants. */
#ifndef TESTS_UNIT_VRING_DRIVER_H
#define TESTS_UNIT_VRING_DRIVER_H

#include "vmm/virtio/virtqueue.h"

struct vring_driver {
	struct guest_memory *memory;
	struct virtqueue_config config; /* where the rings are: what a transport is told */
	uint16_t avail_idx;		/* free running */
	uint16_t used_seen;		/* free running */
	uint16_t next_desc;		/* vring_add() takes descriptors in turn */
};

struct vring_buffer {
	uint64_t addr;
	uint32_t len;
	bool write; /* the device writes it */
};

/* Lays zeroed rings at `base` (page aligned). Returns the first address behind them, page aligned.
 */
uint64_t vring_driver_init(struct vring_driver *d, struct guest_memory *memory, uint64_t base,
			   uint16_t size);

/* Forgets everything, as a driver does that resets its device: zeroes the rings. */
void vring_driver_reset(struct vring_driver *d);

/* One descriptor of the table; `table` 0: the queue's own. flags: VRING_DESC_F_*. */
void vring_set_desc(struct vring_driver *d, uint64_t table, unsigned index, uint64_t addr,
		    uint32_t len, uint16_t flags, uint16_t next);

/* Puts head into the available ring and moves the index. */
void vring_offer(struct vring_driver *d, uint16_t head);
void vring_set_avail_idx(struct vring_driver *d, uint16_t idx);
void vring_set_avail_flags(struct vring_driver *d, uint16_t flags);
void vring_set_used_event(struct vring_driver *d, uint16_t event);

/* Builds a chain from n buffers and offers it. Returns its head. */
uint16_t vring_add(struct vring_driver *d, const struct vring_buffer *buffers, unsigned n);
/* The same through an indirect table at `table`. */
uint16_t vring_add_indirect(struct vring_driver *d, uint64_t table,
			    const struct vring_buffer *buffers, unsigned n);

/* The device's answers. vring_get_used() returns false when there is no new one. */
bool vring_get_used(struct vring_driver *d, uint32_t *ret_id, uint32_t *ret_len);
uint16_t vring_used_idx(const struct vring_driver *d);
uint16_t vring_used_flags(const struct vring_driver *d);
uint16_t vring_kick_event(const struct vring_driver *d);

#endif
