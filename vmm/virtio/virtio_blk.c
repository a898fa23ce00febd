/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Each queue has a thread and, while started, its own way into the image. A kick makes the thread
 * take chains, turn each into a block request and hand them in together; completions answer them in
 * whatever order they come, and the driver is told once for all that come at a time. A driver that
 * is as fast as the image finds the thread at work and need not kick again: it looks for more
 * before it goes back to wait. A request keeps two sets of iovecs: the chain's, which stay as they
 * are until it is answered, and the data's, which the image's engine eats up.
 *
 * Going to sleep and being woken costs the thread more than a read from the page cache, and the
 * guest an exit. So where kicks keep coming within POLL_NS of the thread's going to sleep, it looks
 * for the next request that long before it does, as long as nothing is in flight; where that was in
 * vain, because the guest has other things to do or needs this very CPU, it is left for a while.
 *
 * Where the driver has not negotiated a volatile write cache, or has switched it off (CONFIG_WCE),
 * a write is answered only after a flush behind it.
 *
 * Stopping takes no more chains and is over when the last request in flight is answered. Everything
 * but construction, start and stop runs on the queue's thread.
 */
#include "vmm/virtio/virtio_blk_private.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

#define POLL_NS	       32000
#define POLL_AFTER     4       /* short sleeps in a row */
#define POLL_NOT_AFTER 32      /* short sleeps after one look in vain */
#define TURN_NS	       1000000 /* the loop's other events wait no longer than this */
#define SPINS	       16      /* between looks at the clock */

/* --- answers ------------------------------------------------------------------------------- */

/* Answers the chain and keeps the request for the next one. The length counts from the start of
 * the writable part (2.7.8.2), so it covers the status at its end only where there is no gap; what
 * a request that failed has written is marked dirty all the same. */
static void answer(struct blk_request *req, uint8_t status)
{
	struct blk_queue *q = req->queue;
	struct virtqueue *vq = virtio_blk_vq(q);
	const struct virtqueue_chain *chain = &req->chain;
	bool no_gap = chain->in_bytes == 1 || (status == VIRTIO_BLK_S_OK && req->filled);

	/* The driver may look at it before we say that it is there. */
	__atomic_store_n(req->status, status, __ATOMIC_RELAXED);
	for (unsigned i = chain->num_out; i < chain->num_out + chain->num_in; i++)
		guest_memory_written(vq->memory, chain->iov[i].iov_base, chain->iov[i].iov_len);
	virtqueue_push_head(vq, chain->head, no_gap ? chain->in_bytes : 0);
	list_add_tail(&q->spares, &req->node);
}

static void publish(struct blk_queue *q)
{
	if (virtqueue_flush(virtio_blk_vq(q)))
		virtio_notify_queue(&q->blk->vdev, q->index);
}

static void done(struct block_request *io, int result)
{
	struct blk_request *req = container_of(io, struct blk_request, io);
	struct blk_queue *q = req->queue;

	if (result >= 0 && req->flush_after) {
		req->flush_after = false;
		req->io.op = BLOCK_FLUSH;
		block_submit(q->image, &req->io);
		return;
	}
	if (!q->batch_ns)
		q->batch_ns = loop_now_ns();
	if (result < 0)
		log_warn_limited("%s: a request failed: %s", q->blk->vdev.dev.id,
				 strerror(-result));
	else
		virtio_blk_count(&q->blk->counters, req->op, io->len, q->batch_ns - req->start_ns);
	answer(req, result < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

static void batch_done(void *arg)
{
	struct blk_queue *q = arg;

	q->batch_ns = 0;
	publish(q);
	/* Not from here: the image's queue is still in the middle of its completions. */
	if (q->stopping && !block_in_flight(q->image))
		loop_post(q->io.loop, &q->stop_task);
	else if (q->starved)
		eventfd_signal(q->blk->vdev.kick_fds[q->index]);
	q->starved = false;
}

/* --- requests ------------------------------------------------------------------------------ */

static struct blk_request *get_spare(struct blk_queue *q)
{
	struct list *node = list_pop(&q->spares);
	struct blk_request *req =
		node ? container_of(node, struct blk_request, node) : malloc(sizeof(*req));

	if (!req)
		return NULL;
	req->io = (struct block_request){.done = done};
	req->queue = q;
	list_init(&req->node);
	req->flush_after = false;
	req->filled = false;
	req->chain = (struct virtqueue_chain){.iov = req->iov, .max_iov = MAX_IOV};
	return req;
}

static void submit(struct blk_request *req)
{
	req->op = req->io.op;
	block_submit(req->queue->image, &req->io);
}

/* Takes one chain. Returns 1; 0 when there is none; negative errno when no more can be taken. */
static int take_one(struct blk_queue *q, uint64_t start_ns)
{
	struct blk_request *req = get_spare(q);
	int r, status;

	if (!req) {
		q->starved = true;
		return -ENOMEM;
	}
	r = virtqueue_pop(virtio_blk_vq(q), &req->chain);
	if (r == 1) {
		req->status = virtio_blk_status_byte(&req->chain);
		if (!req->status) {
			virtqueue_set_broken(virtio_blk_vq(q));
			r = -EIO;
		}
	}
	if (r == -E2BIG) {
		virtqueue_set_broken(virtio_blk_vq(q));
		r = -EIO;
	}
	if (r <= 0) {
		list_add_tail(&q->spares, &req->node);
		if (r == -EIO)
			virtio_needs_reset(&q->blk->vdev, "malformed block request");
		return r;
	}
	req->start_ns = start_ns;
	status = virtio_blk_prepare(req);
	if (status >= 0)
		answer(req, (uint8_t)status);
	else
		submit(req);
	return 1;
}

/* Takes what there is, hands it in, and answers what is done at once. Counts what it takes, up to
 * the queue's size. Returns as take_one(). */
static int serve_once(struct blk_queue *q, unsigned *taken)
{
	uint64_t now = loop_now_ns();
	int r;

	do
		r = take_one(q, now);
	while (r > 0 && ++*taken < virtio_blk_vq(q)->config.size);
	block_kick(q->image);
	publish(q);
	return r;
}

/* Looks for the next request instead of going to sleep, where that has paid lately. Returns whether
 * there is one. */
static bool poll_for_work(struct blk_queue *q, uint64_t turn_ns)
{
	uint64_t now, until;

	if (q->short_sleeps < POLL_AFTER || block_in_flight(q->image))
		return false;
	now = loop_now_ns();
	until = MIN(now + POLL_NS, turn_ns + TURN_NS);
	for (; now < until; now = loop_now_ns()) {
		for (unsigned i = 0; i < SPINS; i++) {
			if (virtqueue_has_work(virtio_blk_vq(q)))
				return true;
			__builtin_ia32_pause();
		}
	}
	if (until != turn_ns + TURN_NS)
		q->short_sleeps = POLL_AFTER - POLL_NOT_AFTER;
	return false;
}

static void serve(struct blk_queue *q)
{
	struct virtqueue *vq = virtio_blk_vq(q);
	uint64_t turn_ns = loop_now_ns();
	unsigned taken = 0;
	int r;

	if (!q->image || q->stopping)
		return;
	if (turn_ns - q->slept_ns > POLL_NS)
		q->short_sleeps = MIN(q->short_sleeps, 0);
	else if (q->short_sleeps < POLL_AFTER)
		q->short_sleeps++;
	virtqueue_disable_kicks(vq);
	do
		r = serve_once(q, &taken);
	while (r >= 0 && taken < vq->config.size &&
	       (virtqueue_has_work(vq) || poll_for_work(q, turn_ns)));
	/* What is left, or came meanwhile, has its turn after the loop's other events. */
	if (virtqueue_enable_kicks(vq) && r >= 0)
		eventfd_signal(q->blk->vdev.kick_fds[q->index]);
	q->slept_ns = loop_now_ns();
}

static void on_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct blk_queue *q = arg;

	eventfd_drain(q->blk->vdev.kick_fds[q->index]);
	serve(q);
}

/* --- start and stop ------------------------------------------------------------------------ */

/* One request is there from the start: whoever finds no memory for another has its completion to
 * wait for. */
static int add_spare(struct blk_queue *q)
{
	struct blk_request *req = malloc(sizeof(*req));

	if (!req)
		return -ENOMEM;
	list_add_tail(&q->spares, &req->node);
	return 0;
}

static int set_up(struct blk_queue *q)
{
	struct virtio_device *vdev = &q->blk->vdev;
	int r = add_spare(q);

	if (r >= 0)
		r = block_queue_new(q->blk->image, q->io.loop, virtio_blk_vq(q)->config.size,
				    &q->image, NULL);
	if (r >= 0)
		block_queue_on_batch(q->image, batch_done, q);
	if (r >= 0)
		r = loop_fd_new(q->io.loop, vdev->kick_fds[q->index], LOOP_READ, on_kick, q,
				&q->kick);
	return r;
}

static void start_on_thread(struct loop_task *task)
{
	struct blk_queue *q = task->arg;

	q->stopping = q->starved = false;
	if (!virtio_blk_vq(q)->config.enabled)
		return;
	if (set_up(q) < 0)
		virtio_needs_reset(&q->blk->vdev, "cannot reach its image or watch its queue");
	else
		serve(q);
}

/* Nothing is in flight any more. */
static void rest(struct blk_queue *q)
{
	struct list *node;

	block_queue_free(TAKE(q->image));
	while ((node = list_pop(&q->spares)))
		free(container_of(node, struct blk_request, node));
	quiesce_release(TAKE(q->at_rest));
}

static void rest_on_thread(struct loop_task *task)
{
	struct blk_queue *q = task->arg;

	q->stopping = true;
	loop_fd_free(TAKE(q->kick));
	if (!q->image || !block_in_flight(q->image))
		rest(q);
}

static void start(struct virtio_device *vdev)
{
	struct virtio_blk *blk = virtio_blk_from(vdev);

	for (unsigned i = 0; i < blk->num_queues; i++)
		loop_post(blk->queues[i].io.loop, &blk->queues[i].start_task);
}

static void stop(struct virtio_device *vdev, struct quiesce *quiesce)
{
	struct virtio_blk *blk = virtio_blk_from(vdev);

	for (unsigned i = 0; i < blk->num_queues; i++) {
		quiesce_hold(quiesce);
		blk->queues[i].at_rest = quiesce;
		loop_post(blk->queues[i].io.loop, &blk->queues[i].stop_task);
	}
}

/* --- what the driver sees ------------------------------------------------------------------ */

static const struct virtio_ops virtio_ops = {
	.device_id = VIRTIO_ID_BLOCK,
	.features = virtio_blk_features,
	.config_read = virtio_blk_config_read,
	.config_write = virtio_blk_config_write,
	.start = start,
	.stop = stop,
	.reset = virtio_blk_reset,
	.save = virtio_blk_save,
	.load = virtio_blk_load,
};

/* --- the device ---------------------------------------------------------------------------- */

static int realize(struct device *dev, struct err *err)
{
	struct virtio_blk *blk = container_of(dev, struct virtio_blk, vdev.dev);
	char name[IOTHREAD_NAME_MAX];

	for (unsigned i = 0; i < blk->num_queues; i++) {
		struct blk_queue *q = &blk->queues[i];
		int r;

		iothread_queue_name(dev->id, "disk", "q", i, name);
		r = iothread_start(&q->io, name, THREAD_DISK, q->affinity.cpus,
				   q->affinity.num_cpus);
		if (r < 0)
			return err_set_errno(err, r, "%s: cannot start its thread", dev->id);
	}
	return 0;
}

static void unrealize(struct device *dev)
{
	struct virtio_blk *blk = container_of(dev, struct virtio_blk, vdev.dev);

	for (unsigned i = 0; i < blk->num_queues; i++)
		iothread_stop(&blk->queues[i].io);
}

static void free_device(struct device *dev)
{
	struct virtio_blk *blk = container_of(dev, struct virtio_blk, vdev.dev);

	for (unsigned i = 0; i < blk->num_queues; i++)
		free((void *)(uintptr_t)blk->queues[i].affinity.cpus);
	free(blk->queues);
	virtio_device_fini(&blk->vdev);
	free(blk);
}

static struct json *counters(struct device *dev)
{
	return virtio_blk_counters_json(&container_of(dev, struct virtio_blk, vdev.dev)->counters);
}

static const struct device_ops device_ops = {
	.kind = "virtio-blk",
	.realize = realize,
	.unrealize = unrealize,
	.reset = virtio_device_reset,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.save = virtio_device_save,
	.load = virtio_device_load,
	.free = free_device,
	.counters = counters,
};

static int init_queues(struct virtio_blk *blk, const struct virtio_blk_params *params)
{
	blk->queues = calloc(params->num_queues, sizeof(*blk->queues));
	if (!blk->queues)
		return -ENOMEM;
	blk->num_queues = params->num_queues;
	for (unsigned i = 0; i < blk->num_queues; i++) {
		struct blk_queue *q = &blk->queues[i];
		size_t n = params->affinity ? params->affinity[i].num_cpus : 0;

		q->blk = blk;
		q->index = i;
		list_init(&q->spares);
		q->start_task = (struct loop_task){.fn = start_on_thread, .arg = q};
		q->stop_task = (struct loop_task){.fn = rest_on_thread, .arg = q};
		if (n) {
			unsigned *cpus = calloc(n, sizeof(*cpus));

			if (!cpus)
				return -ENOMEM;
			memcpy(cpus, params->affinity[i].cpus, n * sizeof(*cpus));
			q->affinity = (struct virtio_blk_affinity){.cpus = cpus, .num_cpus = n};
		}
	}
	return 0;
}

int virtio_blk_new(const struct device_host *host, const struct virtio_blk_params *params,
		   struct virtio_device **ret_vdev, struct err *err)
{
	const char *serial = params->serial ? params->serial : params->id;
	struct virtio_blk *blk;
	int r;

	if (params->queue_size <= 2)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: queue size %u leaves no room for data", params->id,
				    params->queue_size);
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return err_set(err, -ENOMEM, "out of memory");
	blk->image = params->image;
	blk->info = *block_info(params->image);
	blk->seg_max = MIN(params->queue_size - 2u, MAX_IOV - 2u);
	/* Padded, not terminated (5.2.6.3). */
	memcpy(blk->serial, serial, MIN(strlen(serial), sizeof(blk->serial)));
	virtio_blk_counters_init(&blk->counters);
	r = init_queues(blk, params);
	if (r >= 0) {
		virtio_blk_config_init(blk);
		r = virtio_device_init(&blk->vdev, &device_ops, &virtio_ops, host, params->id,
				       params->num_queues, params->queue_size, err);
	} else {
		err_set(err, r, "out of memory");
	}
	if (r < 0) {
		free_device(&blk->vdev.dev);
		return r;
	}
	*ret_vdev = &blk->vdev;
	return 0;
}
