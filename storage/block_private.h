/* SPDX-License-Identifier: Apache-2.0 */
/* Between block.c (images), block_io.c (what engines share) and the engines. */
#ifndef STORAGE_BLOCK_PRIVATE_H
#define STORAGE_BLOCK_PRIVATE_H

#include "storage/block.h"

#include <sys/types.h>

struct block {
	int fd;		 /* the image, O_DIRECT if so asked; holds the lock */
	int buffered_fd; /* the same without O_DIRECT; -1 when fd is not direct */
	bool is_device;
	bool sparse;
	bool no_io_uring;
	uint32_t direct_align; /* bytes that offset, length and addresses must be multiples of; 1 =
				  any */
	struct block_info info;
	char *path;
};

/* How requests reach the kernel. */
struct block_engine {
	const char *name;
	void (*fini)(struct block_queue *queue);
	void (*submit)(struct block_queue *queue, struct block_request *req);
	void (*kick)(struct block_queue *queue);
};

/* Embedded first in each engine's queue. */
struct block_queue {
	const struct block_engine *engine;
	struct block *block;
	struct loop *loop;
	unsigned depth;
	unsigned in_flight;
	void (*batch_done)(void *arg); /* NULL: nobody asks */
	void *batch_arg;
};

/* A request is through: tells its owner. */
static inline void block_complete(struct block_request *req)
{
	req->queue->in_flight--;
	req->done(req, req->result);
}

/* Those that were to be finished now are. */
static inline void block_batch_done(struct block_queue *queue)
{
	if (queue->batch_done)
		queue->batch_done(queue->batch_arg);
}

int block_queue_new_uring(struct block *block, struct loop *loop, unsigned depth,
			  struct block_queue **ret_queue);
int block_queue_new_sync(struct block *block, struct loop *loop, unsigned depth,
			 struct block_queue **ret_queue);

/* fallocate(2) mode of a discard or write-zeroes. */
int block_fallocate_mode(const struct block *block, const struct block_request *req);

/*
 * The kernel's answer to a step of the request (bytes, 0, or negative errno) is in. Returns whether
 * the request is done, with req->result; otherwise what is left (iov, iovcnt, offset + progress) is
 * to be handed in again.
 */
bool block_step_done(struct block_request *req, ssize_t answer);

/* What the next step of a zero fill writes: *ret_len bytes. */
const void *block_zero_chunk(const struct block_request *req, size_t *ret_len);

/* The descriptor a step goes to: the direct one, or the one through the page cache. */
bool block_step_buffered(const struct block *block, const struct block_request *req);

#endif
