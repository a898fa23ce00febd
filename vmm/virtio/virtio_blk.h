/* SPDX-License-Identifier: Apache-2.0 */
/* The block device (virtio 1.2, section 5.2) in front of a storage/block.h image. */
#ifndef VMM_VIRTIO_VIRTIO_BLK_H
#define VMM_VIRTIO_VIRTIO_BLK_H

#include "vmm/virtio/virtio.h"

struct block;

/* Host CPUs of a queue's thread. */
struct virtio_blk_affinity {
	const unsigned *cpus;
	size_t num_cpus; /* 0: any */
};

struct virtio_blk_params {
	const char *id;
	struct block *image; /* borrowed; outlives the device */
	unsigned num_queues; /* 1..VIRTIO_MAX_QUEUES */
	uint16_t queue_size; /* power of two > 2 */
	const char *
		serial; /* what GET_ID answers; NULL: derived from the id. At most 20 bytes count */
	const struct virtio_blk_affinity
		*affinity; /* num_queues entries, or NULL; borrowed during the call */
};

/* Worker thread. Returns 0 or negative errno; the caller owns *ret_vdev as a device. */
int virtio_blk_new(const struct device_host *host, const struct virtio_blk_params *params,
		   struct virtio_device **ret_vdev, struct err *err);

#endif
