/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: sectors in, sectors out. Knows iovecs and offsets, nothing of virtio.
 *
 * A struct block is an open image, shared by all its queues. A struct block_queue is one thread's
 * way to it: requests are submitted and completed on that thread's loop. Formats and engines are
 * behind struct block_ops (raw over io_uring, raw over a synchronous fall-back).
 */
#ifndef STORAGE_BLOCK_H
#define STORAGE_BLOCK_H

#include "base/err.h"

#include <sys/uio.h>

struct loop;
struct block;
struct block_queue;

struct block_params {
	const char *path;
	bool readonly;
	bool direct;	  /* O_DIRECT; what is not aligned for it goes through the page cache */
	bool sparse;	  /* discard and write-zeroes may punch holes; else blocks are allocated */
	bool no_io_uring; /* use the synchronous engine */
	bool lock_whole;  /* OFD lock over everything rather than the image's bytes */
	bool untyped;	  /* the client named no format: refuse what looks like another than raw */
};

struct block_info {
	uint64_t size_bytes;
	uint32_t logical_block_size; /* 512 or what O_DIRECT needs */
	uint32_t physical_block_size;
	bool readonly;
	bool can_discard;
	bool can_write_zeroes;
};

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/* One request; embedded by the submitter, who keeps it and the iovecs until done(). */
struct block_request {
	enum block_op op;
	uint64_t offset;   /* bytes */
	uint64_t len;	   /* bytes; = the iovecs' total for reads and writes */
	struct iovec *iov; /* may be changed by the engine while in flight */
	unsigned iovcnt;
	bool unmap; /* write-zeroes may deallocate */
	/* result: 0 or negative errno. Queue's thread; never from inside block_submit(), perhaps
	 * from inside block_kick(). What it submits needs no kick. */
	void (*done)(struct block_request *req, int result);
	/* the engine's */
	struct block_queue *queue;
	struct block_request *next;
	uint64_t progress; /* bytes done; iov and iovcnt describe the rest */
	unsigned retries;  /* since there was progress */
	bool buffered;	   /* not aligned for O_DIRECT */
	bool zero_fill;	   /* write-zeroes that is being written out */
	int result;
};

/*
 * Opens the image and takes an OFD lock on it (write lock unless readonly): -EAGAIN when somebody
 * else holds it, this process included. Worker thread. Returns 0; -EINVAL for what is empty, no
 * file or block device, or (untyped) of another format; or what the system said.
 */
int block_open(const struct block_params *params, struct block **ret_block, struct err *err);
void block_close(struct block *block); /* all queues are closed; NULL is fine */
const struct block_info *block_info(const struct block *block);

/* Reads the size again (after a resize from outside). Returns 0 or negative errno, the size being
 * as before then. */
int block_refresh(struct block *block, struct err *err);

/* A way in that is made for `depth` requests in flight (more have to wait). Its functions, this one
 * too, are for the loop's thread alone. Returns 0 or negative errno. */
int block_queue_new(struct block *block, struct loop *loop, unsigned depth,
		    struct block_queue **ret_queue, struct err *err);
void block_queue_free(
	struct block_queue *queue); /* nothing in flight; on the loop's thread or after its end */

/* Hands in a request whose range the caller has checked against block_info(), and which has at most
 * IOV_MAX iovecs; block_kick() sends what was submitted since. Loop's thread. */
void block_submit(struct block_queue *queue, struct block_request *req);
void block_kick(struct block_queue *queue);

/* From now on fn(arg) is called behind the last done() of those that come at a time. It may submit
 * and kick, but not free the queue. */
void block_queue_on_batch(struct block_queue *queue, void (*fn)(void *arg), void *arg);

/* Requests in flight. */
unsigned block_in_flight(const struct block_queue *queue);

/* "io_uring" or "sync", for logs and tests. */
const char *block_queue_engine(const struct block_queue *queue);

#endif
