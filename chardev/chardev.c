/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Output. Writers append to the ring under its lock. The first one schedules the main thread by a
 * posted task; from then on `scheduled` stays set, and writers only append, until the main thread
 * has found the ring empty for FLUSH_MS. So a guest that prints byte by byte wakes the main thread
 * a few hundred times a second, not once a byte. When the other end takes no more, the ring waits
 * for it to become writable.
 *
 * Input. The main thread reads only what the client has room for. Without room it stops watching
 * for input; chardev_kick() starts it again.
 */
#include "chardev/chardev_internal.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define RING_SIZE  ((size_t)1 << 20)
#define FLUSH_MS   2
#define READ_CHUNK 4096
/* Reads per readiness, so that a flood of input leaves the loop its turn. */
#define READ_ROUNDS 16

/* --- output --- */

static void append(struct chardev *dev, const uint8_t *data, size_t len)
{
	size_t tail = (dev->head + dev->count) % RING_SIZE;
	size_t first = MIN(len, RING_SIZE - tail);

	memcpy(&dev->ring[tail], data, first);
	memcpy(dev->ring, data + first, len - first);
	dev->count += len;
}

void chardev_write(struct chardev *dev, const void *data, size_t len)
{
	size_t taken;
	bool post;

	if (!dev->ops || !len)
		return;
	pthread_mutex_lock(&dev->lock);
	taken = MIN(len, RING_SIZE - dev->count);
	append(dev, data, taken);
	post = !dev->scheduled;
	dev->scheduled = true;
	pthread_mutex_unlock(&dev->lock);
	if (taken < len)
		dev->dropped += len - taken;
	if (post)
		loop_post(dev->loop, &dev->flush_task);
}

/* The next bytes in one piece; writers only append behind them, so they may be read unlocked. */
static size_t peek(struct chardev *dev, const uint8_t **ret_data)
{
	size_t n;

	pthread_mutex_lock(&dev->lock);
	n = MIN(dev->count, RING_SIZE - dev->head);
	*ret_data = &dev->ring[dev->head];
	pthread_mutex_unlock(&dev->lock);
	return n;
}

static void consume(struct chardev *dev, size_t n)
{
	pthread_mutex_lock(&dev->lock);
	dev->count -= n;
	/* An empty ring starts over at its front, so that little output touches little memory. */
	dev->head = dev->count ? (dev->head + n) % RING_SIZE : 0;
	pthread_mutex_unlock(&dev->lock);
}

/* Empties the ring. Returns whether it is empty; if not, chardev_writable() comes. */
static bool drain(struct chardev *dev)
{
	const uint8_t *data;
	size_t len;

	while ((len = peek(dev, &data)) > 0) {
		ssize_t n = dev->ops->write(dev, data, len);

		if (n == -EAGAIN)
			return false;
		if (n < 0) {
			dev->dropped += len;
			n = (ssize_t)len;
		}
		consume(dev, (size_t)n);
	}
	return true;
}

static void drain_and_schedule(struct chardev *dev)
{
	if (drain(dev))
		loop_timer_start(dev->flush_timer, FLUSH_MS, 0);
	else
		loop_timer_stop(dev->flush_timer);
}

static void on_flush(struct loop_task *task)
{
	drain_and_schedule(task->arg);
}

static void on_flush_timer(struct loop_timer *t, void *arg)
{
	struct chardev *dev = arg;
	bool idle;

	pthread_mutex_lock(&dev->lock);
	idle = dev->count == 0;
	if (idle)
		dev->scheduled = false;
	pthread_mutex_unlock(&dev->lock);
	if (!idle)
		drain_and_schedule(dev);
}

void chardev_writable(struct chardev *dev)
{
	drain_and_schedule(dev);
}

void chardev_flush(struct chardev *dev)
{
	if (dev->ops)
		drain(dev);
}

uint64_t chardev_dropped(const struct chardev *dev)
{
	return dev->dropped;
}

/* --- input --- */

static void pump(struct chardev *dev)
{
	uint8_t buf[READ_CHUNK];

	if (!dev->ops || !dev->ops->read || !dev->input)
		return;
	for (unsigned i = 0; i < READ_ROUNDS; i++) {
		size_t room = dev->client ? dev->client->can_receive(dev->client_arg) : 0;
		ssize_t n;

		if (!room) {
			dev->ops->want_input(dev, false);
			return;
		}
		n = dev->ops->read(dev, buf, MIN(room, sizeof(buf)));
		if (n == -EAGAIN) {
			dev->ops->want_input(dev, true);
			return;
		}
		if (n <= 0) {
			dev->ops->want_input(dev, false);
			return;
		}
		dev->client->receive(dev->client_arg, buf, (size_t)n);
	}
	/* There is more; not every source would say so. */
	loop_post(dev->loop, &dev->kick_task);
}

static void on_kick(struct loop_task *task)
{
	pump(task->arg);
}

void chardev_readable(struct chardev *dev)
{
	pump(dev);
}

void chardev_kick(struct chardev *dev)
{
	loop_post(dev->loop, &dev->kick_task);
}

void chardev_attach(struct chardev *dev, const struct chardev_client *client, void *arg)
{
	dev->client = client;
	dev->client_arg = arg;
	if (client)
		chardev_update_size(dev);
	pump(dev);
}

void chardev_update_size(struct chardev *dev)
{
	unsigned columns, rows;

	if (!dev->ops || !dev->ops->size || !dev->client || !dev->client->resized)
		return;
	if (dev->ops->size(dev, &columns, &rows) >= 0)
		dev->client->resized(dev->client_arg, columns, rows);
}

/* --- life --- */

static const struct chardev_ops *ops_of(enum chardev_mode mode)
{
	switch (mode) {
	case CHARDEV_TTY: return &chardev_tty_ops;
	case CHARDEV_PTY: return &chardev_pty_ops;
	case CHARDEV_FILE: return &chardev_file_ops;
	case CHARDEV_SOCKET: return &chardev_socket_ops;
	case CHARDEV_OFF:
	case CHARDEV_NULL: break;
	}
	return NULL;
}

const char *chardev_path(const struct chardev *dev)
{
	return dev->path;
}

static int prepare(struct chardev *dev, const struct chardev_params *params)
{
	/* Uncleared: pages that are never used never exist. */
	dev->ring = malloc(RING_SIZE);
	if (!dev->ring)
		return -ENOMEM;
	if (params->path) {
		dev->path = strdup(params->path);
		if (!dev->path)
			return -ENOMEM;
	}
	return loop_timer_new(dev->loop, on_flush_timer, dev, &dev->flush_timer);
}

int chardev_new(struct loop *loop, const struct chardev_params *params, struct chardev **ret_dev,
		struct err *err)
{
	struct chardev *dev = calloc(1, sizeof(*dev));
	int rc = 0;

	if (!dev)
		return err_set_errno(err, -ENOMEM, "Cannot create a console");
	dev->loop = loop;
	dev->input = params->input;
	dev->slave_fd = -1;
	endpoint_init(&dev->in);
	endpoint_init(&dev->out);
	dev->kick_task = (struct loop_task){.fn = on_kick, .arg = dev};
	dev->flush_task = (struct loop_task){.fn = on_flush, .arg = dev};
	pthread_mutex_init(&dev->lock, NULL);
	if (ops_of(params->mode)) {
		rc = prepare(dev, params);
		if (rc < 0) {
			err_set_errno(err, rc, "Cannot create a console");
		} else {
			dev->ops = ops_of(params->mode);
			rc = dev->ops->open(dev, params->path, err);
		}
	}
	if (rc < 0) {
		chardev_free(dev);
		return rc;
	}
	*ret_dev = dev;
	return 0;
}

void chardev_free(struct chardev *dev)
{
	if (!dev)
		return;
	if (dev->ops) {
		drain(dev);
		dev->ops->close(dev);
	}
	if (dev->dropped)
		log_debug("A console dropped %llu bytes that nobody took",
			  (unsigned long long)dev->dropped);
	loop_task_cancel(dev->loop, &dev->kick_task);
	loop_task_cancel(dev->loop, &dev->flush_task);
	loop_timer_free(dev->flush_timer);
	pthread_mutex_destroy(&dev->lock);
	free(dev->ring);
	free(dev->path);
	free(dev);
}
