/* SPDX-License-Identifier: Apache-2.0 */
/* For tests with network devices: a network namespace of the test's own. Include after cmocka.h. */
#ifndef TESTS_UNIT_NETNS_H
#define TESTS_UNIT_NETNS_H

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Goes there for good, with the threads that come after. Skips the test where that, or a tap, is
 * not to be had. */
static inline void netns_enter(void)
{
	if (access("/dev/net/tun", R_OK | W_OK) < 0) {
		print_message("skipped: /dev/net/tun: %s\n", strerror(errno));
		skip();
	}
	if (unshare(CLONE_NEWNET) < 0) {
		print_message("skipped: no network namespace: %s\n", strerror(errno));
		skip();
	}
}

/* The host's end of a device: what is sent there is received by the one who holds the tap, and the
 * other way round. Non-blocking. */
static inline int packet_socket(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));

	assert_true(sock >= 0);
	assert_true(address.sll_ifindex > 0);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	return sock;
}

/* A UDP datagram from port `port` to all, `len` bytes from its Ethernet header on. */
static inline void udp_frame(uint8_t *frame, size_t len, uint16_t port)
{
	static const uint8_t start[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00,
		/* IPv4, no fragment, TTL 64, UDP, 10.0.0.1 to 10.0.0.2 */
		0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};

	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(i * 7 + port);
	memcpy(frame, start, sizeof(start));
	frame[16] = (uint8_t)((len - 14) >> 8);
	frame[17] = (uint8_t)(len - 14);
	frame[34] = (uint8_t)(port >> 8);
	frame[35] = (uint8_t)port;
}

#endif
