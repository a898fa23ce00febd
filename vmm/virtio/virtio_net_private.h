/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the network device share: virtio_net.c (device), virtio_net_pair.c (threads,
 * their start and stop, the tap), virtio_net_rx.c and virtio_net_tx.c (data path),
 * virtio_net_ctrl.c (control queue). */
#ifndef VMM_VIRTIO_VIRTIO_NET_PRIVATE_H
#define VMM_VIRTIO_VIRTIO_NET_PRIVATE_H

#include "base/endian.h"
#include "net/tap.h"
#include "vmm/virtio/iothread.h"
#include "vmm/virtio/virtio_net.h"

/* 5.1.6: before every frame, on the queues and on the tap alike. */
struct net_header {
	uint8_t flags;
	uint8_t gso_type;
	le16_t hdr_len;
	le16_t gso_size;
	le16_t csum_start;
	le16_t csum_offset;
	le16_t num_buffers;
};
static_assert(sizeof(struct net_header) == 12, "5.1.6");

/* No frame is longer, header included: 65535 bytes of IP, Ethernet, two VLAN tags. */
#define NET_FRAME_MAX (sizeof(struct net_header) + 65535 + 14 + 8)

#define NET_MAX_PAIRS TAP_MAX_QUEUES
#define NET_MAX_IOV   1022 /* with one more for us, readv() and writev() take 1024 */
#define NET_RX_CHAINS 512
#define NET_RX_BUDGET 64   /* frames a turn, */
#define NET_TX_SHORT  2048 /* bytes, below which a frame is copied to be sent */
#define NET_TX_BUDGET 256  /* after which the loop's other events have theirs */

/* Buffers for frames from the tap: taken from the queue, not answered yet. */
struct net_rx {
	struct virtqueue_chain chains[NET_RX_CHAINS];
	unsigned first; /* chains[first .. first + num) are held */
	unsigned num;
	struct iovec iov[NET_MAX_IOV + 1]; /* theirs, in the same order */
	unsigned iov_first;
	unsigned iov_num;
	size_t capacity;      /* bytes in them */
	unsigned long_frames; /* > 0: the next frames are expected to be long */
	bool crowded;	      /* the next chain does not fit iov */
	bool waiting;	      /* for the driver's buffers */
	bool tap_gone;	      /* reading failed; until the queue is attached again */
	size_t pending;	      /* length of the frame in `bounce` that waits for buffers; 0 = none */
	uint8_t bounce[NET_FRAME_MAX];
};

/* Written by the pair's thread only. */
struct net_counters {
	atomic_uint_fast64_t rx_bytes; /* of frames, without headers */
	atomic_uint_fast64_t rx_frames;
	atomic_uint_fast64_t rx_dropped;
	atomic_uint_fast64_t tx_bytes;
	atomic_uint_fast64_t tx_frames;
	atomic_uint_fast64_t tx_dropped;
};

struct net_pair {
	struct virtio_net *net;
	unsigned index;
	struct iothread io;
	struct loop_task start_task;
	struct loop_task stop_task;
	struct loop_task refresh_task; /* active_pairs changed */
	struct net_counters counters;
	/* The thread's: */
	bool running;
	struct loop_fd *rx_kick;
	struct loop_fd *tx_kick;
	struct loop_fd *ctrl_kick; /* pair 0 */
	struct loop_fd *tap;
	struct loop_timer *patience; /* with a driver that owes buffers to a pending frame */
	bool tx_blocked;	     /* until the tap is writable */
	struct net_rx rx;
	struct iovec tx_iov[NET_MAX_IOV + 1]; /* the first one for our copy of the header */
};

struct virtio_net {
	struct virtio_device vdev; /* first */
	struct tap *tap;
	uint8_t mac[6];
	uint16_t mtu;
	unsigned num_pairs;
	uint64_t device_features;
	/* Written at rest or by pair 0's thread. */
	uint64_t guest_offloads; /* VIRTIO_NET_F_GUEST_* in force */
	bool fresh; /* since reset, not started: no offloads chosen, old frames in the tap */
	unsigned running_pairs;
	struct quiesce *at_rest; /* released by each stop_task */
	/* Written by pair 0's thread and at rest, read by all. */
	atomic_uint active_pairs;
	atomic_bool tap_ready; /* since start */
	struct net_pair *pairs[NET_MAX_PAIRS];
};

static inline struct virtqueue *net_rx_queue(struct net_pair *pair)
{
	return &pair->net->vdev.queues[2 * pair->index];
}

static inline struct virtqueue *net_tx_queue(struct net_pair *pair)
{
	return &pair->net->vdev.queues[2 * pair->index + 1];
}

static inline int net_tap_fd(const struct net_pair *pair)
{
	return pair->net->tap->fds[pair->index];
}

static inline void net_count(atomic_uint_fast64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* All below on the pair's thread. */

/* Tasks. Stop releases at_rest. */
void net_pair_start(struct loop_task *task);
void net_pair_stop(struct loop_task *task);
void net_pair_refresh(struct loop_task *task);

/* Watches the tap for what the pair can use. */
void net_watch_tap(struct net_pair *pair);

/* Before the first net_rx_serve() since start. */
void net_rx_start(struct net_pair *pair);

/* Frames from the tap to the driver, a turn's worth. */
void net_rx_serve(struct net_pair *pair);

/* The driver gave buffers. */
void net_rx_kicked(struct net_pair *pair);

/* The driver has had its time for the buffers that a frame waits for: drops it. */
void net_rx_give_up(struct net_pair *pair);

/* Gives the buffers that are held back to the queue. */
void net_rx_release(struct net_pair *pair);

/* Throws away what waits in the tap. */
void net_rx_drain(struct net_pair *pair);

/* Whether a frame from the tap would find the pair ready. */
bool net_rx_wants_frames(const struct net_pair *pair);

/* Frames from the driver to the tap, a turn's worth. */
void net_tx_serve(struct net_pair *pair);

/* The control queue is the one behind those of the pairs in use (5.1.2); pair 0's thread. */
unsigned net_ctrl_queue(const struct virtio_net *net);
void net_ctrl_serve(struct net_pair *pair);

/* Tells the tap what guest_offloads says. */
int net_apply_offloads(struct virtio_net *net);

/* Attaches as many of the tap's queues and lets their threads know. */
int net_set_active_pairs(struct virtio_net *net, unsigned num);

/* VIRTIO_NET_F_GUEST_* bits that say what frames the driver takes. */
#define NET_GUEST_OFFLOADS                                                   \
	(1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 | \
	 1ull << VIRTIO_NET_F_GUEST_TSO6 | 1ull << VIRTIO_NET_F_GUEST_ECN |  \
	 1ull << VIRTIO_NET_F_GUEST_UFO)

#endif
