/* SPDX-License-Identifier: Apache-2.0 */
/* A network device on a real tap in a network namespace of the test's own, the driver's rings in
 * guest memory, and a packet socket at the host's end of the tap. */
#ifndef TESTS_UNIT_NET_FIXTURE_H
#define TESTS_UNIT_NET_FIXTURE_H

#include "net/tap.h"
#include "tests/unit/device_fixture.h"
#include "vmm/virtio/virtio_net.h"

#include <linux/virtio_net.h>

#define NET_QUEUE_SIZE 64
#define NET_HEADER     12
#define NET_BIT(n)     (1ull << VIRTIO_NET_F_##n)

struct net_fixture {
	struct device_fixture f;
	struct tap tap;
	struct virtio_net_params params;
	struct virtio_device *vdev;
	struct transport_counts transport;
	struct vring_driver rings[VIRTIO_MAX_QUEUES]; /* as the device numbers them */
	int sock;
};

/* A tap with as many queues, up and without a word of its own; a device that is realized. Skips the
 * test where that is not to be had. */
struct net_fixture *net_fixture_new(unsigned num_pairs);
void net_fixture_end(struct net_fixture *t);

/* Another device on the same tap, after the one before has ended. */
void net_fixture_make_device(struct net_fixture *t);

/* The driver negotiates, lays out its queues (all of them, or the first three without MQ) and sets
 * DRIVER_OK, in two steps for tests that offer buffers in between. */
void net_fixture_negotiate(struct net_fixture *t, uint64_t features);
void net_fixture_start(struct net_fixture *t, uint64_t features);

static inline uint8_t *guest_bytes(struct net_fixture *t, uint64_t addr)
{
	void *p = NULL;

	guest_memory_map(t->f.host.memory, gpa(addr), 1, GUEST_WRITE, &p);
	return p;
}

/* Offers receive buffers of `len` bytes, one behind the other from `addr` on, and kicks. */
void net_offer(struct net_fixture *t, unsigned queue, uint64_t addr, uint32_t len, unsigned num);

/* The next answer's length; fails the test when none comes. */
uint32_t net_wait_used(struct net_fixture *t, unsigned queue);

/* That no answer comes within 50 ms. */
void net_expect_none(struct net_fixture *t, unsigned queue);

/* Sends from the host / waits at the host for a UDP frame of `len` bytes. */
void net_host_send(struct net_fixture *t, uint16_t port, size_t len);
void net_host_expect(struct net_fixture *t, uint16_t port, size_t len);

/* That the received bytes from addr on are that frame, behind a header. */
void net_expect_frame(struct net_fixture *t, uint64_t addr, uint16_t port, size_t len);

/* Lays a header of zeroes and that frame at `addr`; returns bytes. */
uint32_t net_lay_frame(struct net_fixture *t, uint64_t addr, uint16_t port, size_t len);

/* Offers one readable buffer on a transmit queue, and kicks. */
void net_transmit(struct net_fixture *t, unsigned queue, uint64_t addr, uint32_t len);

/* A control command: bytes with class and command first. Returns the device's answer. */
uint8_t net_command(struct net_fixture *t, unsigned queue, const void *command, uint32_t len);

/* A member of the device's counters. */
int64_t net_counter(struct net_fixture *t, const char *name);

/* That the device asks for a reset; gives it one. */
void net_expect_needs_reset(struct net_fixture *t);

#endif
