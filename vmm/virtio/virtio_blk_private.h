/* SPDX-License-Identifier: Apache-2.0 */
/* Between virtio_blk.c (threads and queues), virtio_blk_request.c (what a chain asks for) and
 * virtio_blk_config.c (features, configuration space, state). */
#ifndef VMM_VIRTIO_VIRTIO_BLK_PRIVATE_H
#define VMM_VIRTIO_VIRTIO_BLK_PRIVATE_H

#include "storage/block.h"
#include "vmm/virtio/iothread.h"
#include "vmm/virtio/virtio_blk.h"
#include "vmm/virtio/virtio_blk_counters.h"

#include <linux/virtio_blk.h>

#define SECTOR_SHIFT 9
#define MAX_DISCARD  (1u << 22) /* sectors */
#define MAX_ZEROES   (1u << 17) /* sectors; written out where the file system cannot, so bounded */
#define MAX_IOV	     (256 + 2)	/* data descriptors, header and status */
#define ID_BYTES     VIRTIO_BLK_ID_BYTES

/* What the driver has set with CONFIG_WCE. Written under the device's lock, read by the queues. */
enum cache_mode { CACHE_DEFAULT, CACHE_WRITE_THROUGH, CACHE_WRITE_BACK };
struct virtio_blk_cache {
	uint8_t mode;
};

struct blk_queue;

struct blk_request {
	struct block_request io; /* first */
	struct blk_queue *queue;
	struct list node; /* in the queue's spares while idle */
	struct virtqueue_chain chain;
	struct iovec iov[MAX_IOV];  /* the chain's */
	struct iovec data[MAX_IOV]; /* the engine's */
	uint8_t *status;	    /* last writable byte of the chain */
	enum block_op op;	    /* what the driver asked for */
	bool flush_after;	    /* a write through: its flush is still to come */
	bool filled;		    /* success writes every byte before the status */
	uint64_t start_ns;
};

struct blk_queue {
	struct virtio_blk *blk;
	unsigned index;
	struct iothread io;
	struct virtio_blk_affinity affinity; /* owned copy */
	struct loop_task start_task;
	struct loop_task stop_task;
	struct quiesce *at_rest; /* released once stopped */
	/* The thread's, from start_task to rest. */
	struct loop_fd *kick;
	struct block_queue *image;
	struct list spares; /* struct blk_request */
	uint64_t batch_ns;  /* when the completions at hand were seen; 0 between batches */
	uint64_t slept_ns;  /* end of the last turn */
	int short_sleeps;   /* in a row that polling would have saved, see POLL_AFTER */
	bool stopping;
	bool starved; /* out of memory for a request; the next completion tries again */
};

struct virtio_blk {
	struct virtio_device vdev; /* first */
	struct block *image;
	struct block_info info;
	struct virtio_blk_config config; /* constant */
	struct virtio_blk_cache cache;
	char serial[ID_BYTES];
	unsigned seg_max;
	unsigned num_queues;
	struct blk_queue *queues;
	struct virtio_blk_counters counters;
};

static inline struct virtio_blk *virtio_blk_from(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_blk, vdev);
}

static inline struct virtqueue *virtio_blk_vq(struct blk_queue *q)
{
	return &q->blk->vdev.queues[q->index];
}

/*
 * Turns the chain of `req`, which has a header and a status byte, into a request for the image.
 * Returns -1 to hand it in, or the status to answer at once. Queue's thread.
 */
int virtio_blk_prepare(struct blk_request *req);

/* The byte for the status: the last one of the writable part. NULL when the chain has none, or no
 * whole header, and so cannot be answered. */
uint8_t *virtio_blk_status_byte(const struct virtqueue_chain *chain);

/* Fills the configuration space from the image's properties. */
void virtio_blk_config_init(struct virtio_blk *blk);

/* Whether writes are answered only once they are on the disk (5.2.5.2). Any thread, from
 * FEATURES_OK on. */
bool virtio_blk_writes_through(const struct virtio_blk *blk);

/* Members of struct virtio_ops. */
uint64_t virtio_blk_features(struct virtio_device *vdev);
void virtio_blk_config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len);
void virtio_blk_config_write(struct virtio_device *vdev, uint32_t offset, const void *data,
			     unsigned len);
void virtio_blk_reset(struct virtio_device *vdev);
int virtio_blk_save(struct virtio_device *vdev, struct buf *out);
int virtio_blk_load(struct virtio_device *vdev, struct cursor *in, struct err *err);

#endif
