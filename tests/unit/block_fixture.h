/* SPDX-License-Identifier: Apache-2.0 */
/* Images for tests: real files beside the test's binary, or on tmpfs where a file system with fewer
 * calls is wanted; and requests on them. */
#ifndef TESTS_UNIT_BLOCK_FIXTURE_H
#define TESTS_UNIT_BLOCK_FIXTURE_H

#include "base/loop.h"
#include "storage/block.h"

#include <limits.h>

#define IMAGE_BYTES (4 * MIB)

struct block_fixture {
	char dir[PATH_MAX];
	char path[PATH_MAX + 16];
	struct loop *loop;
	struct block *block;
	struct block_queue *queue;
	unsigned done;
};

struct block_test_op {
	struct block_request req;
	struct block_fixture *f;
	int result;
	unsigned calls;
};

/* cmocka's set-up and tear-down; the state is a struct block_fixture. */
int block_set_up(void **state);
int block_set_up_tmpfs(void **state);
int block_tear_down(void **state);

/* Writes a file whose every byte tells where it is. */
void block_create_image(struct block_fixture *f, uint64_t size);
void block_write_image(struct block_fixture *f, const void *data, size_t len, off_t offset);
void block_read_image(struct block_fixture *f, void *data, size_t len, uint64_t offset);
uint64_t block_allocated_bytes(struct block_fixture *f);
/* Creates the image; whether its file system has O_DIRECT. */
bool block_supports_direct(struct block_fixture *f);

struct block_params block_params_of(struct block_fixture *f);
/* Opens the image as f->block; the messages go to `text`. Returns what block_open() does. */
int block_try_open(struct block_fixture *f, const struct block_params *params, char *text,
		   size_t len);
/* Opens it, and a queue as f->queue. Fails the test if that does not work. */
void block_open_queue(struct block_fixture *f, const struct block_params *params, unsigned depth);
void block_close_image(struct block_fixture *f);

/* Opens with each engine in turn. */
#define block_for_each_engine(f, params)                                                     \
	for (unsigned engine_ = 0; engine_ < 2 && ((params).no_io_uring = engine_ == 1,      \
						  block_create_image(f, IMAGE_BYTES),        \
						  block_open_queue(f, &(params), 16), true); \
	     engine_++, block_close_image(f))

/* Hands in a request whose members but done() are set. block_finish() waits for all. */
void block_offer(struct block_fixture *f, struct block_test_op *op);
void block_finish(struct block_fixture *f);

/* One request from start to end. Return its result. */
int block_run_iov(struct block_fixture *f, enum block_op what, uint64_t offset, struct iovec *iov,
		  unsigned n);
int block_run(struct block_fixture *f, enum block_op what, uint64_t offset, void *buf, size_t len);
int block_run_range(struct block_fixture *f, enum block_op what, uint64_t offset, uint64_t len,
		    bool unmap);

/* `data` is what block_create_image() wrote at `offset`. */
void block_assert_pattern(const uint8_t *data, uint64_t offset, size_t len);
/* The image holds its pattern, but for zeroes in [start, end). */
void block_assert_zeroes(struct block_fixture *f, uint64_t start, uint64_t end);

#endif
