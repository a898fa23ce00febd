/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * One queue, one thread. A kick makes the thread fill the waiting buffers, at most REQUEST_MAX
 * bytes each and one queue's worth of them a turn. When the source has nothing to give, the buffer
 * is put back and the thread waits for the source, or, where that cannot be waited for, for the
 * next kick.
 *
 * Everything here but construction and start/stop runs on the thread; those two only post to it.
 */
#include "vmm/virtio/virtio_rng.h"

#include "base/fd.h"
#include "vmm/virtio/iothread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE_SIZE  256
#define REQUEST_MAX (64 * KIB)
#define CHUNK	    4096
#define MAX_IOV	    64

struct virtio_rng {
	struct virtio_device vdev; /* first */
	int source_fd;
	struct iothread io;
	struct loop_task start_task;
	struct loop_task stop_task;
	struct quiesce *at_rest; /* released by stop_task */
	/* The thread's, from start_task to stop_task. */
	struct loop_fd *kick;
	struct loop_fd *source; /* NULL: cannot be waited for */
};

static struct virtio_rng *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_rng, vdev);
}

/* --- data path ---------------------------------------------------------------------------- */

/* Fills the chain's buffers from the source. Returns bytes written, which may be fewer than there
 * is room for, or negative errno when there are none. */
static ssize_t fill(struct virtio_rng *rng, const struct virtqueue_chain *chain)
{
	size_t want = MIN((size_t)chain->in_bytes, (size_t)REQUEST_MAX), done = 0;
	uint8_t chunk[CHUNK];

	while (done < want) {
		ssize_t n = read(rng->source_fd, chunk, MIN(want - done, sizeof(chunk)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int rc = n < 0 ? -errno : -ENODATA;

			return done ? (ssize_t)done : rc;
		}
		done += virtqueue_chain_write(chain, done, chunk, (size_t)n);
	}
	return (ssize_t)done;
}

/* Answers one buffer. Returns 1; 0 when none waits; negative errno when none can be served now. */
static int serve_one(struct virtio_rng *rng, struct virtqueue *vq)
{
	struct iovec iov[MAX_IOV];
	struct virtqueue_chain chain = {.iov = iov, .max_iov = MAX_IOV};
	ssize_t n;
	int rc;

	rc = virtqueue_pop(vq, &chain);
	if (rc == -EIO)
		virtio_needs_reset(&rng->vdev, "malformed entropy request");
	/* One in too many pieces is answered too: with nothing. */
	if (rc == -EIO || rc == 0)
		return rc;
	n = fill(rng, &chain);
	if (n < 0) {
		virtqueue_unpop(vq, &chain);
		if (rng->source)
			loop_fd_set(rng->source, LOOP_READ);
		return (int)n;
	}
	virtqueue_push(vq, &chain, (uint32_t)n);
	return 1;
}

static void serve(struct virtio_rng *rng)
{
	struct virtqueue *vq = &rng->vdev.queues[0];
	unsigned served = 0;
	int rc;

	virtqueue_disable_kicks(vq);
	do
		rc = serve_one(rng, vq);
	while (rc > 0 && ++served < QUEUE_SIZE);
	if (virtqueue_flush(vq))
		virtio_notify_queue(&rng->vdev, 0);
	/* What is left, or came meanwhile, has its turn after the loop's other events. */
	if (virtqueue_enable_kicks(vq) && rc >= 0)
		eventfd_signal(rng->vdev.kick_fds[0]);
}

static void on_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct virtio_rng *rng = arg;

	eventfd_drain(rng->vdev.kick_fds[0]);
	serve(rng);
}

static void on_source(struct loop_fd *h, unsigned events, void *arg)
{
	loop_fd_set(h, 0);
	serve(arg);
}

/* --- start and stop ----------------------------------------------------------------------- */

static void start_on_thread(struct loop_task *task)
{
	struct virtio_rng *rng = task->arg;

	/* Regular files and /dev/urandom cannot be polled; they never make anyone wait either. */
	if (loop_fd_new(rng->io.loop, rng->source_fd, 0, on_source, rng, &rng->source) < 0)
		rng->source = NULL;
	if (loop_fd_new(rng->io.loop, rng->vdev.kick_fds[0], LOOP_READ, on_kick, rng, &rng->kick) <
	    0) {
		virtio_needs_reset(&rng->vdev, "cannot watch its queue");
		return;
	}
	serve(rng);
}

static void stop_on_thread(struct loop_task *task)
{
	struct virtio_rng *rng = task->arg;

	loop_fd_free(TAKE(rng->kick));
	loop_fd_free(TAKE(rng->source));
	quiesce_release(rng->at_rest);
}

static void start(struct virtio_device *vdev)
{
	struct virtio_rng *rng = from_vdev(vdev);

	loop_post(rng->io.loop, &rng->start_task);
}

static void stop(struct virtio_device *vdev, struct quiesce *q)
{
	struct virtio_rng *rng = from_vdev(vdev);

	quiesce_hold(q);
	rng->at_rest = q;
	loop_post(rng->io.loop, &rng->stop_task);
}

static uint64_t features(struct virtio_device *vdev)
{
	return 0;
}

static const struct virtio_ops virtio_ops = {
	.device_id = VIRTIO_ID_RNG,
	.features = features,
	.start = start,
	.stop = stop,
};

/* --- the device --------------------------------------------------------------------------- */

static int realize(struct device *dev, struct err *err)
{
	struct virtio_rng *rng = container_of(dev, struct virtio_rng, vdev.dev);
	char name[IOTHREAD_NAME_MAX];
	int rc;

	iothread_name(dev->id, name);
	rc = iothread_start(&rng->io, name, THREAD_VIRTIO, NULL, 0);
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot start its thread", dev->id) : 0;
}

static void unrealize(struct device *dev)
{
	struct virtio_rng *rng = container_of(dev, struct virtio_rng, vdev.dev);

	iothread_stop(&rng->io);
}

static void free_device(struct device *dev)
{
	struct virtio_rng *rng = container_of(dev, struct virtio_rng, vdev.dev);

	fd_close(&rng->source_fd);
	virtio_device_fini(&rng->vdev);
	free(rng);
}

static const struct device_ops device_ops = {
	.kind = "virtio-rng",
	.realize = realize,
	.unrealize = unrealize,
	.reset = virtio_device_reset,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.save = virtio_device_save,
	.load = virtio_device_load,
	.free = free_device,
};

/* A FIFO is opened for writing too, where that is allowed: so it neither ends nor hangs up when its
 * last writer goes. */
static int open_source(const char *path)
{
	const int flags = O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	struct stat st;
	int fd;

	if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode)) {
		fd = open(path, O_RDWR | flags);
		if (fd >= 0)
			return fd;
	}
	fd = open(path, O_RDONLY | flags);
	return fd < 0 ? -errno : fd;
}

int virtio_rng_new(const struct device_host *host, const char *id, const char *src_path,
		   struct virtio_device **ret_vdev, struct err *err)
{
	struct virtio_rng *rng = calloc(1, sizeof(*rng));
	int rc;

	if (!rng)
		return err_set(err, -ENOMEM, "out of memory");
	rng->start_task = (struct loop_task){.fn = start_on_thread, .arg = rng};
	rng->stop_task = (struct loop_task){.fn = stop_on_thread, .arg = rng};
	rng->source_fd = open_source(src_path);
	if (rng->source_fd < 0) {
		rc = err_set_errno(err, rng->source_fd, "%s: cannot open \"%s\"", id, src_path);
		free(rng);
		return rc;
	}
	rc = virtio_device_init(&rng->vdev, &device_ops, &virtio_ops, host, id, 1, QUEUE_SIZE, err);
	if (rc < 0) {
		fd_close(&rng->source_fd);
		free(rng);
		return rc;
	}
	*ret_vdev = &rng->vdev;
	return 0;
}
