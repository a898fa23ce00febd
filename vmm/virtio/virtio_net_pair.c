/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A thread for each queue pair moves frames between its two queues and its queue of the tap. Pair
 * 0's thread serves the control queue besides, and is the one that changes the tap: its offloads,
 * and how many of its queues the kernel spreads frames over, which is one after a reset and what
 * the driver asks for after that (5.1.5). It tells the other threads by posting their refresh_task;
 * they watch the tap from then on. The kernel's lock that such changes may wait for is so never
 * waited for on a vCPU or the main loop.
 *
 * The tap outlives the device and may serve another one after it. It has offloads only from start
 * to stop, since a frame that was segmented or checksummed for one driver is of no use to the next;
 * what was queued before is thrown away at the first start after a reset, not after a pause.
 *
 * vdev->features is constant from start to stop, so the threads read it without the lock.
 */
#include "vmm/virtio/virtio_net_private.h"

#include "base/fd.h"
#include "base/log.h"

#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <string.h>

#define BIT(n) (1ull << (n))

/* --- the tap -------------------------------------------------------------------------------- */

/* The kernel takes segments only together with missing checksums. */
static unsigned tun_flags(uint64_t offloads)
{
	unsigned flags = TUN_F_CSUM;

	if (!(offloads & BIT(VIRTIO_NET_F_GUEST_CSUM)))
		return 0;
	if (offloads & BIT(VIRTIO_NET_F_GUEST_TSO4))
		flags |= TUN_F_TSO4;
	if (offloads & BIT(VIRTIO_NET_F_GUEST_TSO6))
		flags |= TUN_F_TSO6;
	if (offloads & BIT(VIRTIO_NET_F_GUEST_ECN) && flags & (TUN_F_TSO4 | TUN_F_TSO6))
		flags |= TUN_F_TSO_ECN;
	if (offloads & BIT(VIRTIO_NET_F_GUEST_UFO))
		flags |= TUN_F_UFO;
	return flags;
}

int net_apply_offloads(struct virtio_net *net)
{
	return tap_set_offload(net->tap, tun_flags(net->guest_offloads));
}

static void refresh_others(struct virtio_net *net)
{
	for (unsigned i = 1; i < net->running_pairs; i++)
		loop_post(net->pairs[i]->io.loop, &net->pairs[i]->refresh_task);
}

int net_set_active_pairs(struct virtio_net *net, unsigned num)
{
	int rc = tap_set_active_queues(net->tap, num);

	if (rc < 0) {
		tap_set_active_queues(net->tap, atomic_load(&net->active_pairs));
		return rc;
	}
	atomic_store(&net->active_pairs, num);
	refresh_others(net);
	return 0;
}

/* Pair 0's thread, before any frame is read. A tap that does not take it has gone: its device is
 * one without a cable then. */
static void prepare_tap(struct virtio_net *net)
{
	const char *id = net->vdev.dev.id;
	int rc = tap_set_active_queues(net->tap, atomic_load(&net->active_pairs));

	if (rc < 0)
		log_warn_limited("%s: cannot choose queues of %s: %s", id, net->tap->name,
				 strerror(-rc));
	rc = net_apply_offloads(net);
	if (rc < 0)
		log_warn_limited("%s: cannot set offloads of %s: %s", id, net->tap->name,
				 strerror(-rc));
	if (net->fresh)
		net_rx_drain(net->pairs[0]);
	net->fresh = false;
	/* A pair that has not started yet misses the refresh, and sees this. */
	atomic_store(&net->tap_ready, true);
}

/* --- start and stop: each pair's thread ------------------------------------------------------ */

void net_watch_tap(struct net_pair *pair)
{
	unsigned events = 0;

	if (!pair->tap)
		return;
	if (net_rx_wants_frames(pair))
		events |= LOOP_READ;
	if (pair->tx_blocked)
		events |= LOOP_WRITE;
	loop_fd_set(pair->tap, events);
}

static void on_tap(struct loop_fd *h, unsigned events, void *arg)
{
	struct net_pair *pair = arg;

	if (events & LOOP_WRITE && pair->tx_blocked) {
		pair->tx_blocked = false;
		net_watch_tap(pair);
		net_tx_serve(pair);
	}
	if (events & LOOP_READ && net_rx_wants_frames(pair))
		net_rx_serve(pair);
}

static void on_rx_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct net_pair *pair = arg;

	eventfd_drain(pair->net->vdev.kick_fds[2 * pair->index]);
	net_rx_kicked(pair);
}

static void on_tx_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct net_pair *pair = arg;

	eventfd_drain(pair->net->vdev.kick_fds[2 * pair->index + 1]);
	net_tx_serve(pair);
}

static void on_ctrl_kick(struct loop_fd *h, unsigned events, void *arg)
{
	struct net_pair *pair = arg;

	eventfd_drain(pair->net->vdev.kick_fds[net_ctrl_queue(pair->net)]);
	net_ctrl_serve(pair);
}

static void on_patience_over(struct loop_timer *t, void *arg)
{
	net_rx_give_up(arg);
}

static bool serves_ctrl(const struct net_pair *pair)
{
	return pair->index == 0 && virtio_has_feature(&pair->net->vdev, VIRTIO_NET_F_CTRL_VQ);
}

static int open_handles(struct net_pair *pair)
{
	struct virtio_net *net = pair->net;
	struct loop *loop = pair->io.loop;
	const int *kicks = net->vdev.kick_fds;
	int rc;

	rc = loop_timer_new(loop, on_patience_over, pair, &pair->patience);
	if (rc == 0)
		rc = loop_fd_new(loop, net_tap_fd(pair), 0, on_tap, pair, &pair->tap);
	if (rc == 0)
		rc = loop_fd_new(loop, kicks[2 * pair->index], LOOP_READ, on_rx_kick, pair,
				 &pair->rx_kick);
	if (rc == 0)
		rc = loop_fd_new(loop, kicks[2 * pair->index + 1], LOOP_READ, on_tx_kick, pair,
				 &pair->tx_kick);
	if (rc == 0 && serves_ctrl(pair))
		rc = loop_fd_new(loop, kicks[net_ctrl_queue(net)], LOOP_READ, on_ctrl_kick, pair,
				 &pair->ctrl_kick);
	return rc;
}

static void close_handles(struct net_pair *pair)
{
	loop_fd_free(TAKE(pair->rx_kick));
	loop_fd_free(TAKE(pair->tx_kick));
	loop_fd_free(TAKE(pair->ctrl_kick));
	loop_fd_free(TAKE(pair->tap));
	loop_timer_free(TAKE(pair->patience));
}

void net_pair_start(struct loop_task *task)
{
	struct net_pair *pair = task->arg;
	struct virtio_net *net = pair->net;

	pair->tx_blocked = false;
	if (pair->index == 0)
		prepare_tap(net);
	if (open_handles(pair) < 0) {
		virtio_needs_reset(&net->vdev, "cannot watch its queues");
		return;
	}
	pair->running = true;
	net_rx_start(pair);
	if (pair->index == 0)
		refresh_others(net);
	if (net_rx_wants_frames(pair))
		net_rx_serve(pair);
	if (serves_ctrl(pair))
		net_ctrl_serve(pair);
	net_tx_serve(pair);
}

/* The tap's queues were attached or detached: an fd is watched anew to be heard of. */
void net_pair_refresh(struct loop_task *task)
{
	struct net_pair *pair = task->arg;

	if (!pair->running)
		return;
	loop_fd_set(pair->tap, 0);
	pair->rx.tap_gone = false;
	pair->rx.waiting = false;
	if (net_rx_wants_frames(pair))
		net_rx_serve(pair);
	else
		net_watch_tap(pair);
}

void net_pair_stop(struct loop_task *task)
{
	struct net_pair *pair = task->arg;

	net_rx_release(pair);
	close_handles(pair);
	pair->running = false;
	if (pair->index == 0)
		tap_set_offload(pair->net->tap, 0);
	quiesce_release(pair->net->at_rest);
}
