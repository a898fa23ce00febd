/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device under a driver of any kind: see guest_program.h for the input. At the host's
 * end are sockets that carry datagrams, as a tap's descriptors do; offloads are accepted as a tap
 * does. What comes from the host is a frame, several times over: see host_input().
 */
#include "net/tap.h"
#include "tests/fuzz/guest_program.h"
#include "vmm/virtio/virtio_net.h"

#include <linux/if_tun.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAIRS	    2
#define FRAME_BYTES 70000 /* more than a device takes */

static struct tap tap = {.name = "fuzz", .num_queues = PAIRS, .num_active = PAIRS, .mtu = 1500};
static int peers[PAIRS];

static void drain(int fd)
{
	char byte;

	while (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) >= 0)
		;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == TUNSETOFFLOAD || request == TUNSETQUEUE)
		return 0;
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

/* The first byte: bit 0 = to which queue, bits 1..3 = log4 of how many times, bit 4 = the host
 * takes what was sent to it. */
static void host_input(void *arg, const uint8_t *data, size_t len)
{
	static uint8_t frame[FRAME_BYTES];
	unsigned times = 1U << 2 * (data[0] >> 1 & 7);
	size_t bytes = 0;

	for (unsigned i = 0; i < times && bytes + len <= sizeof(frame); i++, bytes += len)
		memcpy(frame + bytes, data, len);
	for (unsigned i = 0; data[0] & 0x10 && i < PAIRS; i++)
		drain(peers[i]);
	send(peers[data[0] % PAIRS], frame, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void open_tap(void)
{
	for (unsigned i = 0; i < PAIRS; i++) {
		int ends[2];

		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
			abort();
		tap.fds[i] = ends[0];
		peers[i] = ends[1];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct virtio_net_params params = {
		.id = "net",
		.tap = &tap,
		.mac = {2, 0, 0, 0, 0, 1},
		.mtu = 1500,
		.num_queues = 2 * PAIRS,
		.queue_size = 256,
		.offload_tso = true,
		.offload_ufo = true,
		.offload_csum = true,
	};
	static struct fuzz_guest g = {.host_input = host_input};

	if (!g.vdev) {
		fuzz_machine_init(&g.f);
		open_tap();
		if (virtio_net_new(&g.f.host, &params, &g.vdev, NULL) < 0)
			abort();
		fuzz_guest_init(&g);
	}
	fuzz_guest_run(&g, data, size);
	for (unsigned i = 0; i < PAIRS; i++) {
		drain(peers[i]);
		drain(tap.fds[i]);
	}
	return 0;
}
