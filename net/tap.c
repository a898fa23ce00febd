/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A tap that nobody made persistent lives as long as one of its queues is open. So a failure needs
 * no more than closing what was opened, if the tap was made here; one that was found gets back the
 * properties that it had, newest change first.
 *
 * A queue's name is known to the kernel's driver, its properties to rtnetlink, which sees one
 * network namespace. A given fd may come from another one, where its name means another device;
 * both are asked for the MAC address, and what differs is not touched.
 */
#include "net/tap.h"

#include "base/fd.h"
#include "net/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TUN_PATH      "/dev/net/tun"
#define NAME_TEMPLATE "vmtap%d"
#define QUEUE_FLAGS   (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static_assert(TAP_NAME_MAX == IF_NAMESIZE, "the kernel's names fit");

/* --- queues --------------------------------------------------------------------------------- */

static int tun_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

/* Not for strings that were checked before: the kernel's names may be as long as the field. */
static void set_ifr_name(struct ifreq *ifr, const char *name)
{
	memset(ifr, 0, sizeof(*ifr));
	memcpy(ifr->ifr_name, name, strnlen(name, IF_NAMESIZE - 1));
}

static int open_tun(int *ret_fd, struct err *err)
{
	int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_set_errno(err, -errno, "cannot open %s", TUN_PATH);
	*ret_fd = fd;
	return 0;
}

static int attach(int fd, const char *name, unsigned flags, char ret_name[TAP_NAME_MAX])
{
	struct ifreq ifr;
	int rc;

	set_ifr_name(&ifr, name);
	ifr.ifr_flags = (short)flags;
	rc = tun_ioctl(fd, TUNSETIFF, &ifr);
	if (rc == 0)
		memcpy(ret_name, ifr.ifr_name, TAP_NAME_MAX);
	return rc;
}

static int cannot_attach(int rc, const char *name, unsigned num_queues, struct err *err)
{
	switch (rc) {
	case -EINVAL:
		return err_set(err, rc,
			       num_queues > 1 ? "%s: is no tap, or none that was made multi-queue"
					      : "%s: is no tap",
			       name);
	case -EBUSY: return err_set(err, rc, "%s: is in use by another process", name);
	case -E2BIG: return err_set(err, rc, "%s: has all queues that a tap can have", name);
	default: return err_set_errno(err, rc, "%s: cannot attach to the tap", name);
	}
}

/*
 * The first queue makes the tap or finds it. A single queue also fits a tap that was made
 * multi-queue, which takes only fds that say so.
 */
static int open_first_queue(struct tap *tap, const char *name, struct err *err)
{
	unsigned flags = QUEUE_FLAGS | (tap->num_queues > 1 ? IFF_MULTI_QUEUE : 0);
	AUTO_FD int fd = -1;
	int rc = open_tun(&fd, err);

	if (rc < 0)
		return rc;
	rc = attach(fd, name, flags | IFF_TUN_EXCL, tap->name);
	tap->created = rc == 0;
	if (rc == -EBUSY)
		rc = attach(fd, name, flags, tap->name);
	if (rc == -EINVAL && tap->num_queues == 1)
		rc = attach(fd, name, flags | IFF_MULTI_QUEUE, tap->name);
	if (rc < 0)
		return cannot_attach(rc, name, tap->num_queues, err);
	tap->fds[0] = TAKE_FD(fd);
	return 0;
}

static int open_further_queues(struct tap *tap, struct err *err)
{
	for (unsigned i = 1; i < tap->num_queues; i++) {
		char name[TAP_NAME_MAX];
		int rc = open_tun(&tap->fds[i], err);

		if (rc < 0)
			return err_wrap(err, rc, "%s: queue %u", tap->name, i);
		rc = attach(tap->fds[i], tap->name, QUEUE_FLAGS | IFF_MULTI_QUEUE, name);
		if (rc < 0) {
			cannot_attach(rc, tap->name, tap->num_queues, err);
			return err_wrap(err, rc, "%s: queue %u", tap->name, i);
		}
	}
	return 0;
}

static int check_name(const char *name, struct err *err)
{
	size_t len = strlen(name);

	if (!len || len >= TAP_NAME_MAX || strpbrk(name, "/: \t\n"))
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "\"%s\" cannot be the name of a tap", name);
	return 0;
}

static int open_by_name(struct tap *tap, const char *name, struct err *err)
{
	int rc = check_name(name, err);

	if (rc == 0)
		rc = open_first_queue(tap, name, err);
	if (rc == 0)
		rc = open_further_queues(tap, err);
	return rc;
}

/* A macvtap's queue is opened ready for use, and told afterwards what its frames look like. */
static int require_flags(int fd, struct ifreq *ifr, struct err *err)
{
	unsigned flags = (unsigned short)ifr->ifr_flags;

	if ((flags & QUEUE_FLAGS) == QUEUE_FLAGS)
		return 0;
	if (flags & IFF_TAP) {
		ifr->ifr_flags = (short)(QUEUE_FLAGS | (flags & IFF_MULTI_QUEUE));
		if (tun_ioctl(fd, TUNSETIFF, ifr) == 0)
			return 0;
	}
	return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
			    "%s: its fd was not opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
			    ifr->ifr_name);
}

static int take_given_queue(struct tap *tap, unsigned i, int given, struct err *err)
{
	struct ifreq ifr = {.ifr_flags = 0};
	int rc = fd_dup(given);

	if (rc < 0)
		return err_set_errno(err, rc, "cannot duplicate fd %d", given);
	tap->fds[i] = rc;
	rc = tun_ioctl(tap->fds[i], TUNGETIFF, &ifr);
	if (rc < 0)
		return err_set_kind(err, ERR_BAD_REQUEST, rc, "fd %d is no tap or macvtap", given);
	ifr.ifr_name[IF_NAMESIZE - 1] = '\0';
	rc = require_flags(tap->fds[i], &ifr, err);
	if (rc < 0)
		return rc;
	if (i == 0)
		memcpy(tap->name, ifr.ifr_name, TAP_NAME_MAX);
	else if (strcmp(tap->name, ifr.ifr_name) != 0)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "the fds belong to %s and %s; one device must have them all",
				    tap->name, ifr.ifr_name);
	rc = fd_set_nonblock(tap->fds[i], true);
	return rc < 0 ? err_set_errno(err, rc, "%s: cannot make its fd non-blocking", tap->name)
		      : 0;
}

static int take_given(struct tap *tap, const int *fds, struct err *err)
{
	for (unsigned i = 0; i < tap->num_queues; i++) {
		int rc = take_given_queue(tap, i, fds[i], err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* What precedes each frame, and that no frame needs more than it says until someone asks for that.
 */
static int set_frame_format(struct tap *tap, unsigned vnet_hdr_len, struct err *err)
{
	for (unsigned i = 0; i < tap->num_queues; i++) {
		int len = (int)vnet_hdr_len, little_endian = 1;
		int rc = tun_ioctl(tap->fds[i], TUNSETVNETHDRSZ, &len);

		if (rc < 0)
			return err_set_errno(err, rc, "%s: cannot set a vnet header of %u bytes",
					     tap->name, vnet_hdr_len);
		rc = tun_ioctl(tap->fds[i], TUNSETVNETLE, &little_endian);
		if (rc < 0)
			return err_set_errno(err, rc, "%s: cannot set a little-endian vnet header",
					     tap->name);
	}
	return 0;
}

/* --- the host's side ------------------------------------------------------------------------- */

/* Changes made to a device, for when a later one fails. */
struct undo {
	struct netlink_link before;
	struct netlink_address address;
	bool address_added;
	bool mac_set;
	bool mtu_set;
};

/* The number of leading ones in a mask, or -EINVAL when ones follow a zero. */
static int prefix_of(const uint8_t *mask, unsigned bytes)
{
	unsigned len = 0;

	while (len < bytes * 8 && mask[len / 8] >> (7 - len % 8) & 1)
		len++;
	for (unsigned i = len; i < bytes * 8; i++)
		if (mask[i / 8] >> (7 - i % 8) & 1)
			return -EINVAL;
	return (int)len;
}

static int parse_address(const char *ip, const char *mask, struct netlink_address *ret,
			 struct err *err)
{
	uint8_t mask_bytes[16];
	int prefix;

	if (!mask)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "address %s has no mask", ip);
	ret->family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(ret->family, ip, ret->bytes) != 1)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "\"%s\" is no IP address", ip);
	if (inet_pton(ret->family, mask, mask_bytes) != 1)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "\"%s\" is no mask for %s", mask,
				    ip);
	prefix = prefix_of(mask_bytes, ret->family == AF_INET ? 4 : 16);
	if (prefix < 0)
		return err_set_kind(err, ERR_BAD_REQUEST, prefix, "mask %s has holes", mask);
	ret->prefix_len = (unsigned)prefix;
	return 0;
}

static int apply_mac_and_mtu(struct netlink *nl, const struct tap_params *params, struct undo *undo,
			     struct err *err)
{
	const struct netlink_link *link = &undo->before;
	int rc;

	if (params->host_mac && (!link->has_mac || memcmp(link->mac, params->host_mac, 6) != 0)) {
		rc = netlink_set_mac(nl, link, params->host_mac, err);
		if (rc < 0)
			return rc;
		undo->mac_set = true;
	}
	if (params->mtu && link->mtu != params->mtu) {
		rc = netlink_set_mtu(nl, link, params->mtu, err);
		if (rc < 0)
			return rc;
		undo->mtu_set = true;
	}
	return 0;
}

static int apply_address(struct netlink *nl, const struct tap_params *params, struct undo *undo,
			 struct err *err)
{
	int rc;

	if (!params->ip)
		return 0;
	rc = parse_address(params->ip, params->mask, &undo->address, err);
	if (rc < 0)
		return rc;
	rc = netlink_add_address(nl, &undo->before, &undo->address, err);
	if (rc < 0)
		return err_wrap(err, rc, "address %s mask %s", params->ip, params->mask);
	undo->address_added = rc > 0;
	return 0;
}

/* As far as it goes: the failure that led here is the one to tell. */
static void revert(struct netlink *nl, const struct undo *undo)
{
	const struct netlink_link *link = &undo->before;

	if (undo->address_added)
		netlink_del_address(nl, link, &undo->address, NULL);
	if (undo->mtu_set)
		netlink_set_mtu(nl, link, link->mtu, NULL);
	if (undo->mac_set && link->has_mac)
		netlink_set_mac(nl, link, link->mac, NULL);
}

static void remember(struct tap *tap, const struct netlink_link *link,
		     const struct tap_params *params)
{
	memcpy(tap->host_mac, params->host_mac ? params->host_mac : link->mac,
	       sizeof(tap->host_mac));
	tap->mtu = params->mtu ? params->mtu : link->mtu;
}

static int configure_named(struct tap *tap, const struct tap_params *params, struct err *err)
{
	AUTO_NETLINK struct netlink *nl = NULL;
	struct undo undo = {.address_added = false};
	int rc = netlink_open(&nl, err);

	if (rc == 0)
		rc = netlink_get_link(nl, tap->name, &undo.before, err);
	if (rc < 0)
		return rc;
	rc = apply_mac_and_mtu(nl, params, &undo, err);
	if (rc == 0)
		rc = apply_address(nl, params, &undo, err);
	if (rc == 0 && !undo.before.up)
		rc = netlink_set_up(nl, &undo.before, true, err);
	if (rc < 0) {
		if (!tap->created)
			revert(nl, &undo);
		return err_wrap(err, rc, "%s: cannot configure the tap", tap->name);
	}
	remember(tap, &undo.before, params);
	return 0;
}

/* Whether rtnetlink's device of that name is the one behind the fd. */
static bool same_device(const struct tap *tap, const struct netlink_link *link)
{
	struct ifreq ifr;

	set_ifr_name(&ifr, tap->name);
	return tun_ioctl(tap->fds[0], SIOCGIFHWADDR, &ifr) == 0 && link->has_mac &&
	       memcmp(ifr.ifr_hwaddr.sa_data, link->mac, sizeof(link->mac)) == 0;
}

static int configure_given(struct tap *tap, const struct tap_params *params, struct err *err)
{
	AUTO_NETLINK struct netlink *nl = NULL;
	struct undo undo = {.address_added = false};
	int rc;

	if (!params->host_mac && !params->mtu)
		return 0;
	rc = netlink_open(&nl, err);
	if (rc < 0)
		return rc;
	rc = netlink_get_link(nl, tap->name, &undo.before, err);
	if (rc == 0 && !same_device(tap, &undo.before))
		rc = err_set(err, -ENODEV, "%s: its fd comes from another network namespace",
			     tap->name);
	if (rc == 0)
		rc = apply_mac_and_mtu(nl, params, &undo, err);
	if (rc < 0) {
		revert(nl, &undo);
		return err_wrap(err, rc, "%s: cannot change the given tap", tap->name);
	}
	remember(tap, &undo.before, params);
	return 0;
}

/* --- life ----------------------------------------------------------------------------------- */

int tap_open(const struct tap_params *params, struct tap *ret_tap, struct err *err)
{
	struct tap tap = {.num_queues = params->num_queues};
	int rc;

	if (!tap.num_queues || tap.num_queues > TAP_MAX_QUEUES)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "a tap has between 1 and %u queues, not %u", TAP_MAX_QUEUES,
				    tap.num_queues);
	atomic_init(&tap.num_active, tap.num_queues);
	for (unsigned i = 0; i < TAP_MAX_QUEUES; i++)
		tap.fds[i] = -1;
	rc = params->fds ? take_given(&tap, params->fds, err)
			 : open_by_name(&tap, params->name ? params->name : NAME_TEMPLATE, err);
	if (rc == 0)
		rc = set_frame_format(&tap, params->vnet_hdr_len, err);
	if (rc == 0) {
		rc = tap_set_offload(&tap, 0);
		if (rc < 0)
			err_set_errno(err, rc, "%s: cannot set its offloads", tap.name);
	}
	if (rc == 0)
		rc = params->fds ? configure_given(&tap, params, err)
				 : configure_named(&tap, params, err);
	if (rc < 0) {
		tap_close(&tap);
		return rc;
	}
	*ret_tap = tap;
	return 0;
}

void tap_close(struct tap *tap)
{
	for (unsigned i = 0; i < tap->num_queues; i++)
		fd_close(&tap->fds[i]);
	tap->num_queues = 0;
}

/* --- frames ----------------------------------------------------------------------------------- */

/* A single buffer spares the kernel the array. */
static ssize_t transfer(long one, long many, int fd, const struct iovec *iov, unsigned n)
{
	long rc;

	do
		rc = n == 1 ? syscall(one, fd, iov->iov_base, iov->iov_len)
			    : syscall(many, fd, iov, n);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

ssize_t tap_read(int fd, const struct iovec *iov, unsigned n)
{
	return transfer(SYS_read, SYS_readv, fd, iov, n);
}

ssize_t tap_write(int fd, const struct iovec *iov, unsigned n)
{
	return transfer(SYS_write, SYS_writev, fd, iov, n);
}

/* --- what the guest chooses ------------------------------------------------------------------- */

int tap_set_offload(struct tap *tap, unsigned tun_flags)
{
	unsigned active = atomic_load(&tap->num_active);

	/* The detached ones belong to the same device. */
	for (unsigned i = 0; i < active; i++)
		if (ioctl(tap->fds[i], TUNSETOFFLOAD, (unsigned long)tun_flags) < 0)
			return -errno;
	return 0;
}

static int set_queue(int fd, unsigned flags)
{
	struct ifreq ifr = {.ifr_flags = (short)flags};

	return tun_ioctl(fd, TUNSETQUEUE, &ifr);
}

int tap_set_active_queues(struct tap *tap, unsigned num)
{
	unsigned active = atomic_load(&tap->num_active);
	int rc = 0;

	if (!num || num > tap->num_queues)
		return -EINVAL;
	while (rc == 0 && active < num) {
		rc = set_queue(tap->fds[active], IFF_ATTACH_QUEUE);
		active += rc == 0;
	}
	while (rc == 0 && active > num) {
		rc = set_queue(tap->fds[active - 1], IFF_DETACH_QUEUE);
		active -= rc == 0;
	}
	atomic_store(&tap->num_active, active);
	return rc;
}
