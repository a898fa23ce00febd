/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnl's core carries the messages; what is in them is rtnetlink(7). Its route library, which
 * would spell the five requests out as well, is left alone: it registers a type for every kind of
 * link at each start of the program, and has no number for many of the kernel's errors.
 */
#include "net/netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdio.h>
#include <string.h>

struct netlink {
	struct nl_sock *sock;
	/* Of the request under way: */
	struct netlink_link *link; /* where an answer goes, if one is wanted */
	bool answered;
	int rc; /* the kernel's negative errno */
};

static inline void nlmsg_free_ptr_(struct nl_msg **msg)
{
	nlmsg_free(*msg);
}
#define AUTO_NLMSG CLEANUP(nlmsg_free_ptr_)

static int out_of_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* What can go wrong between us and libnl; what the kernel refuses arrives in on_refusal(). */
static int errno_of(int nle)
{
	switch (nle < 0 ? -nle : nle) {
	case NLE_SUCCESS: return 0;
	case NLE_INTR: return -EINTR;
	case NLE_AGAIN: return -EAGAIN;
	case NLE_NOMEM: return -ENOMEM;
	case NLE_INVAL: return -EINVAL;
	case NLE_OPNOTSUPP: return -EOPNOTSUPP;
	case NLE_AF_NOSUPPORT: return -EAFNOSUPPORT;
	case NLE_NOADDR: return -EADDRNOTAVAIL;
	case NLE_PERM: return -EPERM;
	case NLE_NOACCESS: return -EACCES;
	case NLE_SEQ_MISMATCH:
	case NLE_MSG_TRUNC:
	case NLE_MSG_TOOSHORT: return -EPROTO;
	default: return -EIO;
	}
}

/* --- a request and its answer --------------------------------------------------------------- */

static int on_acknowledgement(struct nl_msg *msg, void *opaque)
{
	struct netlink *nl = opaque;

	nl->answered = true;
	return NL_STOP;
}

static int on_refusal(struct sockaddr_nl *from, struct nlmsgerr *refusal, void *opaque)
{
	struct netlink *nl = opaque;

	nl->answered = true;
	nl->rc = MIN(refusal->error, 0);
	return NL_STOP;
}

static int on_link(struct nl_msg *msg, void *opaque)
{
	struct netlink *nl = opaque;
	struct nlmsghdr *head = nlmsg_hdr(msg);
	struct nlattr *attrs[IFLA_MAX + 1];
	const struct ifinfomsg *info;

	if (!nl->link || head->nlmsg_type != RTM_NEWLINK ||
	    nlmsg_parse(head, sizeof(*info), attrs, IFLA_MAX, NULL) < 0)
		return NL_SKIP;
	info = nlmsg_data(head);
	nl->link->index = info->ifi_index;
	nl->link->up = info->ifi_flags & IFF_UP;
	if (attrs[IFLA_MTU] && nla_len(attrs[IFLA_MTU]) == sizeof(uint32_t))
		nl->link->mtu = nla_get_u32(attrs[IFLA_MTU]);
	if (attrs[IFLA_ADDRESS] && nla_len(attrs[IFLA_ADDRESS]) == sizeof(nl->link->mac)) {
		memcpy(nl->link->mac, nla_data(attrs[IFLA_ADDRESS]), sizeof(nl->link->mac));
		nl->link->has_mac = true;
	}
	return NL_OK;
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
	nl_socket_modify_cb(nl->sock, NL_CB_VALID, NL_CB_CUSTOM, on_link, nl);
	nl_socket_modify_cb(nl->sock, NL_CB_ACK, NL_CB_CUSTOM, on_acknowledgement, nl);
	nl_socket_modify_err_cb(nl->sock, NL_CB_CUSTOM, on_refusal, nl);
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

/* Sends the request and waits until the kernel has acknowledged or refused it. `link`, if any, is
 * filled in from what comes before that. Returns 0 or negative errno. */
static int transact(struct netlink *nl, struct nl_msg *msg, struct netlink_link *link)
{
	int rc = nl_send_auto(nl->sock, msg);

	nl->link = link;
	nl->answered = false;
	nl->rc = 0;
	while (rc >= 0 && !nl->answered)
		rc = nl_recvmsgs_default(nl->sock);
	return nl->answered ? nl->rc : errno_of(rc);
}

/* A message with the structure that its kind begins with. NULL when there is no memory. */
static struct nl_msg *request(int type, int flags, void *body, size_t len)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_ACK | flags);

	if (msg && nlmsg_append(msg, body, len, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

/* --- links ---------------------------------------------------------------------------------- */

int netlink_get_link(struct netlink *nl, const char *name, struct netlink_link *ret_link,
		     struct err *err)
{
	struct ifinfomsg info = {0};
	AUTO_NLMSG struct nl_msg *msg = request(RTM_GETLINK, 0, &info, sizeof(info));
	int rc = -ENODEV;

	*ret_link = (struct netlink_link){0};
	if (!msg || nla_put_string(msg, IFLA_IFNAME, name) < 0)
		return out_of_memory(err);
	/* The kernel refuses a longer name as nonsense; there is no device of that name. */
	if (strnlen(name, IF_NAMESIZE) < IF_NAMESIZE)
		rc = transact(nl, msg, ret_link);
	if (rc == 0 && ret_link->index <= 0)
		rc = -EPROTO;
	if (rc < 0)
		return err_set_errno(err, rc, "%s: cannot look up the network device", name);
	snprintf(ret_link->name, sizeof(ret_link->name), "%s", name);
	return 0;
}

/* A change of one attribute, or of flags alone (attr 0). */
static int change_link(struct netlink *nl, struct ifinfomsg info, int attr, const void *data,
		       size_t len)
{
	AUTO_NLMSG struct nl_msg *msg = request(RTM_NEWLINK, 0, &info, sizeof(info));

	if (!msg || (attr && nla_put(msg, attr, (int)len, data) < 0))
		return -ENOMEM;
	return transact(nl, msg, NULL);
}

int netlink_set_mac(struct netlink *nl, const struct netlink_link *link, const uint8_t mac[6],
		    struct err *err)
{
	struct ifinfomsg info = {.ifi_index = link->index};
	int rc = change_link(nl, info, IFLA_ADDRESS, mac, 6);

	if (rc < 0)
		return err_set_errno(err, rc,
				     "%s: cannot set MAC address %02x:%02x:%02x:%02x:%02x:%02x",
				     link->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return 0;
}

int netlink_set_mtu(struct netlink *nl, const struct netlink_link *link, unsigned mtu,
		    struct err *err)
{
	struct ifinfomsg info = {.ifi_index = link->index};
	uint32_t value = mtu;
	int rc = change_link(nl, info, IFLA_MTU, &value, sizeof(value));

	return rc < 0 ? err_set_errno(err, rc, "%s: cannot set MTU %u", link->name, mtu) : 0;
}

int netlink_set_up(struct netlink *nl, const struct netlink_link *link, bool up, struct err *err)
{
	struct ifinfomsg info = {
		.ifi_index = link->index,
		.ifi_change = IFF_UP,
		.ifi_flags = up ? IFF_UP : 0,
	};
	int rc = change_link(nl, info, 0, NULL, 0);

	return rc < 0 ? err_set_errno(err, rc, "%s: cannot bring the link %s", link->name,
				      up ? "up" : "down")
		      : 0;
}

/* --- addresses ------------------------------------------------------------------------------ */

static int change_address(struct netlink *nl, int type, int flags, const struct netlink_link *link,
			  const struct netlink_address *address)
{
	struct ifaddrmsg info = {
		.ifa_family = (uint8_t)address->family,
		.ifa_prefixlen = (uint8_t)address->prefix_len,
		.ifa_index = (uint32_t)link->index,
	};
	AUTO_NLMSG struct nl_msg *msg = request(type, flags, &info, sizeof(info));
	int len = address->family == AF_INET ? 4 : 16;

	/* IFA_ADDRESS is the other end of the link: the same, there is none in particular. */
	if (!msg || nla_put(msg, IFA_LOCAL, len, address->bytes) < 0 ||
	    nla_put(msg, IFA_ADDRESS, len, address->bytes) < 0)
		return -ENOMEM;
	return transact(nl, msg, NULL);
}

int netlink_add_address(struct netlink *nl, const struct netlink_link *link,
			const struct netlink_address *address, struct err *err)
{
	int rc = change_address(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, address);

	if (rc == -EEXIST)
		return 0;
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot add an IPv%d address", link->name,
				      address->family == AF_INET ? 4 : 6)
		      : 1;
}

int netlink_del_address(struct netlink *nl, const struct netlink_link *link,
			const struct netlink_address *address, struct err *err)
{
	int rc = change_address(nl, RTM_DELADDR, 0, link, address);

	return rc < 0 ? err_set_errno(err, rc, "%s: cannot remove an IPv%d address", link->name,
				      address->family == AF_INET ? 4 : 6)
		      : 0;
}
