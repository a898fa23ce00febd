/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues (virtio 1.2, section 2.7): the only code that reads or writes rings.
 *
 * Theory of operation
 *
 * The driver owns the descriptor table and the available ring, we own the used ring; all three lie
 * in guest memory and may change under our hands. Each descriptor is copied once, checked, and only
 * the copy is used: it must lie in RAM of one region, chains end after at most queue-size
 * descriptors, readable ones come before writable ones, indirect tables are not nested and at most
 * VIRTQUEUE_MAX_INDIRECT long, the byte total fits 32 bits. A head that is in flight already, an
 * available index that runs ahead by more than the queue size, or any of the above marks the queue
 * broken: nothing more is taken from it and the device asks for a reset.
 *
 * A queue belongs to one thread at a time: the transport's while it is configured, its device's I/O
 * thread from start to stop. Notification suppression uses event_idx when negotiated (2.7.10), the
 * flags otherwise.
 */
#ifndef VMM_VIRTIO_VIRTQUEUE_H
#define VMM_VIRTIO_VIRTQUEUE_H

#include "base/cursor.h"
#include "base/err.h"
#include "vmm/memory/guest_memory.h"

#include <sys/uio.h>

#define VIRTQUEUE_MAX_SIZE     32768
#define VIRTQUEUE_MAX_INDIRECT 1024 /* descriptors that one chain may have in all */

/* What the driver programs; the transport's copy. */
struct virtqueue_config {
	uint16_t max_size; /* device's offer, constant */
	uint16_t size;	   /* driver's choice: power of two <= max_size */
	bool enabled;
	gpa_t desc;
	gpa_t avail;
	gpa_t used;
};

struct virtqueue {
	struct guest_memory *memory;
	struct virtqueue_config config; /* frozen copy from start on */
	/* host addresses of the rings, checked for their whole length at start */
	void *desc;
	void *avail;
	void *used;
	bool event_idx;
	bool indirect;
	bool broken;		 /* nonsense was met; no pops until virtqueue_reset() */
	uint16_t next_avail;	 /* free running */
	uint16_t next_used;	 /* free running */
	uint16_t signalled_used; /* next_used at the last notification (event_idx) */
	bool signalled_valid;
	uint64_t *in_flight; /* one bit a head */
	unsigned num_in_flight;
};

/* A chain that was taken. The iovecs point into guest memory: copy headers out once before
 * believing them. */
struct virtqueue_chain {
	uint16_t head;
	unsigned num_out; /* iov[0..num_out): the driver's data for us */
	unsigned num_in;  /* iov[num_out..num_out+num_in): where we write */
	uint32_t out_bytes;
	uint32_t in_bytes;
	struct iovec *iov; /* caller's array, max_iov long */
	unsigned max_iov;
};

/*
 * Checks sizes, alignment (16/2/4) and that the rings lie in RAM, and takes the queue into use from
 * its saved indices (0 after reset). `features`: negotiated. Returns 0, -EINVAL, -EFAULT, -ENOMEM.
 */
int virtqueue_start(struct virtqueue *vq, struct guest_memory *memory,
		    const struct virtqueue_config *config, uint64_t features, struct err *err);

/* Gives the rings back; indices stay for a later start. Nothing may be in flight. */
void virtqueue_stop(struct virtqueue *vq);

/* Forgets indices and the broken mark; frees what start allocated. */
void virtqueue_reset(struct virtqueue *vq);

/*
 * Takes the next chain. Returns 1 with *chain filled, 0 when there is none, -EIO when the queue is
 * (now) broken, -E2BIG when the chain is well formed but has more descriptors than max_iov (it is
 * then in flight like any other: answer it or treat it as broken).
 */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *chain);

/* Puts the chain just popped back, as if it had not been taken (only the last one popped, nothing
 * pushed for it). */
void virtqueue_unpop(struct virtqueue *vq, const struct virtqueue_chain *chain);

/*
 * Answers a chain: `written` bytes were written from the start of its writable part (marks them in
 * the dirty log through chain->iov). Visible to the driver after virtqueue_flush().
 */
void virtqueue_push(struct virtqueue *vq, const struct virtqueue_chain *chain, uint32_t written);

/* As push for a chain whose iovecs are not kept; nothing is marked dirty. */
void virtqueue_push_head(struct virtqueue *vq, uint16_t head, uint32_t written);

/* Publishes the pushed answers; returns whether the driver wants an interrupt for them. */
bool virtqueue_flush(struct virtqueue *vq);

/* Asks the driver not to / to notify us. The latter returns true when chains came in meanwhile:
 * then process again. */
void virtqueue_disable_kicks(struct virtqueue *vq);
bool virtqueue_enable_kicks(struct virtqueue *vq);

/* Whether a chain waits. */
bool virtqueue_has_work(const struct virtqueue *vq);

/* The device met nonsense in a chain's bytes and will not go on: no pops until virtqueue_reset().
 */
void virtqueue_set_broken(struct virtqueue *vq);

/* Helpers on chains: copy up to len bytes from the readable part at offset / to the writable part
 * at offset. Return bytes copied. */
size_t virtqueue_chain_read(const struct virtqueue_chain *chain, size_t offset, void *dst,
			    size_t len);
size_t virtqueue_chain_write(const struct virtqueue_chain *chain, size_t offset, const void *src,
			     size_t len);

/* Indices; the configuration is the transport's. Not while in use with chains in flight (-EBUSY),
 * unless the queue is broken: those are lost with it. */
int virtqueue_save(const struct virtqueue *vq, struct buf *out);
int virtqueue_load(struct virtqueue *vq, struct cursor *in, struct err *err);

#endif
