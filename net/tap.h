/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tap devices: made or found by name, or given as open fds; configured through netlink. Knows
 * packets and fds, nothing of virtio.
 *
 * A tap that is made or found by name is brought up, with the address, MAC and MTU asked for. One
 * that is given as fds belongs to whoever made it, who has configured the host's side: it gets
 * neither address nor link state from here (clients send default addresses along), and its MAC and
 * MTU are changed only where they differ from what is asked for.
 *
 * Each frame is preceded by a struct virtio_net_hdr_v1 of vnet_hdr_len bytes, little endian.
 */
#ifndef NET_TAP_H
#define NET_TAP_H

#include "base/err.h"

#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>

#define TAP_MAX_QUEUES 32
#define TAP_NAME_MAX   16

struct tap_params {
	const char *name; /* NULL: the kernel picks "vmtapN" */
	const int *fds; /* given taps or macvtaps, one a queue; NULL = open by name. Duplicated, not
			   consumed */
	unsigned num_queues; /* queue pairs, 1..TAP_MAX_QUEUES */
	const char *ip;	     /* IPv4 or IPv6 text, with mask; NULL = leave addresses alone */
	const char *mask;
	const uint8_t *host_mac; /* 6 bytes; NULL = leave */
	unsigned mtu;		 /* 0 = leave */
	unsigned vnet_hdr_len;	 /* 12 for virtio 1.x */
};

struct tap {
	char name[TAP_NAME_MAX];
	unsigned num_queues;
	atomic_uint num_active;	 /* queues that the kernel spreads frames over: the first ones */
	int fds[TAP_MAX_QUEUES]; /* non-blocking */
	bool created;		 /* by us; disappears with its last fd as it is not persistent */
	uint8_t host_mac[6];
	unsigned mtu;
};

/* Opens and configures; needs CAP_NET_ADMIN unless fds are given that need no change. Worker
 * thread. Returns 0 or negative errno saying which step failed; then nothing is left behind: a tap
 * that was made here is gone, one that was found is as it was. */
int tap_open(const struct tap_params *params, struct tap *ret_tap, struct err *err);

/* Closes the queues; also of a zeroed tap that never was open (num_queues 0). */
void tap_close(struct tap *tap);

/*
 * One frame behind its header, from the queue or to it; the iovecs hold all of it. Returns its
 * length, or negative errno: -EAGAIN when there is none, or no room. Unlike readv(2) and writev(2)
 * of the C library these are no cancellation points, which cost as much as a small frame's copy.
 */
ssize_t tap_read(int fd, const struct iovec *iov, unsigned n);
ssize_t tap_write(int fd, const struct iovec *iov, unsigned n);

/* TUN_F_* offloads that the guest accepts on receive, all queues. Any thread; may wait for the
 * kernel's lock on network configuration. Returns 0 or negative errno (-EINVAL: the kernel does not
 * know one of them). */
int tap_set_offload(struct tap *tap, unsigned tun_flags);

/*
 * Lets the kernel spread frames over the first `num` queues only, 1..num_queues; no frames come out
 * of those beyond, and what they held is gone. One thread at a time. May wait like
 * tap_set_offload(). Returns 0 or negative errno, num_active saying how far it got.
 */
int tap_set_active_queues(struct tap *tap, unsigned num);

#endif
