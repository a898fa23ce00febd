/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A chain is one frame behind its header. The header is copied once, checked against what was
 * negotiated, and the copy goes to the tap with the frame's bytes; the kernel checks offsets and
 * sizes in it against the frame. Of a long frame the kernel takes the bytes straight out of the
 * driver's buffers; a short one is copied together with its header, since one buffer costs the
 * kernel less than several. A frame that is malformed, too long, or refused by the tap is dropped,
 * as on a wire; a tap that is full makes the pair wait until it is writable.
 */
#include "vmm/virtio/virtio_net_private.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

/* 5.1.6.2.1: what the driver must not use unless it was negotiated. */
static bool header_acceptable(const struct virtio_net *net, const struct net_header *header)
{
	const struct virtio_device *vdev = &net->vdev;

	if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
	    !virtio_has_feature(vdev, VIRTIO_NET_F_CSUM))
		return false;
	if (header->gso_type & VIRTIO_NET_HDR_GSO_ECN &&
	    !virtio_has_feature(vdev, VIRTIO_NET_F_HOST_ECN))
		return false;
	switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE: return true;
	case VIRTIO_NET_HDR_GSO_TCPV4: return virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6: return virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO6);
	case VIRTIO_NET_HDR_GSO_UDP: return virtio_has_feature(vdev, VIRTIO_NET_F_HOST_UFO);
	default: return false;
	}
}

/* Moves the start of n iovecs `bytes` on, which they have; returns how many are used up. */
static unsigned skip_bytes(struct iovec *iov, unsigned n, size_t bytes)
{
	unsigned i = 0;

	while (i < n && bytes >= iov[i].iov_len)
		bytes -= iov[i++].iov_len;
	if (i < n) {
		iov[i].iov_base = (uint8_t *)iov[i].iov_base + bytes;
		iov[i].iov_len -= bytes;
	}
	return i;
}

/* These two return what the tap did, or -EINVAL for what the driver must not ask. */
static ssize_t send_short(struct net_pair *pair, const struct virtqueue_chain *chain)
{
	uint8_t frame[NET_TX_SHORT];
	struct net_header header;

	virtqueue_chain_read(chain, 0, frame, chain->out_bytes);
	memcpy(&header, frame, sizeof(header));
	if (!header_acceptable(pair->net, &header))
		return -EINVAL;
	return tap_write(net_tap_fd(pair),
			 &(struct iovec){.iov_base = frame, .iov_len = chain->out_bytes}, 1);
}

static ssize_t send_long(struct net_pair *pair, const struct virtqueue_chain *chain)
{
	struct net_header header;
	struct iovec *iov;
	unsigned skipped;

	virtqueue_chain_read(chain, 0, &header, sizeof(header));
	if (!header_acceptable(pair->net, &header))
		return -EINVAL;
	skipped = skip_bytes(chain->iov, chain->num_out, sizeof(header));
	/* The slot before the rest: a used up one, or the one that was left free for this. */
	iov = chain->iov + skipped - 1;
	*iov = (struct iovec){.iov_base = &header, .iov_len = sizeof(header)};
	return tap_write(net_tap_fd(pair), iov, chain->num_out - skipped + 1);
}

/* Returns 0 when the frame is on its way or dropped, -EAGAIN when the tap is full. */
static int send_frame(struct net_pair *pair, const struct virtqueue_chain *chain)
{
	struct net_counters *counters = &pair->counters;
	ssize_t n = -EINVAL;

	if (chain->out_bytes > sizeof(struct net_header) && chain->out_bytes <= NET_FRAME_MAX)
		n = chain->out_bytes <= NET_TX_SHORT ? send_short(pair, chain)
						     : send_long(pair, chain);
	if (n == -EAGAIN)
		return -EAGAIN;
	if (n < 0) {
		net_count(&counters->tx_dropped, 1);
		return 0;
	}
	net_count(&counters->tx_frames, 1);
	net_count(&counters->tx_bytes, chain->out_bytes - sizeof(struct net_header));
	return 0;
}

/* Returns 1 when a chain was served, 0 when none waits, -EAGAIN when the tap is full, -EIO when the
 * queue is broken. */
static int serve_one(struct net_pair *pair)
{
	struct virtqueue *vq = net_tx_queue(pair);
	struct virtqueue_chain chain = {.iov = pair->tx_iov + 1, .max_iov = NET_MAX_IOV};
	int rc = virtqueue_pop(vq, &chain);

	if (rc == 0 || rc == -EIO)
		return rc;
	if (rc == -E2BIG) {
		net_count(&pair->counters.tx_dropped, 1);
	} else if (send_frame(pair, &chain) == -EAGAIN) {
		virtqueue_unpop(vq, &chain);
		return -EAGAIN;
	}
	virtqueue_push_head(vq, chain.head, 0);
	return 1;
}

void net_tx_serve(struct net_pair *pair)
{
	struct virtio_device *vdev = &pair->net->vdev;
	struct virtqueue *vq = net_tx_queue(pair);
	unsigned queue = 2 * pair->index + 1, served = 0;
	int rc;

	if (pair->tx_blocked)
		return;
	virtqueue_disable_kicks(vq);
	do
		rc = serve_one(pair);
	while (rc > 0 && ++served < NET_TX_BUDGET);
	if (virtqueue_flush(vq))
		virtio_notify_queue(vdev, queue);
	if (rc == -EIO) {
		virtio_needs_reset(vdev, "malformed chain on a transmit queue");
	} else if (rc == -EAGAIN) {
		pair->tx_blocked = true;
		net_watch_tap(pair);
	} else if (virtqueue_enable_kicks(vq)) {
		eventfd_signal(vdev->kick_fds[queue]);
	}
}
