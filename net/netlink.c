/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netlink.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel's own largest message for one device, and more. */
#define REPLY_MAX 16384

struct netlink {
	int fd;
	uint32_t seq; /* of the last request */
};

/* A request: a header, one of the two structures, attributes. */
struct request {
	struct nlmsghdr head;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		uint8_t room[128];
	} body;
};

static struct request request(uint16_t type, uint16_t flags, size_t body)
{
	return (struct request){.head = {.nlmsg_len = (uint32_t)NLMSG_LENGTH(body),
					 .nlmsg_type = type,
					 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags}};
}

/* Ours are few and short: what does not fit is a mistake here. */
static void put(struct request *req, unsigned short type, const void *data, size_t len)
{
	size_t at = NLMSG_ALIGN(req->head.nlmsg_len);
	struct rtattr attr = {.rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = type};

	assert(at + RTA_SPACE(len) <= sizeof(*req));
	memcpy((uint8_t *)req + at, &attr, sizeof(attr));
	memcpy((uint8_t *)req + at + RTA_LENGTH(0), data, len);
	req->head.nlmsg_len = (uint32_t)(at + RTA_LENGTH(len));
}

static int out_of_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

int netlink_open(struct netlink **ret_nl, struct err *err)
{
	struct netlink *nl = calloc(1, sizeof(*nl));

	if (!nl)
		return out_of_memory(err);
	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (nl->fd < 0) {
		int rc = -errno;

		free(nl);
		return err_set_errno(err, rc, "cannot connect to the kernel's rtnetlink");
	}
	*ret_nl = nl;
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (!nl)
		return;
	fd_close(&nl->fd);
	free(nl);
}

/* --- a request and its answer --------------------------------------------------------------- */

/* The next datagram from the kernel; others can send to our socket as well. Returns its length or
 * negative errno. */
static ssize_t receive(struct netlink *nl, void *buf, size_t len)
{
	for (;;) {
		struct sockaddr_nl from = {0};
		socklen_t from_len = sizeof(from);
		ssize_t n =
			recvfrom(nl->fd, buf, len, MSG_TRUNC, (struct sockaddr *)&from, &from_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (from.nl_pid != 0)
			continue;
		return (size_t)n > len ? -EMSGSIZE : n;
	}
}

/* What a message says about the end of our request: 1 for nothing yet. */
static int verdict(const struct nlmsghdr *head)
{
	const struct nlmsgerr *e = NLMSG_DATA(head);

	if (head->nlmsg_type != NLMSG_ERROR)
		return 1;
	if (head->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
		return -EPROTO;
	return MIN(e->error, 0);
}

/* Goes through a datagram. Returns the verdict on our request. */
static int read_messages(struct netlink *nl, const uint8_t *buf, size_t len,
			 void (*on_reply)(const struct nlmsghdr *head, void *arg), void *arg)
{
	for (size_t at = 0; at < len;) {
		const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)(buf + at);
		int rc;

		if (len - at < sizeof(*head) || head->nlmsg_len < sizeof(*head) ||
		    head->nlmsg_len > len - at)
			return -EPROTO;
		rc = head->nlmsg_seq == nl->seq ? verdict(head) : 1;
		if (rc <= 0)
			return rc;
		if (on_reply && head->nlmsg_seq == nl->seq)
			on_reply(head, arg);
		at += MIN((size_t)NLMSG_ALIGN(head->nlmsg_len), len - at);
	}
	return 1;
}

/*
 * Sends the request and waits for its acknowledgement. on_reply, if any, gets the messages that
 * come before that. Returns 0 or the kernel's negative errno.
 */
static int transact(struct netlink *nl, struct request *req,
		    void (*on_reply)(const struct nlmsghdr *head, void *arg), void *arg)
{
	uint8_t buf[REPLY_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t n;

	req->head.nlmsg_seq = ++nl->seq;
	do {
		n = sendto(nl->fd, req, req->head.nlmsg_len, 0, (struct sockaddr *)&kernel,
			   sizeof(kernel));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (;;) {
		int rc;

		n = receive(nl, buf, sizeof(buf));
		rc = n < 0 ? (int)n : read_messages(nl, buf, (size_t)n, on_reply, arg);
		if (rc <= 0)
			return rc;
	}
}

/* --- links ---------------------------------------------------------------------------------- */

static void read_link_attr(unsigned type, const uint8_t *data, size_t len,
			   struct netlink_link *link)
{
	if (type == IFLA_MTU && len == sizeof(uint32_t)) {
		uint32_t mtu;

		memcpy(&mtu, data, sizeof(mtu));
		link->mtu = mtu;
	} else if (type == IFLA_ADDRESS && len == sizeof(link->mac)) {
		memcpy(link->mac, data, sizeof(link->mac));
		link->has_mac = true;
	}
}

static void read_link(const struct nlmsghdr *head, void *arg)
{
	struct netlink_link *link = arg;
	const uint8_t *message = (const uint8_t *)head;
	struct ifinfomsg info;
	struct rtattr attr;
	size_t at = NLMSG_SPACE(sizeof(info));
	size_t len = head->nlmsg_len;

	if (head->nlmsg_type != RTM_NEWLINK || len < at)
		return;
	memcpy(&info, message + NLMSG_HDRLEN, sizeof(info));
	link->index = info.ifi_index;
	link->up = info.ifi_flags & IFF_UP;
	while (at < len && len - at >= sizeof(attr)) {
		memcpy(&attr, message + at, sizeof(attr));
		if (attr.rta_len < sizeof(attr) || attr.rta_len > len - at)
			return;
		read_link_attr(attr.rta_type, message + at + RTA_LENGTH(0), RTA_PAYLOAD(&attr),
			       link);
		at += RTA_ALIGN(attr.rta_len);
	}
}

int netlink_get_link(struct netlink *nl, const char *name, struct netlink_link *ret_link,
		     struct err *err)
{
	struct request req = request(RTM_GETLINK, 0, sizeof(req.body.link));
	size_t len = strnlen(name, IF_NAMESIZE);
	int rc = -ENODEV;

	*ret_link = (struct netlink_link){0};
	/* The kernel refuses a longer name as nonsense; there is no device of that name. */
	if (len < IF_NAMESIZE) {
		put(&req, IFLA_IFNAME, name, len + 1);
		rc = transact(nl, &req, read_link, ret_link);
	}
	if (rc == 0 && ret_link->index <= 0)
		rc = -EPROTO;
	if (rc < 0)
		return err_set_errno(err, rc, "%s: cannot look up the network device", name);
	snprintf(ret_link->name, sizeof(ret_link->name), "%s", name);
	return 0;
}

static struct request link_change(const struct netlink_link *link)
{
	struct request req = request(RTM_NEWLINK, 0, sizeof(req.body.link));

	req.body.link.ifi_index = link->index;
	return req;
}

int netlink_set_mac(struct netlink *nl, const struct netlink_link *link, const uint8_t mac[6],
		    struct err *err)
{
	struct request req = link_change(link);
	int rc;

	put(&req, IFLA_ADDRESS, mac, 6);
	rc = transact(nl, &req, NULL, NULL);
	if (rc < 0)
		return err_set_errno(err, rc,
				     "%s: cannot set MAC address %02x:%02x:%02x:%02x:%02x:%02x",
				     link->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return 0;
}

int netlink_set_mtu(struct netlink *nl, const struct netlink_link *link, unsigned mtu,
		    struct err *err)
{
	struct request req = link_change(link);
	uint32_t value = mtu;
	int rc;

	put(&req, IFLA_MTU, &value, sizeof(value));
	rc = transact(nl, &req, NULL, NULL);
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot set MTU %u", link->name, mtu) : 0;
}

int netlink_set_up(struct netlink *nl, const struct netlink_link *link, bool up, struct err *err)
{
	struct request req = link_change(link);
	int rc;

	req.body.link.ifi_change = IFF_UP;
	req.body.link.ifi_flags = up ? IFF_UP : 0;
	rc = transact(nl, &req, NULL, NULL);
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot bring the link %s", link->name,
				      up ? "up" : "down")
		      : 0;
}

/* --- addresses ------------------------------------------------------------------------------ */

static int change_address(struct netlink *nl, uint16_t type, uint16_t flags,
			  const struct netlink_link *link, const struct netlink_address *address)
{
	struct request req = request(type, flags, sizeof(req.body.addr));
	size_t len = address->family == AF_INET ? 4 : 16;

	req.body.addr.ifa_family = (uint8_t)address->family;
	req.body.addr.ifa_prefixlen = (uint8_t)address->prefix_len;
	req.body.addr.ifa_index = (uint32_t)link->index;
	put(&req, IFA_LOCAL, address->bytes, len);
	/* The same as the other end of the link: there is none in particular. */
	put(&req, IFA_ADDRESS, address->bytes, len);
	return transact(nl, &req, NULL, NULL);
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
