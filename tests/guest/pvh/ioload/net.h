/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GUEST_PVH_IOLOAD_NET_H
#define TESTS_GUEST_PVH_IOLOAD_NET_H

#include "tests/guest/pvh/ioload/virtio.h"

#define NET_MAX_FRAME 65226 /* 64 KiB of TCP in one, with headers */

struct net_work {
	uint32_t bytes; /* a frame, from its destination on */
	uint32_t depth; /* frames on their way at a time, up to QUEUE_SIZE */
	uint32_t ms;
};

/* Sends frames as fast as the device takes them. Those above 1514 bytes are TCP segments for the
 * device to cut. */
void net_send(uint32_t ecam, const struct net_work *work);

/* Takes what comes. */
void net_receive(uint32_t ecam, uint32_t ms);

/* Sends one frame, waits for one to come back, and so on. */
void net_echo(uint32_t ecam, const struct net_work *work);

#endif
