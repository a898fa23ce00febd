/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of a tap: sends frames into it, or sends back what comes out, until it is killed.
 *
 *   netload INTERFACE flood BYTES    frames of BYTES; above 1514 as TCP segments not yet cut
 *   netload INTERFACE echo
 *
 * A flood holds back for a moment whenever the interface has dropped something, so that it is about
 * as fast as whoever reads the tap. It sends nothing out of that one interface.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST	  64
#define MAX_FRAME 65226
#define MAX_PLAIN 1514
#define TYPE	  0x88b5 /* for experiments */
#define HOLD_NS	  300000

static struct {
	struct virtio_net_hdr header;
	uint8_t frame[MAX_FRAME];
} __attribute__((packed)) packet;

static void fail(const char *what)
{
	fprintf(stderr, "netload: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static int open_interface(const char *name)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
				      .sll_protocol = htons(TYPE),
				      .sll_ifindex = (int)if_nametoindex(name)};
	int on = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(TYPE));

	if (fd < 0 || !address.sll_ifindex ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(name);
	return fd;
}

/* Frames that the interface had no room for. */
static unsigned long long dropped(const char *name)
{
	static FILE *file;
	char line[512];
	unsigned long long n = 0;

	file = file ? freopen(NULL, "r", file) : fopen("/proc/self/net/dev", "r");
	if (!file)
		fail("/proc/self/net/dev");
	while (fgets(line, sizeof(line), file)) {
		const char *colon = strchr(line, ':');
		const char *start = line + strspn(line, " ");

		if (colon && (size_t)(colon - start) == strlen(name) &&
		    !strncmp(start, name, strlen(name)))
			sscanf(colon + 1, "%*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %llu", &n);
	}
	return n;
}

static void put16(size_t at, unsigned value)
{
	packet.frame[at] = (uint8_t)(value >> 8);
	packet.frame[at + 1] = (uint8_t)value;
}

static void make_segments(size_t bytes)
{
	packet.header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						.hdr_len = 54,
						.gso_size = 1448,
						.csum_start = 34,
						.csum_offset = 16};
	put16(12, 0x0800);
	packet.frame[14] = 0x45;
	put16(16, (unsigned)bytes - 14);
	packet.frame[22] = 64;
	packet.frame[23] = 6;
	packet.frame[46] = 0x50;
}

static void flood(int fd, const char *name, size_t bytes)
{
	struct iovec iov = {.iov_base = &packet, .iov_len = sizeof(packet.header) + bytes};
	const struct timespec hold = {.tv_nsec = HOLD_NS};
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name), .sll_halen = 6};
	struct mmsghdr burst[BURST] = {0};
	unsigned long long before = 0, now;

	memset(packet.frame, 2, 12);
	put16(12, TYPE);
	if (bytes > MAX_PLAIN)
		make_segments(bytes);
	address.sll_protocol = bytes > MAX_PLAIN ? htons(ETH_P_IP) : htons(TYPE);
	for (unsigned i = 0; i < BURST; i++)
		burst[i].msg_hdr = (struct msghdr){.msg_iov = &iov,
						   .msg_iovlen = 1,
						   .msg_name = &address,
						   .msg_namelen = sizeof(address)};
	for (;;) {
		if (sendmmsg(fd, burst, BURST, 0) < 0 && errno != ENOBUFS && errno != EAGAIN &&
		    errno != ENETDOWN && errno != EIO)
			fail("send");
		now = dropped(name);
		if (now != before)
			nanosleep(&hold, NULL);
		before = now;
	}
}

static void echo(int fd)
{
	for (;;) {
		struct sockaddr_ll from;
		socklen_t len = sizeof(from);
		ssize_t n =
			recvfrom(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&from, &len);

		if (n < 0 && errno != EINTR && errno != ENETDOWN)
			fail("receive");
		if (n > 0 && from.sll_pkttype != PACKET_OUTGOING &&
		    send(fd, &packet, (size_t)n, 0) < 0 && errno != ENOBUFS && errno != ENETDOWN &&
		    errno != EIO)
			fail("send");
	}
}

int main(int argc, char **argv)
{
	size_t bytes = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	int fd;

	if (argc < 3 || (strcmp(argv[2], "echo") && (bytes < 60 || bytes > MAX_FRAME))) {
		fprintf(stderr, "usage: netload INTERFACE flood BYTES | INTERFACE echo\n");
		return 2;
	}
	fd = open_interface(argv[1]);
	if (!strcmp(argv[2], "echo"))
		echo(fd);
	flood(fd, argv[1], bytes);
}
