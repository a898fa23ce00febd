/* SPDX-License-Identifier: Apache-2.0 */
/* A started virtqueue in a memory of its own, with the driver's side of it. */
#ifndef TESTS_UNIT_VIRTQUEUE_FIXTURE_H
#define TESTS_UNIT_VIRTQUEUE_FIXTURE_H

#include "tests/unit/vring_driver.h"

#include <linux/virtio_ring.h>

#define NEXT	 VRING_DESC_F_NEXT
#define WRITE	 VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define EVENT_IDX    (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT_OK  (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define ALL_FEATURES (EVENT_IDX | INDIRECT_OK)

#define MEMORY_BYTES (8 * MIB)
#define RINGS	     0x1000
#define TABLE	     0x40000
#define DATA	     0x100000
#define SIZE	     8
#define MAX_IOV	     1024

struct vq_fixture {
	struct guest_memory *memory;
	struct vring_driver driver;
	struct virtqueue vq;
	struct virtqueue_chain chain;
	struct iovec iov[MAX_IOV];
};

struct vq_fixture *vq_fixture_new(uint16_t size, uint64_t features);
void vq_fixture_free(struct vq_fixture *f);

/* virtqueue_pop() into f->chain. */
int vq_pop(struct vq_fixture *f);

/* Where the guest's address is mapped. */
void *vq_host(struct vq_fixture *f, uint64_t addr);

/* Offers one buffer of 16 bytes for the device to write. */
uint16_t vq_add_one(struct vq_fixture *f);

#endif
