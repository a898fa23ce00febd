/* SPDX-License-Identifier: Apache-2.0 */
/* Any of the virtio devices on a real backend, for tests of what a hostile driver can do to all of
 * them: the same steps, whatever the device. */
#ifndef TESTS_UNIT_HOSTILE_RIG_H
#define TESTS_UNIT_HOSTILE_RIG_H

#include "tests/unit/device_fixture.h"

struct block;
struct chardev;
struct net_fixture;

#define HOSTILE_RING_SIZE  16
#define HOSTILE_DATA	   (FIXTURE_DATA + 64 * KIB) /* at the driver's disposal */
#define HOSTILE_DATA_BYTES (512 * KIB)

struct hostile_rig {
	const struct hostile_kind *kind;
	struct device_fixture *f;
	struct virtio_device *vdev;
	struct vring_driver rings[VIRTIO_MAX_QUEUES];
	struct transport_counts transport;
	struct device_fixture own; /* where the backend brings none */
	struct block *image;
	struct chardev *chardev;
	int terminal;
	struct net_fixture *net;
};

struct hostile_kind {
	const char *name;
	unsigned num_queues; /* that work has to do with */
	void (*make)(struct hostile_rig *rig);
	void (*end)(struct hostile_rig *rig);
	/* Something comes from the host, and what the guest has sent there is thrown away. May be
	 * NULL. */
	void (*provoke)(struct hostile_rig *rig);
	/* Offers a sound request on `queue`, without a kick. */
	void (*offer)(struct hostile_rig *rig, unsigned queue);
};

extern const struct hostile_kind hostile_rng, hostile_console, hostile_blk, hostile_net;

/* A device that is realized, its driver not started. Skips the test where the host cannot. */
struct hostile_rig *hostile_rig_new(const struct hostile_kind *kind);
void hostile_rig_end(struct hostile_rig *rig);

/* The driver takes all features that are offered, lays its rings, sets DRIVER_OK. Returns whether
 * the device went along; it need not (paused, in the middle of a reset). */
bool hostile_bring_up(struct hostile_rig *rig);

/* Resets the device, brings it up, and has a sound request on each queue answered. */
void hostile_assert_works(struct hostile_rig *rig);

bool hostile_needs_reset(void *vdev);

/* Bytes that the process has allocated. */
size_t hostile_heap_bytes(void);

/* Numbers that look random; *state is not 0. */
uint32_t hostile_random(uint32_t *state);

#endif
