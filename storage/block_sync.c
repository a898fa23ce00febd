/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fall-back where io_uring is refused: requests are made one by one on the loop's own thread,
 * each when its turn comes, from a task of the loop, so that completions never come from inside a
 * submission.
 */
#include "base/loop.h"
#include "storage/block_private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct sync_queue {
	struct block_queue base;
	struct loop_task task;
	struct block_request *first;
	struct block_request **last;
};

static ssize_t step(const struct block *b, struct block_request *req)
{
	int fd = block_step_buffered(b, req) ? b->buffered_fd : b->fd;
	off_t offset = (off_t)(req->offset + req->progress);
	const void *zeroes;
	size_t len;
	ssize_t r;

	if (req->zero_fill) {
		zeroes = block_zero_chunk(req, &len);
		r = pwrite(fd, zeroes, len, offset);
	} else if (req->op == BLOCK_READ) {
		r = preadv(fd, req->iov, (int)req->iovcnt, offset);
	} else if (req->op == BLOCK_WRITE) {
		r = pwritev(fd, req->iov, (int)req->iovcnt, offset);
	} else if (req->op == BLOCK_FLUSH) {
		r = fdatasync(fd);
	} else {
		r = fallocate(fd, block_fallocate_mode(b, req), offset, (off_t)req->len);
	}
	return r < 0 ? -errno : r;
}

static void run(struct loop_task *task)
{
	struct sync_queue *q = task->arg;
	struct block_request *req = q->first;

	q->first = NULL;
	q->last = &q->first;
	while (req) {
		struct block_request *next = req->next;

		while (!block_step_done(req, step(q->base.block, req)))
			;
		block_complete(req);
		req = next;
	}
	block_batch_done(&q->base);
	block_kick(&q->base);
}

static void sync_submit(struct block_queue *queue, struct block_request *req)
{
	struct sync_queue *q = container_of(queue, struct sync_queue, base);

	*q->last = req;
	q->last = &req->next;
}

static void sync_kick(struct block_queue *queue)
{
	struct sync_queue *q = container_of(queue, struct sync_queue, base);

	if (q->first)
		loop_post(queue->loop, &q->task);
}

static void sync_fini(struct block_queue *queue)
{
	struct sync_queue *q = container_of(queue, struct sync_queue, base);

	loop_task_cancel(queue->loop, &q->task);
}

static const struct block_engine sync_engine = {
	.name = "sync",
	.fini = sync_fini,
	.submit = sync_submit,
	.kick = sync_kick,
};

int block_queue_new_sync(struct block *block, struct loop *loop, unsigned depth,
			 struct block_queue **ret_queue)
{
	struct sync_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->base = (struct block_queue){
		.engine = &sync_engine, .block = block, .loop = loop, .depth = depth};
	q->task.fn = run;
	q->task.arg = q;
	q->last = &q->first;
	*ret_queue = &q->base;
	return 0;
}
