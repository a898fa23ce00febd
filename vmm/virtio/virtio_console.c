/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The queues belong to the device's own thread, so that a guest which floods its console loads
 * nobody else. Output goes from there to chardev_write(), which copies and never blocks. Input
 * comes on the main thread: the character device hands over as much as `input`, a small ring, has
 * room for; the thread moves it into the driver's buffers and says when there is room again. The
 * ring has a lock of its own, held for the copy.
 *
 * The character device is attached from start to stop, by tasks on the main loop: what the host
 * types before there is a driver stays on the host. What is in the ring when the data path stops is
 * kept for the next start.
 */
#include "vmm/virtio/virtio_console.h"

#include "base/endian.h"
#include "base/fd.h"
#include "base/state.h"
#include "chardev/chardev.h"
#include "vmm/virtio/iothread.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>

#define RX	   0
#define TX	   1
#define NUM_QUEUES 2
#define QUEUE_SIZE 256
#define MAX_IOV	   64

#define INPUT_SIZE 4096U     /* power of two */
#define OUTPUT_MAX (MIB)     /* of one chain; more would only overrun the character device's ring */
#define PIECE_MAX  (4 * KIB) /* for the character device at once */

/* 5.3.4; of these only the size is offered. */
struct console_config {
	le16_t cols;
	le16_t rows;
	le32_t max_nr_ports;
	le32_t emerg_wr;
};
static_assert(sizeof(struct console_config) == 12, "5.3.4");

/* Bytes from the host on their way to the guest. */
struct input {
	uint8_t bytes[INPUT_SIZE];
	uint32_t head; /* free running: where the next byte is put */
	uint32_t tail; /* free running: where the next byte is taken */
};

struct virtio_console {
	struct virtio_device vdev; /* first */
	struct chardev *chardev;
	uint16_t cols, rows; /* under vdev.lock */
	pthread_mutex_t input_lock;
	struct input input; /* under input_lock */
	struct iothread io;
	struct loop_task start_task, stop_task, input_task; /* to the thread */
	struct loop_task attach_task, detach_task;	    /* to the main loop */
	struct quiesce *at_rest;			    /* released by stop and detach tasks */
	struct loop_fd *kicks[NUM_QUEUES];		    /* the thread's; NULL when stopped */
};

static struct virtio_console *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_console, vdev);
}

/* --- input ring --------------------------------------------------------------------------- */

static uint32_t input_used(struct virtio_console *con)
{
	uint32_t used;

	pthread_mutex_lock(&con->input_lock);
	used = con->input.head - con->input.tail;
	pthread_mutex_unlock(&con->input_lock);
	return used;
}

/* Puts what fits. */
static void input_put(struct virtio_console *con, const uint8_t *data, size_t len)
{
	struct input *in = &con->input;

	pthread_mutex_lock(&con->input_lock);
	for (size_t i = 0; i < len && in->head - in->tail < INPUT_SIZE; i++)
		in->bytes[in->head++ % INPUT_SIZE] = data[i];
	pthread_mutex_unlock(&con->input_lock);
}

/* Moves bytes into the chain's buffers. Returns how many. */
static uint32_t input_take(struct virtio_console *con, const struct virtqueue_chain *chain)
{
	struct input *in = &con->input;
	uint32_t done = 0;

	pthread_mutex_lock(&con->input_lock);
	while (in->tail != in->head) {
		uint32_t at = in->tail % INPUT_SIZE;
		uint32_t part = MIN(in->head - in->tail, INPUT_SIZE - at);

		part = (uint32_t)virtqueue_chain_write(chain, done, in->bytes + at, part);
		if (!part)
			break;
		in->tail += part;
		done += part;
	}
	pthread_mutex_unlock(&con->input_lock);
	return done;
}

/* --- data path, on the thread ------------------------------------------------------------- */

/* Takes a chain. Returns 1, or 0 when there is none or the queue is broken. One in too many pieces
 * comes out empty. */
static int take(struct virtio_console *con, unsigned queue, struct virtqueue_chain *chain)
{
	int rc = virtqueue_pop(&con->vdev.queues[queue], chain);

	if (rc == -EIO)
		virtio_needs_reset(&con->vdev, "malformed console buffer");
	return rc == 1 || rc == -E2BIG;
}

/* After a turn: publishes the answers, and comes back for what is left or came meanwhile. */
static void end_turn(struct virtio_console *con, unsigned queue, bool again)
{
	struct virtqueue *vq = &con->vdev.queues[queue];

	if (virtqueue_flush(vq))
		virtio_notify_queue(&con->vdev, queue);
	if (again)
		eventfd_signal(con->vdev.kick_fds[queue]);
}

static void transmit_chain(struct virtio_console *con, const struct virtqueue_chain *chain)
{
	uint64_t left = OUTPUT_MAX;

	for (unsigned i = 0; i < chain->num_out; i++) {
		const uint8_t *p = chain->iov[i].iov_base;
		size_t len = MIN(chain->iov[i].iov_len, (size_t)left);

		left -= len;
		while (len) {
			size_t piece = MIN(len, (size_t)PIECE_MAX);

			chardev_write(con->chardev, p, piece);
			p += piece;
			len -= piece;
		}
	}
}

static void transmit(struct virtio_console *con)
{
	struct virtqueue *vq = &con->vdev.queues[TX];
	struct iovec iov[MAX_IOV];
	struct virtqueue_chain chain = {.iov = iov, .max_iov = MAX_IOV};

	virtqueue_disable_kicks(vq);
	for (unsigned n = 0; n < QUEUE_SIZE && take(con, TX, &chain); n++) {
		transmit_chain(con, &chain);
		virtqueue_push(vq, &chain, 0);
	}
	end_turn(con, TX, virtqueue_enable_kicks(vq));
}

static void receive(struct virtio_console *con)
{
	struct virtqueue *vq = &con->vdev.queues[RX];
	struct iovec iov[MAX_IOV];
	struct virtqueue_chain chain = {.iov = iov, .max_iov = MAX_IOV};
	bool moved = false;

	if (!input_used(con))
		return; /* new buffers matter only to waiting input, and that comes here itself */
	virtqueue_disable_kicks(vq);
	for (unsigned n = 0; n < QUEUE_SIZE && input_used(con) && take(con, RX, &chain); n++) {
		virtqueue_push(vq, &chain, input_take(con, &chain));
		moved = true;
	}
	end_turn(con, RX, virtqueue_enable_kicks(vq) && input_used(con));
	if (moved)
		chardev_kick(con->chardev);
}

static void on_rx_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct virtio_console *con = arg;

	eventfd_drain(con->vdev.kick_fds[RX]);
	receive(con);
}

static void on_tx_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct virtio_console *con = arg;

	eventfd_drain(con->vdev.kick_fds[TX]);
	transmit(con);
}

static void input_on_thread(struct loop_task *task)
{
	struct virtio_console *con = task->arg;

	if (con->kicks[RX])
		receive(con);
}

static void start_on_thread(struct loop_task *task)
{
	struct virtio_console *con = task->arg;
	struct loop *loop = con->io.loop;
	int *fds = con->vdev.kick_fds;

	if (loop_fd_new(loop, fds[TX], LOOP_READ, on_tx_kick, con, &con->kicks[TX]) < 0 ||
	    loop_fd_new(loop, fds[RX], LOOP_READ, on_rx_kick, con, &con->kicks[RX]) < 0) {
		virtio_needs_reset(&con->vdev, "cannot watch its queues");
		return;
	}
	transmit(con);
	receive(con);
}

static void stop_on_thread(struct loop_task *task)
{
	struct virtio_console *con = task->arg;

	for (unsigned i = 0; i < NUM_QUEUES; i++)
		loop_fd_free(TAKE(con->kicks[i]));
	quiesce_release(con->at_rest);
}

/* --- the character device's side, on the main thread -------------------------------------- */

static size_t can_receive(void *arg)
{
	return INPUT_SIZE - input_used(arg);
}

static void received(void *arg, const uint8_t *data, size_t len)
{
	struct virtio_console *con = arg;

	input_put(con, data, len);
	loop_post(con->io.loop, &con->input_task);
}

static void resized(void *arg, unsigned columns, unsigned rows)
{
	struct virtio_console *con = arg;
	uint16_t new_cols = (uint16_t)MIN(columns, (unsigned)UINT16_MAX);
	uint16_t new_rows = (uint16_t)MIN(rows, (unsigned)UINT16_MAX);
	bool changed;

	pthread_mutex_lock(&con->vdev.lock);
	changed = con->cols != new_cols || con->rows != new_rows;
	con->cols = new_cols;
	con->rows = new_rows;
	pthread_mutex_unlock(&con->vdev.lock);
	if (changed)
		virtio_config_changed(&con->vdev);
}

static const struct chardev_client client = {
	.can_receive = can_receive,
	.receive = received,
	.resized = resized,
};

static void attach_on_main(struct loop_task *task)
{
	struct virtio_console *con = task->arg;

	chardev_attach(con->chardev, &client, con);
}

static void detach_on_main(struct loop_task *task)
{
	struct virtio_console *con = task->arg;

	chardev_attach(con->chardev, NULL, NULL);
	quiesce_release(con->at_rest);
}

/* --- virtio ------------------------------------------------------------------------------- */

static void start(struct virtio_device *vdev)
{
	struct virtio_console *con = from_vdev(vdev);

	loop_post(con->io.loop, &con->start_task);
	loop_post(vdev->dev.host->main_loop, &con->attach_task);
}

static void stop(struct virtio_device *vdev, struct quiesce *q)
{
	struct virtio_console *con = from_vdev(vdev);

	con->at_rest = q;
	quiesce_hold(q);
	loop_post(con->io.loop, &con->stop_task);
	quiesce_hold(q);
	loop_post(vdev->dev.host->main_loop, &con->detach_task);
}

static uint64_t features(struct virtio_device *vdev)
{
	return 1ULL << VIRTIO_CONSOLE_F_SIZE;
}

static void config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len)
{
	struct virtio_console *con = from_vdev(vdev);
	const struct console_config config = {
		.cols = le16(con->cols),
		.rows = le16(con->rows),
		.max_nr_ports = le32(1),
	};

	if (offset < sizeof(config))
		memcpy(data, (const uint8_t *)&config + offset,
		       MIN((size_t)len, sizeof(config) - offset));
}

static const struct state_field state_fields[] = {
	STATE_FIELD(STATE_U16, struct virtio_console, cols),
	STATE_FIELD(STATE_U16, struct virtio_console, rows),
	STATE_ARRAY(STATE_U8, struct virtio_console, input.bytes),
	STATE_FIELD(STATE_U32, struct virtio_console, input.head),
	STATE_FIELD(STATE_U32, struct virtio_console, input.tail),
};

static const struct state_layout state_layout = {
	.name = "virtio-console",
	.version = 1,
	.fields = state_fields,
	.num_fields = ARRAY_SIZE(state_fields),
	.struct_size = sizeof(struct virtio_console),
};

static int save(struct virtio_device *vdev, struct buf *out)
{
	return state_save(out, &state_layout, from_vdev(vdev));
}

static int load(struct virtio_device *vdev, struct cursor *in, struct err *err)
{
	struct virtio_console *con = from_vdev(vdev);
	int rc;

	rc = state_load(in, &state_layout, con, err);
	if (rc == 0 && con->input.head - con->input.tail > INPUT_SIZE) {
		con->input.tail = con->input.head;
		rc = err_set(err, -EBADMSG, "more input than the device holds");
	}
	return rc;
}

static const struct virtio_ops virtio_ops = {
	.device_id = VIRTIO_ID_CONSOLE,
	.features = features,
	.config_read = config_read,
	.start = start,
	.stop = stop,
	.save = save,
	.load = load,
};

/* --- the device --------------------------------------------------------------------------- */

static int realize(struct device *dev, struct err *err)
{
	struct virtio_console *con = container_of(dev, struct virtio_console, vdev.dev);
	char name[IOTHREAD_NAME_MAX];
	int rc;

	iothread_name(dev->id, name);
	rc = iothread_start(&con->io, name, THREAD_VIRTIO, NULL, 0);
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot start its thread", dev->id) : 0;
}

static void unrealize(struct device *dev)
{
	struct virtio_console *con = container_of(dev, struct virtio_console, vdev.dev);

	iothread_stop(&con->io);
}

static void free_device(struct device *dev)
{
	struct virtio_console *con = container_of(dev, struct virtio_console, vdev.dev);

	virtio_device_fini(&con->vdev);
	pthread_mutex_destroy(&con->input_lock);
	free(con);
}

static const struct device_ops device_ops = {
	.kind = "virtio-console",
	.realize = realize,
	.unrealize = unrealize,
	.reset = virtio_device_reset,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.save = virtio_device_save,
	.load = virtio_device_load,
	.free = free_device,
};

int virtio_console_new(const struct device_host *host, const char *id, struct chardev *chardev,
		       struct virtio_device **ret_vdev, struct err *err)
{
	struct virtio_console *con = calloc(1, sizeof(*con));
	int rc;

	if (!con)
		return err_set(err, -ENOMEM, "out of memory");
	con->chardev = chardev;
	con->start_task = (struct loop_task){.fn = start_on_thread, .arg = con};
	con->stop_task = (struct loop_task){.fn = stop_on_thread, .arg = con};
	con->input_task = (struct loop_task){.fn = input_on_thread, .arg = con};
	con->attach_task = (struct loop_task){.fn = attach_on_main, .arg = con};
	con->detach_task = (struct loop_task){.fn = detach_on_main, .arg = con};
	rc = virtio_device_init(&con->vdev, &device_ops, &virtio_ops, host, id, NUM_QUEUES,
				QUEUE_SIZE, err);
	if (rc < 0) {
		free(con);
		return rc;
	}
	pthread_mutex_init(&con->input_lock, NULL);
	*ret_vdev = &con->vdev;
	return 0;
}
