/* SPDX-License-Identifier: Apache-2.0 */
/* What the engines share: short transfers, ways round what the file system cannot do. */
#include "storage/block_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#define ZERO_CHUNK  (64 * KIB)
#define MAX_RETRIES 1000

static const uint8_t zeroes[ZERO_CHUNK] __attribute__((aligned(4096)));

int block_fallocate_mode(const struct block *block, const struct block_request *req)
{
	bool punch = req->op == BLOCK_DISCARD || (req->unmap && block->sparse);

	return FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

const void *block_zero_chunk(const struct block_request *req, size_t *ret_len)
{
	*ret_len = MIN(req->len - req->progress, (uint64_t)ZERO_CHUNK);
	return zeroes;
}

bool block_step_buffered(const struct block *block, const struct block_request *req)
{
	return req->buffered || (req->zero_fill && block->buffered_fd >= 0);
}

/* Drops the first n bytes of the request's iovecs. */
static void advance(struct block_request *req, size_t n)
{
	while (n && n >= req->iov->iov_len) {
		n -= req->iov->iov_len;
		req->iov++;
		req->iovcnt--;
	}
	if (n) {
		req->iov->iov_base = (uint8_t *)req->iov->iov_base + n;
		req->iov->iov_len -= n;
	}
}

static bool finish(struct block_request *req, int result)
{
	req->result = result;
	return true;
}

/* What the file system has no call for, or not for this range. */
static bool unsupported(ssize_t answer)
{
	return answer == -EOPNOTSUPP || answer == -ENOSYS || answer == -ENODEV || answer == -EINVAL;
}

/* Whether a step that failed can be made in another way, or again. */
static bool try_otherwise(struct block_request *req, ssize_t answer)
{
	if (answer == -EINTR || answer == -EAGAIN)
		return ++req->retries <= MAX_RETRIES;
	if (req->op == BLOCK_WRITE_ZEROES && !req->zero_fill && unsupported(answer)) {
		req->zero_fill = true;
		return true;
	}
	/* Its alignment was fine for O_DIRECT as far as we know; so is the rest of a transfer that
	 * ended at an odd byte. */
	if (answer == -EINVAL && !req->buffered && req->queue->block->buffered_fd >= 0 &&
	    (req->op == BLOCK_READ || req->op == BLOCK_WRITE)) {
		req->buffered = true;
		return true;
	}
	return false;
}

bool block_step_done(struct block_request *req, ssize_t answer)
{
	bool transfers = req->op == BLOCK_READ || req->op == BLOCK_WRITE || req->zero_fill;

	if (answer < 0 && try_otherwise(req, answer))
		return false;
	/* A discard is a hint: where it cannot be followed nothing is lost. */
	if (req->op == BLOCK_DISCARD && unsupported(answer))
		return finish(req, 0);
	if (answer < 0)
		return finish(req, (int)answer);
	if (!transfers)
		return finish(req, 0);
	/* The range was within the image: an end of file here means that it shrank under us. */
	if (answer == 0 && req->progress < req->len)
		return finish(req, -EIO);
	req->retries = 0;
	req->progress += (uint64_t)answer;
	if (req->progress >= req->len)
		return finish(req, 0);
	if (!req->zero_fill)
		advance(req, (size_t)answer);
	return false;
}
