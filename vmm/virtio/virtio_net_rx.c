/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The kernel copies a frame straight into the driver's buffers. How long it is shows only when it
 * has been read, so buffers for the longest frame are taken beforehand, as many as there are up to
 * that; those that a frame does not need are kept for the next one. What does not fit the buffers
 * at hand lands in `bounce`: then, if the driver could still give more, the frame is put together
 * there and waits for them; if not (a frame has one buffer without MRG_RXBUF, or the limits on what
 * is held are reached) it is dropped. A driver that does not give them in PATIENCE_MS, perhaps
 * since it never owns as many, loses the frame: one frame must not block those behind it for ever.
 *
 * Most frames are short, and the kernel looks at every buffer that it is given. So it is given the
 * first few, and `bounce` behind them; a frame that is longer is put together from both, and those
 * after it find all buffers, until enough short ones have come.
 *
 * While the driver's buffers are used up the tap is not watched, and the queue's notifications,
 * which are off otherwise, are on. Frames then wait in the tap, which drops what it has no room
 * for.
 */
#include "vmm/virtio/virtio_net_private.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <unistd.h>

#define SHORT_FRAME 2048 /* bytes; an Ethernet frame with its header */
#define LONG_FRAMES 64	 /* so many short ones in a row: no more long ones expected */
#define DRAIN_MAX   4096 /* more than a tap queues by default */
#define PATIENCE_MS 100

static bool mergeable(const struct net_pair *pair)
{
	return virtio_has_feature(&pair->net->vdev, VIRTIO_NET_F_MRG_RXBUF);
}

/* --- buffers -------------------------------------------------------------------------------- */

static struct iovec *held_iov(struct net_rx *rx)
{
	return rx->iov + rx->iov_first;
}

/* Whether no further buffer would help the next frame, or none can be held. */
static bool full(struct net_pair *pair)
{
	const struct net_rx *rx = &pair->rx;

	if (!mergeable(pair))
		return rx->num == 1;
	return rx->capacity >= NET_FRAME_MAX || rx->num == NET_RX_CHAINS || rx->crowded ||
	       rx->num >= net_rx_queue(pair)->config.size;
}

/* Moves what is held to the start of the arrays. */
static void compact(struct net_rx *rx)
{
	memmove(rx->chains, rx->chains + rx->first, rx->num * sizeof(*rx->chains));
	memmove(rx->iov, held_iov(rx), rx->iov_num * sizeof(*rx->iov));
	for (unsigned i = 0; i < rx->num; i++)
		rx->chains[i].iov -= rx->iov_first;
	rx->first = rx->iov_first = 0;
}

/* 5.1.6.3.1: room for the header, and nothing for us to read. */
static bool usable(const struct virtqueue_chain *chain)
{
	return !chain->num_out && chain->in_bytes >= sizeof(struct net_header);
}

/* Takes one more chain. Returns 1, 0 when there is none (or none that can be held), -EIO when the
 * queue is broken. */
static int take_buffer(struct net_pair *pair)
{
	struct virtqueue *vq = net_rx_queue(pair);
	struct net_rx *rx = &pair->rx;
	struct virtqueue_chain *chain;
	unsigned iov_end;
	int rc;

	if (!rx->num || rx->first + rx->num == NET_RX_CHAINS)
		compact(rx);
	chain = &rx->chains[rx->first + rx->num];
	iov_end = rx->iov_first + rx->iov_num;
	*chain = (struct virtqueue_chain){.iov = rx->iov + iov_end,
					  .max_iov = NET_MAX_IOV - iov_end};
	rc = virtqueue_pop(vq, chain);
	if (rc == -E2BIG && rx->num) {
		/* Shorter ones may have left holes before it: then it fits at the next try. */
		virtqueue_unpop(vq, chain);
		rx->crowded = !rx->iov_first;
		compact(rx);
		return !rx->crowded;
	}
	if (rc == 0 || rc == -EIO)
		return rc;
	if (rc < 0 || !usable(chain)) {
		virtqueue_set_broken(vq);
		return -EIO;
	}
	rx->num++;
	rx->iov_num += chain->num_in;
	rx->capacity += chain->in_bytes;
	return 1;
}

/* Returns 0 or -EIO. */
static int top_up(struct net_pair *pair)
{
	int rc = 1;

	while (rc > 0 && !full(pair))
		rc = take_buffer(pair);
	return rc < 0 ? rc : 0;
}

void net_rx_release(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	while (rx->num)
		virtqueue_unpop(net_rx_queue(pair), &rx->chains[rx->first + --rx->num]);
	rx->first = rx->iov_first = rx->iov_num = 0;
	rx->capacity = 0;
	rx->crowded = false;
}

/* --- frames --------------------------------------------------------------------------------- */

/* How many of the held chains a frame takes. */
static unsigned chains_for(const struct net_rx *rx, size_t len)
{
	unsigned n = 0;

	for (size_t room = 0; room < len; n++)
		room += rx->chains[rx->first + n].in_bytes;
	return n;
}

/* Answers the held chains that hold the frame of `len` bytes, which are as many as it needs. */
static void deliver(struct net_pair *pair, size_t len)
{
	struct net_rx *rx = &pair->rx;
	unsigned n = chains_for(rx, len);
	le16_t num_buffers = le16((uint16_t)n);
	size_t left = len;

	virtqueue_chain_write(&rx->chains[rx->first], offsetof(struct net_header, num_buffers),
			      &num_buffers, sizeof(num_buffers));
	for (unsigned i = 0; i < n; i++) {
		const struct virtqueue_chain *chain = &rx->chains[rx->first + i];
		size_t part = MIN(left, (size_t)chain->in_bytes);

		virtqueue_push(net_rx_queue(pair), chain, (uint32_t)part);
		left -= part;
		rx->capacity -= chain->in_bytes;
		rx->iov_first += chain->num_in;
		rx->iov_num -= chain->num_in;
	}
	rx->first += n;
	rx->num -= n;
	rx->crowded = false;
	net_count(&pair->counters.rx_frames, 1);
	net_count(&pair->counters.rx_bytes, len - sizeof(struct net_header));
}

static void drop(struct net_pair *pair)
{
	if (pair->rx.pending)
		loop_timer_stop(pair->patience);
	pair->rx.pending = 0;
	net_count(&pair->counters.rx_dropped, 1);
}

/* Copies bytes [from, to) of a frame between their places in `bounce` and in the held buffers. */
static void copy_bounce(struct net_rx *rx, size_t from, size_t to, bool to_buffers)
{
	const struct iovec *iov = held_iov(rx);
	size_t start = 0; /* of the buffer in the frame */

	for (; from < to; start += iov++->iov_len) {
		uint8_t *buffer = (uint8_t *)iov->iov_base + (from - start);
		size_t part;

		if (from >= start + iov->iov_len)
			continue;
		part = MIN(to, start + iov->iov_len) - from;
		if (to_buffers)
			memcpy(buffer, rx->bounce + from, part);
		else
			memcpy(rx->bounce + from, buffer, part);
		from += part;
	}
}

/* How many of the held buffers the next frame is read into; sets the bytes that they hold. */
static unsigned choose_buffers(struct net_rx *rx, size_t *ret_bytes)
{
	const struct iovec *iov = held_iov(rx);
	size_t bytes = 0;
	unsigned n = 0;

	while (n < rx->iov_num && (rx->long_frames || bytes < SHORT_FRAME))
		bytes += iov[n++].iov_len;
	*ret_bytes = bytes;
	return n;
}

static void expect_length(struct net_rx *rx, size_t len, size_t room)
{
	if (len > room)
		rx->long_frames = LONG_FRAMES;
	else if (rx->long_frames && len <= SHORT_FRAME)
		rx->long_frames--;
}

/* One frame into the held buffers; what does not fit into them has its place in `bounce`. Returns
 * its length or negative errno, and how much of it the buffers may have. */
static ssize_t read_frame(struct net_pair *pair, size_t *ret_in_buffers)
{
	struct net_rx *rx = &pair->rx;
	struct iovec *iov = held_iov(rx), saved = {0};
	size_t room;
	unsigned num = choose_buffers(rx, &room);
	bool spills = room < NET_FRAME_MAX;
	ssize_t n;

	/* There is one entry more than buffers can be held. */
	if (spills) {
		saved = iov[num];
		iov[num] = (struct iovec){.iov_base = rx->bounce + room,
					  .iov_len = NET_FRAME_MAX - room};
	}
	n = tap_read(net_tap_fd(pair), iov, num + spills);
	if (spills)
		iov[num] = saved;
	*ret_in_buffers = room;
	if (n > 0)
		expect_length(rx, (size_t)n, room);
	/* The held buffers have room for more of it than was given to the kernel. */
	if (n > (ssize_t)room && room < rx->capacity) {
		*ret_in_buffers = MIN((size_t)n, rx->capacity);
		copy_bounce(rx, room, *ret_in_buffers, true);
	}
	return n;
}

/* Returns 1 when a frame was dealt with, 0 when the tap has none, -ENOBUFS when the driver has to
 * give buffers first, -EIO when the queue is broken, or what reading the tap said. */
static int receive_new(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	size_t in_buffers;
	ssize_t n;

	if (!rx->num)
		return -ENOBUFS;
	n = read_frame(pair, &in_buffers);
	if (n == -EAGAIN || n == -EWOULDBLOCK)
		return 0;
	if (n == -EFAULT)
		drop(pair);
	if (n < 0)
		return n == -EFAULT ? 1 : (int)n;
	if ((size_t)n <= sizeof(struct net_header) || (size_t)n > NET_FRAME_MAX) {
		drop(pair);
	} else if ((size_t)n <= rx->capacity) {
		deliver(pair, (size_t)n);
	} else if (full(pair)) {
		drop(pair);
	} else {
		copy_bounce(rx, 0, in_buffers, false);
		rx->pending = (size_t)n;
		loop_timer_start(pair->patience, PATIENCE_MS, 0);
		return -ENOBUFS;
	}
	return 1;
}

static int receive_pending(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	if (rx->pending <= rx->capacity) {
		copy_bounce(rx, 0, rx->pending, true);
		deliver(pair, rx->pending);
		rx->pending = 0;
		loop_timer_stop(pair->patience);
		return 1;
	}
	if (!full(pair))
		return -ENOBUFS;
	drop(pair);
	return 1;
}

static int receive_one(struct net_pair *pair)
{
	int rc = top_up(pair);

	if (rc < 0)
		return rc;
	return pair->rx.pending ? receive_pending(pair) : receive_new(pair);
}

void net_rx_start(struct net_pair *pair)
{
	pair->rx.waiting = false;
	/* Otherwise pair 0 refreshes this one when it is. */
	pair->rx.tap_gone = !atomic_load(&pair->net->tap_ready);
	if (pair->rx.pending)
		loop_timer_start(pair->patience, PATIENCE_MS, 0);
}

bool net_rx_wants_frames(const struct net_pair *pair)
{
	return !pair->rx.waiting && !pair->rx.tap_gone &&
	       pair->index < atomic_load(&pair->net->active_pairs);
}

void net_rx_serve(struct net_pair *pair)
{
	struct virtio_device *vdev = &pair->net->vdev;
	struct virtqueue *vq = net_rx_queue(pair);
	struct net_rx *rx = &pair->rx;
	unsigned queue = 2 * pair->index, turns = 0;
	int rc;

	virtqueue_disable_kicks(vq);
	do {
		rc = receive_one(pair);
		if (rc == -ENOBUFS) {
			rx->waiting = !virtqueue_enable_kicks(vq);
			if (rx->waiting)
				break;
			virtqueue_disable_kicks(vq);
			rc = 1;
		}
	} while (rc > 0 && ++turns < NET_RX_BUDGET);
	if (virtqueue_flush(vq))
		virtio_notify_queue(vdev, queue);
	if (rc == -EIO && vq->broken) {
		virtio_needs_reset(vdev, "malformed chain on a receive queue");
		rx->waiting = true;
	} else if (rc < 0 && rc != -ENOBUFS) {
		rx->tap_gone = true;
		if (pair->index < atomic_load(&pair->net->active_pairs))
			log_warn_limited("%s: cannot read from %s: %s", vdev->dev.id,
					 pair->net->tap->name, strerror(-rc));
	} else if (rc > 0 && rx->pending) {
		/* No frame in the tap need wake us for the one we have. */
		eventfd_signal(vdev->kick_fds[queue]);
	}
	net_watch_tap(pair);
}

void net_rx_kicked(struct net_pair *pair)
{
	if (pair->index >= atomic_load(&pair->net->active_pairs))
		return;
	if (pair->rx.waiting || pair->rx.pending) {
		pair->rx.waiting = false;
		net_rx_serve(pair);
	}
}

void net_rx_give_up(struct net_pair *pair)
{
	if (!pair->rx.pending)
		return;
	drop(pair);
	pair->rx.waiting = false;
	net_rx_serve(pair);
}

void net_rx_drain(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	rx->pending = 0;
	for (unsigned i = 0; i < DRAIN_MAX; i++)
		if (read(net_tap_fd(pair), rx->bounce, sizeof(rx->bounce)) < 0 && errno != EINTR)
			break;
}
