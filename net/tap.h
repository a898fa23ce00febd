/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tap devices: made or found by name, or given as open fds; configured through netlink. Knows
 * packets and fds, nothing of virtio.
 */
#ifndef NET_TAP_H
#define NET_TAP_H

#include "base/err.h"

#include <netinet/in.h>

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
	int fds[TAP_MAX_QUEUES]; /* non-blocking */
	bool created;		 /* by us; disappears with its last fd as it is not persistent */
	uint8_t host_mac[6];
	unsigned mtu;
};

/* Opens and configures; needs CAP_NET_ADMIN unless fds are given that need no change. Worker
 * thread. Returns 0 or negative errno saying which step failed. */
int tap_open(const struct tap_params *params, struct tap *ret_tap, struct err *err);
void tap_close(struct tap *tap);

/* TUN_F_* offloads that the guest accepts on receive, all queues. Any thread. */
int tap_set_offload(struct tap *tap, unsigned tun_flags);

#endif
