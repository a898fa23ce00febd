/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring engine.
 *
 * Theory of operation
 *
 * One ring a queue, used by the loop's thread alone; the loop polls the ring's fd. What is
 * submitted between two kicks is gathered in a list and goes to the kernel in one system call. A
 * seccomp filter cannot see into a ring, so the ring itself is restricted, before it is enabled, to
 * the six operations that images need, on the image's registered descriptors and no others.
 *
 * What the page cache has is done when that call returns, and is answered on the spot, without a
 * turn of the loop. What done() submits meanwhile goes to the kernel behind the batch.
 *
 * The ring is as deep as the caller's bound on requests in flight; who exceeds it has requests wait
 * in the list. When the kernel takes less than it is given, and there is no completion to go on
 * from, a timer tries again.
 *
 * The kernel takes a ring down some time after its fd is closed, and the files registered with it
 * stay open that long: so they are taken out before, lest the image be busy after its close.
 */
#include "base/log.h"
#include "base/loop.h"
#include "base/tsan.h"
#include "storage/block_private.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>

#define RESEND_MS 1

enum { FILE_IMAGE, FILE_BUFFERED };

struct uring_queue {
	struct block_queue base;
	struct io_uring ring;
	struct loop_fd *watch;
	struct loop_timer *resend;   /* the kernel was short of something */
	struct block_request *first; /* submitted, not yet in the ring */
	struct block_request **last;
	bool in_batch; /* completions are being told: a kick has to wait */
};

/* A ring may lie where that of another thread lay before. liburing maps and unmaps by system calls
 * of its own, so the kernel alone knows which was first. */
static char ring_mappings;

static unsigned iov_bytes(const struct iovec *iov)
{
	return (unsigned)MIN(iov->iov_len, (size_t)INT_MAX);
}

static void prepare_sqe(struct uring_queue *q, struct io_uring_sqe *sqe, struct block_request *req)
{
	const struct block *b = q->base.block;
	uint64_t offset = req->offset + req->progress;
	int file = block_step_buffered(b, req) ? FILE_BUFFERED : FILE_IMAGE;
	size_t len;

	if (req->zero_fill) {
		const void *zeroes = block_zero_chunk(req, &len);

		io_uring_prep_write(sqe, file, zeroes, (unsigned)len, offset);
	} else if (req->op == BLOCK_READ && req->iovcnt == 1) {
		/* Spares the kernel a copy of the array. A length above what it takes at a time
		 * makes a short transfer, like any other. */
		io_uring_prep_read(sqe, file, req->iov->iov_base, iov_bytes(req->iov), offset);
	} else if (req->op == BLOCK_WRITE && req->iovcnt == 1) {
		io_uring_prep_write(sqe, file, req->iov->iov_base, iov_bytes(req->iov), offset);
	} else if (req->op == BLOCK_READ) {
		io_uring_prep_readv(sqe, file, req->iov, req->iovcnt, offset);
	} else if (req->op == BLOCK_WRITE) {
		io_uring_prep_writev(sqe, file, req->iov, req->iovcnt, offset);
	} else if (req->op == BLOCK_FLUSH) {
		io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
	} else {
		io_uring_prep_fallocate(sqe, file, block_fallocate_mode(b, req), (off_t)offset,
					(off_t)req->len);
	}
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, req);
}

static void uring_submit(struct block_queue *queue, struct block_request *req)
{
	struct uring_queue *q = container_of(queue, struct uring_queue, base);

	req->next = NULL;
	*q->last = req;
	q->last = &req->next;
}

/* Tells of all that is through. Returns whether there was anything. */
static bool reap(struct uring_queue *q)
{
	struct io_uring_cqe *cqe;
	bool any = false;

	q->in_batch = true;
	while (io_uring_peek_cqe(&q->ring, &cqe) == 0) {
		struct block_request *req = io_uring_cqe_get_data(cqe);
		int answer = cqe->res;

		io_uring_cqe_seen(&q->ring, cqe);
		any = true;
		if (block_step_done(req, answer))
			block_complete(req);
		else
			uring_submit(&q->base, req);
	}
	if (any)
		block_batch_done(&q->base);
	q->in_batch = false;
	return any;
}

/* Puts what waits into the submission queue, as far as there is room. */
static void fill(struct uring_queue *q)
{
	struct io_uring_sqe *sqe;

	while (q->first && (sqe = io_uring_get_sqe(&q->ring))) {
		struct block_request *req = q->first;

		q->first = req->next;
		if (!q->first)
			q->last = &q->first;
		prepare_sqe(q, sqe, req);
	}
}

/* Hands in what waits. */
static void send_all(struct uring_queue *q)
{
	fill(q);
	while (io_uring_sq_ready(&q->ring)) {
		/* The kernel may take fewer than it is given. */
		if (io_uring_submit(&q->ring) <= 0) {
			loop_timer_start(q->resend, RESEND_MS, 0);
			return;
		}
		fill(q);
	}
}

static void uring_kick(struct block_queue *queue)
{
	struct uring_queue *q = container_of(queue, struct uring_queue, base);

	if (q->in_batch || (!q->first && !io_uring_sq_ready(&q->ring)))
		return;
	send_all(q);
	/* Once: what the answers have led to is seen in the loop's next turn. */
	if (reap(q))
		send_all(q);
}

static void ring_ready(struct loop_fd *h, unsigned events, void *arg)
{
	struct uring_queue *q = arg;

	if (reap(q))
		uring_kick(&q->base);
}

static void resend(struct loop_timer *timer, void *arg)
{
	struct uring_queue *q = arg;

	reap(q);
	uring_kick(&q->base);
}

static void uring_fini(struct block_queue *queue)
{
	struct uring_queue *q = container_of(queue, struct uring_queue, base);

	loop_timer_free(q->resend);
	loop_fd_free(q->watch);
	io_uring_unregister_files(&q->ring);
	tsan_release(&ring_mappings);
	io_uring_queue_exit(&q->ring);
}

static const struct block_engine uring_engine = {
	.name = "io_uring",
	.fini = uring_fini,
	.submit = uring_submit,
	.kick = uring_kick,
};

/* What the ring may ever be asked to do. */
static int restrict_ring(struct io_uring *ring)
{
	static const uint8_t ops[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ,
				      IORING_OP_WRITE, IORING_OP_FSYNC,	 IORING_OP_FALLOCATE};
	struct io_uring_restriction rules[ARRAY_SIZE(ops) + 3] = {0};
	unsigned n = 0;

	for (; n < ARRAY_SIZE(ops); n++) {
		rules[n].opcode = IORING_RESTRICTION_SQE_OP;
		rules[n].sqe_op = ops[n];
	}
	rules[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	rules[n++].sqe_flags = IOSQE_FIXED_FILE;
	rules[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	rules[n++].sqe_flags = IOSQE_FIXED_FILE;
	rules[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	rules[n++].register_op = IORING_UNREGISTER_FILES;
	return io_uring_register_restrictions(ring, rules, n);
}

static int prepare_ring(struct uring_queue *q, const struct block *block)
{
	int files[] = {[FILE_IMAGE] = block->fd, [FILE_BUFFERED] = block->buffered_fd};
	int r = io_uring_register_files(&q->ring, files, block->buffered_fd >= 0 ? 2 : 1);

	if (r >= 0)
		r = restrict_ring(&q->ring);
	if (r >= 0)
		r = io_uring_enable_rings(&q->ring);
	if (r >= 0)
		r = loop_timer_new(q->base.loop, resend, q, &q->resend);
	if (r >= 0)
		r = loop_fd_new(q->base.loop, q->ring.ring_fd, LOOP_READ, ring_ready, q, &q->watch);
	return r < 0 ? r : 0;
}

int block_queue_new_uring(struct block *block, struct loop *loop, unsigned depth,
			  struct block_queue **ret_queue)
{
	struct uring_queue *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->base = (struct block_queue){
		.engine = &uring_engine, .block = block, .loop = loop, .depth = depth};
	q->last = &q->first;
	r = io_uring_queue_init(depth, &q->ring, IORING_SETUP_R_DISABLED);
	if (r < 0) {
		free(q);
		return r;
	}
	tsan_acquire(&ring_mappings);
	r = prepare_ring(q, block);
	if (r < 0) {
		uring_fini(&q->base);
		free(q);
		return r;
	}
	*ret_queue = &q->base;
	return 0;
}
