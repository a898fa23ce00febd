/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Each queue has a thread and, while started, its own way into the image. A kick makes the thread
 * take chains, turn each into a block request and hand them in together; completions answer them in
 * whatever order they come. A request keeps two sets of iovecs: the chain's, which stay as they are
 * until it is answered, and the data's, which the image's engine eats up.
 *
 * Where the driver has not negotiated a volatile write cache, or has switched it off (CONFIG_WCE),
 * a write is answered only after a flush behind it.
 *
 * Stopping takes no more chains and is over when the last request in flight is answered. Everything
 * but construction, start and stop runs on the queue's thread.
 */
#include "vmm/virtio/virtio_blk.h"

#include "base/endian.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/state.h"
#include "storage/block.h"
#include "vmm/virtio/iothread.h"
#include "vmm/virtio/virtio_blk_counters.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

#define SECTOR	     512
#define SECTOR_SHIFT 9
#define HEADER_BYTES 16
#define MAX_SEGMENT  (1u << 22) /* sectors that one discard or write-zeroes may cover */
#define MAX_IOV	     (256 + 2)	/* data descriptors, header and status */
#define ID_BYTES     VIRTIO_BLK_ID_BYTES

/* 5.2.6 */
struct request_header {
	le32_t type;
	le32_t reserved;
	le64_t sector;
};
static_assert(sizeof(struct request_header) == HEADER_BYTES, "5.2.6");

/* 5.2.6.1 */
struct range_segment {
	le64_t sector;
	le32_t num_sectors;
	le32_t flags;
};
static_assert(sizeof(struct range_segment) == 16, "5.2.6.1");

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
	bool stopping;
	bool starved; /* out of memory for a request; the next completion tries again */
};

struct virtio_blk {
	struct virtio_device vdev; /* first */
	struct block *image;
	struct block_info info;
	struct virtio_blk_config config;
	char serial[ID_BYTES];
	unsigned seg_max;
	unsigned num_queues;
	struct blk_queue *queues;
	struct virtio_blk_counters counters;
};

static struct virtio_blk *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_blk, vdev);
}

static struct virtqueue *vq_of(struct blk_queue *q)
{
	return &q->blk->vdev.queues[q->index];
}

/* --- answers
 * -------------------------------------------------------------------------------------- */

/* Answers the chain and keeps the request for the next one. The status is the last byte of the
 * writable part, so all of that counts as written. */
static void answer(struct blk_request *req, uint8_t status)
{
	struct blk_queue *q = req->queue;

	*req->status = status;
	virtqueue_push(vq_of(q), &req->chain, req->chain.in_bytes);
	list_add_tail(&q->spares, &req->node);
}

static void publish(struct blk_queue *q)
{
	if (virtqueue_flush(vq_of(q)))
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
		block_kick(q->image);
		return;
	}
	if (result < 0)
		log_warn_limited("%s: a request failed: %s", q->blk->vdev.dev.id,
				 strerror(-result));
	else
		virtio_blk_count(&q->blk->counters, req->op, io->len,
				 loop_now_ns() - req->start_ns);
	answer(req, result < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	publish(q);
	/* Not from here: the image's queue is still in the middle of its completions. */
	if (q->stopping && !block_in_flight(q->image))
		loop_post(q->io.loop, &q->stop_task);
	else if (q->starved)
		eventfd_signal(q->blk->vdev.kick_fds[q->index]);
	q->starved = false;
}

/* --- requests
 * ------------------------------------------------------------------------------------- */

static bool writes_through(const struct virtio_blk *blk)
{
	if (virtio_has_feature(&blk->vdev, VIRTIO_BLK_F_CONFIG_WCE))
		return !blk->config.wce;
	return !virtio_has_feature(&blk->vdev, VIRTIO_BLK_F_FLUSH);
}

/* Copies the iovecs from..to without their first `skip` and last `cut` bytes to the request's data.
 * The caller has checked that there are so many. */
static void take_data(struct blk_request *req, const struct iovec *iov, unsigned n, size_t skip,
		      size_t len)
{
	req->io.iov = req->data;
	req->io.iovcnt = 0;
	for (unsigned i = 0; i < n && len; i++) {
		size_t part;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - skip, len);
		req->data[req->io.iovcnt++] = (struct iovec){
			.iov_base = (uint8_t *)iov[i].iov_base + skip, .iov_len = part};
		skip = 0;
		len -= part;
	}
}

/* Whether [sector, sector + bytes) is on the disk; sets the request's byte range. */
static bool set_range(struct blk_request *req, uint64_t sector, uint64_t bytes)
{
	uint64_t capacity = req->queue->blk->info.size_bytes;

	if (sector > capacity >> SECTOR_SHIFT ||
	    !range_within(sector << SECTOR_SHIFT, bytes, 0, capacity))
		return false;
	req->io.offset = sector << SECTOR_SHIFT;
	req->io.len = bytes;
	return true;
}

static int prepare_read(struct blk_request *req, uint64_t sector)
{
	uint32_t bytes = req->chain.in_bytes - 1;

	if (!bytes || bytes % SECTOR || !set_range(req, sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	take_data(req, req->chain.iov + req->chain.num_out, req->chain.num_in, 0, bytes);
	req->io.op = BLOCK_READ;
	return -1;
}

static int prepare_write(struct blk_request *req, uint64_t sector)
{
	uint32_t bytes = req->chain.out_bytes - HEADER_BYTES;

	if (req->queue->blk->info.readonly || !bytes || bytes % SECTOR ||
	    !set_range(req, sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	take_data(req, req->chain.iov, req->chain.num_out, HEADER_BYTES, bytes);
	req->io.op = BLOCK_WRITE;
	req->flush_after = writes_through(req->queue->blk);
	return -1;
}

static int prepare_range(struct blk_request *req, uint32_t type)
{
	bool discard = type == VIRTIO_BLK_T_DISCARD;
	const struct virtio_blk *blk = req->queue->blk;
	struct range_segment segment;
	uint32_t flags, sectors;

	if (!virtio_has_feature(&blk->vdev,
				discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	/* One segment is what the configuration offers. */
	if (req->chain.out_bytes != HEADER_BYTES + sizeof(segment))
		return VIRTIO_BLK_S_IOERR;
	virtqueue_chain_read(&req->chain, HEADER_BYTES, &segment, sizeof(segment));
	flags = le32_get(segment.flags);
	sectors = le32_get(segment.num_sectors);
	if (flags & ~(discard ? 0u : (unsigned)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		return VIRTIO_BLK_S_UNSUPP;
	if (!sectors || sectors > MAX_SEGMENT ||
	    !set_range(req, le64_get(segment.sector), (uint64_t)sectors << SECTOR_SHIFT))
		return VIRTIO_BLK_S_IOERR;
	req->io.op = discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
	req->io.unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	req->flush_after = !discard && writes_through(blk);
	return -1;
}

static int get_id(struct blk_request *req)
{
	const char *serial = req->queue->blk->serial;
	uint32_t room = req->chain.in_bytes - 1;

	virtqueue_chain_write(&req->chain, 0, serial, MIN(room, (uint32_t)ID_BYTES));
	return VIRTIO_BLK_S_OK;
}

/* Turns the chain into a request for the image. Returns -1 to hand it in, or the status to answer
 * at once. */
static int prepare(struct blk_request *req)
{
	struct request_header header;
	uint32_t type;

	virtqueue_chain_read(&req->chain, 0, &header, sizeof(header));
	type = le32_get(header.type);
	switch (type) {
	case VIRTIO_BLK_T_IN: return prepare_read(req, le64_get(header.sector));
	case VIRTIO_BLK_T_OUT: return prepare_write(req, le64_get(header.sector));
	case VIRTIO_BLK_T_FLUSH: req->io.op = BLOCK_FLUSH; return -1;
	case VIRTIO_BLK_T_GET_ID: return get_id(req);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (req->queue->blk->info.readonly)
			return VIRTIO_BLK_S_IOERR;
		return prepare_range(req, type);
	default: return VIRTIO_BLK_S_UNSUPP;
	}
}

/* The byte for the status; NULL when the chain has none or no whole header, and so cannot be
 * answered. */
static uint8_t *status_byte(const struct virtqueue_chain *chain)
{
	if (chain->out_bytes < HEADER_BYTES || !chain->in_bytes)
		return NULL;
	for (unsigned i = chain->num_out + chain->num_in; i-- > chain->num_out;) {
		if (chain->iov[i].iov_len)
			return (uint8_t *)chain->iov[i].iov_base + chain->iov[i].iov_len - 1;
	}
	return NULL;
}

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
	req->chain = (struct virtqueue_chain){.iov = req->iov, .max_iov = MAX_IOV};
	return req;
}

static void submit(struct blk_request *req)
{
	req->op = req->io.op;
	block_submit(req->queue->image, &req->io);
}

/* Takes one chain. Returns 1; 0 when there is none; negative errno when no more can be taken. */
static int take_one(struct blk_queue *q)
{
	struct blk_request *req = get_spare(q);
	int r, status;

	if (!req) {
		q->starved = true;
		return -ENOMEM;
	}
	r = virtqueue_pop(vq_of(q), &req->chain);
	if (r == 1) {
		req->status = status_byte(&req->chain);
		if (!req->status) {
			virtqueue_set_broken(vq_of(q));
			r = -EIO;
		}
	}
	if (r == -E2BIG) {
		virtqueue_set_broken(vq_of(q));
		r = -EIO;
	}
	if (r <= 0) {
		list_add_tail(&q->spares, &req->node);
		if (r == -EIO)
			virtio_needs_reset(&q->blk->vdev, "malformed block request");
		return r;
	}
	req->start_ns = loop_now_ns();
	status = prepare(req);
	if (status >= 0)
		answer(req, (uint8_t)status);
	else
		submit(req);
	return 1;
}

static void serve(struct blk_queue *q)
{
	struct virtqueue *vq = vq_of(q);
	unsigned taken = 0;
	int r;

	if (!q->image || q->stopping)
		return;
	virtqueue_disable_kicks(vq);
	do
		r = take_one(q);
	while (r > 0 && ++taken < vq->config.size);
	block_kick(q->image);
	publish(q);
	/* What is left, or came meanwhile, has its turn after the loop's other events. */
	if (virtqueue_enable_kicks(vq) && r >= 0)
		eventfd_signal(q->blk->vdev.kick_fds[q->index]);
}

static void on_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct blk_queue *q = arg;

	eventfd_drain(q->blk->vdev.kick_fds[q->index]);
	serve(q);
}

/* --- start and stop
 * ------------------------------------------------------------------------------- */

static void start_on_thread(struct loop_task *task)
{
	struct blk_queue *q = task->arg;
	struct virtio_device *vdev = &q->blk->vdev;
	struct err err = ERR_INIT;

	q->stopping = false;
	if (!vdev->queues[q->index].config.enabled)
		return;
	if (block_queue_new(q->blk->image, q->io.loop, vq_of(q)->config.size, &q->image, &err) <
		    0 ||
	    loop_fd_new(q->io.loop, vdev->kick_fds[q->index], LOOP_READ, on_kick, q, &q->kick) <
		    0) {
		virtio_needs_reset(vdev, "cannot reach its image or watch its queue");
		return;
	}
	serve(q);
}

/* Nothing is in flight any more. */
static void rest(struct blk_queue *q)
{
	struct list *node;

	block_queue_free(TAKE(q->image));
	while ((node = list_pop(&q->spares)))
		free(container_of(node, struct blk_request, node));
	quiesce_release(q->at_rest);
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
	struct virtio_blk *blk = from_vdev(vdev);

	for (unsigned i = 0; i < blk->num_queues; i++)
		loop_post(blk->queues[i].io.loop, &blk->queues[i].start_task);
}

static void stop(struct virtio_device *vdev, struct quiesce *quiesce)
{
	struct virtio_blk *blk = from_vdev(vdev);

	for (unsigned i = 0; i < blk->num_queues; i++) {
		quiesce_hold(quiesce);
		blk->queues[i].at_rest = quiesce;
		loop_post(blk->queues[i].io.loop, &blk->queues[i].stop_task);
	}
}

/* --- what the driver sees
 * ------------------------------------------------------------------------- */

static uint64_t features(struct virtio_device *vdev)
{
	const struct virtio_blk *blk = from_vdev(vdev);
	uint64_t f = 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
		     1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_TOPOLOGY |
		     1ULL << VIRTIO_BLK_F_CONFIG_WCE;

	if (blk->info.readonly)
		f |= 1ULL << VIRTIO_BLK_F_RO;
	if (blk->num_queues > 1)
		f |= 1ULL << VIRTIO_BLK_F_MQ;
	if (blk->info.can_discard)
		f |= 1ULL << VIRTIO_BLK_F_DISCARD;
	if (blk->info.can_write_zeroes)
		f |= 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	return f;
}

static void config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len)
{
	const struct virtio_blk *blk = from_vdev(vdev);

	memset(data, 0, len);
	if (offset < sizeof(blk->config))
		memcpy(data, (const uint8_t *)&blk->config + offset,
		       MIN((size_t)len, sizeof(blk->config) - offset));
}

/* Only the cache mode can be written (5.2.5). */
static void config_write(struct virtio_device *vdev, uint32_t offset, const void *data,
			 unsigned len)
{
	struct virtio_blk *blk = from_vdev(vdev);

	if (offset == offsetof(struct virtio_blk_config, wce) && len == 1 &&
	    virtio_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE))
		__atomic_store_n(&blk->config.wce, *(const uint8_t *)data & 1, __ATOMIC_RELAXED);
}

static void reset(struct virtio_device *vdev)
{
	from_vdev(vdev)->config.wce = 1;
}

static void fill_config(struct virtio_blk *blk)
{
	const struct block_info *info = &blk->info;
	struct virtio_blk_config *c = &blk->config;
	unsigned exp =
		(unsigned)__builtin_ctz(info->physical_block_size / info->logical_block_size);

	c->capacity = htole64(info->size_bytes >> SECTOR_SHIFT);
	c->seg_max = htole32(blk->seg_max);
	c->blk_size = htole32(info->logical_block_size);
	c->physical_block_exp = (uint8_t)exp;
	c->min_io_size = htole16((uint16_t)(1u << exp));
	c->wce = 1;
	c->num_queues = htole16((uint16_t)blk->num_queues);
	c->max_discard_sectors = htole32(MAX_SEGMENT);
	c->max_discard_seg = htole32(1);
	c->discard_sector_alignment = htole32(info->logical_block_size >> SECTOR_SHIFT);
	c->max_write_zeroes_sectors = htole32(MAX_SEGMENT);
	c->max_write_zeroes_seg = htole32(1);
	c->write_zeroes_may_unmap = info->can_discard;
}

static const struct state_field state_fields[] = {
	STATE_FIELD(STATE_U8, struct virtio_blk_config, wce),
};
static const struct state_layout state_layout = {
	.name = "virtio-blk",
	.version = 1,
	.fields = state_fields,
	.num_fields = ARRAY_SIZE(state_fields),
	.struct_size = sizeof(struct virtio_blk_config),
};

static int save(struct virtio_device *vdev, struct buf *out)
{
	return state_save(out, &state_layout, &from_vdev(vdev)->config);
}

static int load(struct virtio_device *vdev, struct cursor *in, struct err *err)
{
	return state_load(in, &state_layout, &from_vdev(vdev)->config, err);
}

static const struct virtio_ops virtio_ops = {
	.device_id = VIRTIO_ID_BLOCK,
	.features = features,
	.config_read = config_read,
	.config_write = config_write,
	.start = start,
	.stop = stop,
	.reset = reset,
	.save = save,
	.load = load,
};

/* --- the device
 * ----------------------------------------------------------------------------------- */

static int realize(struct device *dev, struct err *err)
{
	struct virtio_blk *blk = container_of(dev, struct virtio_blk, vdev.dev);
	char base[IOTHREAD_NAME_MAX], name[IOTHREAD_NAME_MAX + 8];

	iothread_name(dev->id, base);
	for (unsigned i = 0; i < blk->num_queues; i++) {
		struct blk_queue *q = &blk->queues[i];
		int r;

		snprintf(name, sizeof(name), "%.10s_q%u", base, i);
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
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	const char *serial = params->serial ? params->serial : params->id;
	int r;

	if (!blk)
		return err_set(err, -ENOMEM, "out of memory");
	blk->image = params->image;
	blk->info = *block_info(params->image);
	blk->seg_max = MIN(params->queue_size - 2u, MAX_IOV - 2u);
	strncpy(blk->serial, serial, sizeof(blk->serial)); /* padded, not terminated (5.2.6.3) */
	virtio_blk_counters_init(&blk->counters);
	r = init_queues(blk, params);
	if (r >= 0) {
		fill_config(blk);
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
