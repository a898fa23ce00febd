/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netlink.h"

#include <errno.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <stdio.h>
#include <string.h>

struct netlink {
	struct nl_sock *sock;
};

static inline void link_put_ptr_(struct rtnl_link **link)
{
	rtnl_link_put(*link);
}
#define AUTO_LINK CLEANUP(link_put_ptr_)

static inline void rtnl_addr_put_ptr_(struct rtnl_addr **addr)
{
	rtnl_addr_put(*addr);
}
#define AUTO_RTNL_ADDR CLEANUP(rtnl_addr_put_ptr_)

static inline void nl_addr_put_ptr_(struct nl_addr **addr)
{
	nl_addr_put(*addr);
}
#define AUTO_NL_ADDR CLEANUP(nl_addr_put_ptr_)

/* libnl keeps a coarser list of errors than the kernel; most of what a device refuses is there. */
static int errno_of(int nle)
{
	switch (nle < 0 ? -nle : nle) {
	case NLE_SUCCESS: return 0;
	case NLE_INTR: return -EINTR;
	case NLE_AGAIN: return -EAGAIN;
	case NLE_NOMEM: return -ENOMEM;
	case NLE_EXIST: return -EEXIST;
	case NLE_INVAL: return -EINVAL;
	case NLE_RANGE: return -ERANGE;
	case NLE_OPNOTSUPP: return -EOPNOTSUPP;
	case NLE_AF_NOSUPPORT: return -EAFNOSUPPORT;
	case NLE_OBJ_NOTFOUND:
	case NLE_NODEV: return -ENODEV;
	case NLE_NOADDR: return -EADDRNOTAVAIL;
	case NLE_PERM: return -EPERM;
	case NLE_NOACCESS: return -EACCES;
	case NLE_BUSY: return -EBUSY;
	case NLE_PROTO_MISMATCH: return -EPROTONOSUPPORT;
	default: return -EIO;
	}
}

static int out_of_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

int netlink_open(struct netlink **ret_nl, struct err *err)
{
	struct netlink *nl = calloc(1, sizeof(*nl));
	int rc;

	if (!nl)
		return out_of_memory(err);
	nl->sock = nl_socket_alloc();
	if (!nl->sock) {
		free(nl);
		return out_of_memory(err);
	}
	rc = errno_of(nl_connect(nl->sock, NETLINK_ROUTE));
	if (rc < 0) {
		netlink_close(nl);
		return err_set_errno(err, rc, "cannot connect to the kernel's rtnetlink");
	}
	*ret_nl = nl;
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (!nl)
		return;
	nl_socket_free(nl->sock);
	free(nl);
}

/* --- links ---------------------------------------------------------------------------------- */

int netlink_get_link(struct netlink *nl, const char *name, struct netlink_link *ret_link,
		     struct err *err)
{
	AUTO_LINK struct rtnl_link *link = NULL;
	struct nl_addr *mac;
	int rc;

	rc = errno_of(rtnl_link_get_kernel(nl->sock, 0, name, &link));
	if (rc < 0)
		return err_set_errno(err, rc, "%s: cannot look up the network device", name);
	*ret_link = (struct netlink_link){
		.index = rtnl_link_get_ifindex(link),
		.mtu = rtnl_link_get_mtu(link),
		.up = rtnl_link_get_flags(link) & IFF_UP,
	};
	snprintf(ret_link->name, sizeof(ret_link->name), "%s", name);
	mac = rtnl_link_get_addr(link);
	if (mac && nl_addr_get_len(mac) == sizeof(ret_link->mac)) {
		memcpy(ret_link->mac, nl_addr_get_binary_addr(mac), sizeof(ret_link->mac));
		ret_link->has_mac = true;
	}
	return 0;
}

/* Two link objects: which one, and what is to change in it. */
static int change_link(struct netlink *nl, const struct netlink_link *link,
		       struct rtnl_link *change)
{
	AUTO_LINK struct rtnl_link *which = rtnl_link_alloc();

	if (!which)
		return -ENOMEM;
	rtnl_link_set_ifindex(which, link->index);
	return errno_of(rtnl_link_change(nl->sock, which, change, 0));
}

int netlink_set_mac(struct netlink *nl, const struct netlink_link *link, const uint8_t mac[6],
		    struct err *err)
{
	AUTO_LINK struct rtnl_link *change = rtnl_link_alloc();
	AUTO_NL_ADDR struct nl_addr *addr = nl_addr_build(AF_LLC, mac, 6);
	int rc;

	if (!change || !addr)
		return out_of_memory(err);
	rtnl_link_set_addr(change, addr);
	rc = change_link(nl, link, change);
	if (rc < 0)
		return err_set_errno(err, rc,
				     "%s: cannot set MAC address %02x:%02x:%02x:%02x:%02x:%02x",
				     link->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return 0;
}

int netlink_set_mtu(struct netlink *nl, const struct netlink_link *link, unsigned mtu,
		    struct err *err)
{
	AUTO_LINK struct rtnl_link *change = rtnl_link_alloc();
	int rc;

	if (!change)
		return out_of_memory(err);
	rtnl_link_set_mtu(change, mtu);
	rc = change_link(nl, link, change);
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot set MTU %u", link->name, mtu) : 0;
}

int netlink_set_up(struct netlink *nl, const struct netlink_link *link, bool up, struct err *err)
{
	AUTO_LINK struct rtnl_link *change = rtnl_link_alloc();
	int rc;

	if (!change)
		return out_of_memory(err);
	if (up)
		rtnl_link_set_flags(change, IFF_UP);
	else
		rtnl_link_unset_flags(change, IFF_UP);
	rc = change_link(nl, link, change);
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot bring the link %s", link->name,
				      up ? "up" : "down")
		      : 0;
}

/* --- addresses ------------------------------------------------------------------------------ */

static int build_address(const struct netlink_link *link, const struct netlink_address *address,
			 struct rtnl_addr **ret_addr)
{
	AUTO_RTNL_ADDR struct rtnl_addr *addr = rtnl_addr_alloc();
	AUTO_NL_ADDR struct nl_addr *local =
		nl_addr_build(address->family, address->bytes, address->family == AF_INET ? 4 : 16);
	int rc;

	if (!addr || !local)
		return -ENOMEM;
	nl_addr_set_prefixlen(local, (int)address->prefix_len);
	rtnl_addr_set_ifindex(addr, link->index);
	rc = errno_of(rtnl_addr_set_local(addr, local));
	if (rc < 0)
		return rc;
	*ret_addr = TAKE(addr);
	return 0;
}

int netlink_add_address(struct netlink *nl, const struct netlink_link *link,
			const struct netlink_address *address, struct err *err)
{
	AUTO_RTNL_ADDR struct rtnl_addr *addr = NULL;
	int rc = build_address(link, address, &addr);

	if (rc == 0)
		rc = errno_of(rtnl_addr_add(nl->sock, addr, 0));
	if (rc == -EEXIST)
		return 0;
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot add an IPv%d address", link->name,
				      address->family == AF_INET ? 4 : 6)
		      : 1;
}

int netlink_del_address(struct netlink *nl, const struct netlink_link *link,
			const struct netlink_address *address, struct err *err)
{
	AUTO_RTNL_ADDR struct rtnl_addr *addr = NULL;
	int rc = build_address(link, address, &addr);

	if (rc == 0)
		rc = errno_of(rtnl_addr_delete(nl->sock, addr, 0));
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot remove an IPv%d address", link->name,
				      address->family == AF_INET ? 4 : 6)
		      : 0;
}
