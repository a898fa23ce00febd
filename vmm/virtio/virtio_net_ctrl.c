/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queue (5.1.6.5): a class, a command and its data to read, one byte of answer to
 * write. What is not offered (receive filters, VLANs, MAC address) is answered with an error: the
 * tap passes every frame.
 */
#include "vmm/virtio/virtio_net_private.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/virtio_net.h>

#define MAX_IOV 64
#define BUDGET	16

unsigned net_ctrl_queue(const struct virtio_net *net)
{
	return virtio_has_feature(&net->vdev, VIRTIO_NET_F_MQ) ? 2 * net->num_pairs : 2;
}

/* 5.1.6.5.5: the driver has set up the queues of the pairs that it wants. */
static bool pairs_ready(struct virtio_net *net, unsigned num)
{
	if (!num || num > net->running_pairs)
		return false;
	for (unsigned i = 0; i < 2 * num; i++)
		if (!net->vdev.queues[i].desc)
			return false;
	return true;
}

static bool set_pairs(struct virtio_net *net, const struct virtqueue_chain *chain)
{
	struct virtio_net_ctrl_hdr header;
	le16_t num;

	if (chain->out_bytes != sizeof(header) + sizeof(num) ||
	    !virtio_has_feature(&net->vdev, VIRTIO_NET_F_MQ))
		return false;
	virtqueue_chain_read(chain, sizeof(header), &num, sizeof(num));
	return pairs_ready(net, le16_get(num)) && net_set_active_pairs(net, le16_get(num)) == 0;
}

/* 5.1.6.5.6 */
static bool set_offloads(struct virtio_net *net, const struct virtqueue_chain *chain)
{
	struct virtio_net_ctrl_hdr header;
	uint64_t before = net->guest_offloads, wanted;
	le64_t data;

	if (chain->out_bytes != sizeof(header) + sizeof(data) ||
	    !virtio_has_feature(&net->vdev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		return false;
	virtqueue_chain_read(chain, sizeof(header), &data, sizeof(data));
	wanted = le64_get(data);
	if (wanted & ~(net->vdev.features & NET_GUEST_OFFLOADS))
		return false;
	net->guest_offloads = wanted;
	if (net_apply_offloads(net) == 0)
		return true;
	net->guest_offloads = before;
	return false;
}

static bool execute(struct virtio_net *net, const struct virtqueue_chain *chain)
{
	struct virtio_net_ctrl_hdr header;

	if (virtqueue_chain_read(chain, 0, &header, sizeof(header)) != sizeof(header))
		return false;
	if (header.class == VIRTIO_NET_CTRL_MQ && header.cmd == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)
		return set_pairs(net, chain);
	if (header.class == VIRTIO_NET_CTRL_GUEST_OFFLOADS &&
	    header.cmd == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET)
		return set_offloads(net, chain);
	return false;
}

/* Returns 1 when a command was answered, 0 when none waits, -EIO when the queue is broken. */
static int serve_one(struct virtio_net *net, struct virtqueue *vq)
{
	struct iovec iov[MAX_IOV];
	struct virtqueue_chain chain = {.iov = iov, .max_iov = MAX_IOV};
	int rc = virtqueue_pop(vq, &chain);
	uint8_t ack;

	if (rc == 0 || rc == -EIO)
		return rc;
	if (rc < 0 || !chain.in_bytes) {
		virtqueue_set_broken(vq);
		return -EIO;
	}
	ack = execute(net, &chain) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
	virtqueue_chain_write(&chain, 0, &ack, sizeof(ack));
	virtqueue_push(vq, &chain, sizeof(ack));
	return 1;
}

void net_ctrl_serve(struct net_pair *pair)
{
	struct virtio_net *net = pair->net;
	unsigned queue = net_ctrl_queue(net), served = 0;
	struct virtqueue *vq = &net->vdev.queues[queue];
	int rc;

	virtqueue_disable_kicks(vq);
	do
		rc = serve_one(net, vq);
	while (rc > 0 && ++served < BUDGET);
	if (virtqueue_flush(vq))
		virtio_notify_queue(&net->vdev, queue);
	if (rc < 0)
		virtio_needs_reset(&net->vdev, "malformed control command");
	else if (virtqueue_enable_kicks(vq))
		eventfd_signal(net->vdev.kick_fds[queue]);
}
