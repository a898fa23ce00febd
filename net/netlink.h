/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network devices of the host over rtnetlink: what a tap needs. All calls are for worker threads:
 * each waits for the kernel's answer. They see the network namespace that the thread was in at
 * netlink_open(). Errors name the step and the device.
 */
#ifndef NET_NETLINK_H
#define NET_NETLINK_H

#include "base/err.h"

#include <net/if.h>

struct netlink;

/* A connection, owned by the caller. Returns 0 or negative errno. */
int netlink_open(struct netlink **ret_nl, struct err *err);

/* NULL is fine. */
void netlink_close(struct netlink *nl);

static inline void netlink_close_ptr_(struct netlink **nl)
{
	netlink_close(*nl);
}
#define AUTO_NETLINK CLEANUP(netlink_close_ptr_)

/* A device as it is. */
struct netlink_link {
	int index;
	char name[IF_NAMESIZE];
	bool has_mac;
	uint8_t mac[6];
	unsigned mtu;
	bool up;
};

/* Looks a device up by its name. Returns 0, -ENODEV when there is none, or negative errno. */
int netlink_get_link(struct netlink *nl, const char *name, struct netlink_link *ret_link,
		     struct err *err);

/* Each changes one property. Return 0 or negative errno: -EPERM without CAP_NET_ADMIN, -EINVAL for
 * what the device does not take. */
int netlink_set_mac(struct netlink *nl, const struct netlink_link *link, const uint8_t mac[6],
		    struct err *err);
int netlink_set_mtu(struct netlink *nl, const struct netlink_link *link, unsigned mtu,
		    struct err *err);
int netlink_set_up(struct netlink *nl, const struct netlink_link *link, bool up, struct err *err);

/* An address with the length of its network's prefix. */
struct netlink_address {
	int family; /* AF_INET, AF_INET6 */
	uint8_t bytes[16];
	unsigned prefix_len;
};

/* Gives the device an address. Returns 1 when it was added, 0 when the device had it already, or
 * negative errno. */
int netlink_add_address(struct netlink *nl, const struct netlink_link *link,
			const struct netlink_address *address, struct err *err);

/* Takes an address away. Returns 0 or negative errno. */
int netlink_del_address(struct netlink *nl, const struct netlink_link *link,
			const struct netlink_address *address, struct err *err);

#endif
