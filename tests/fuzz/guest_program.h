/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's driver, and the machine's life around it, as a program of bytes, for every virtio
 * device. All is little endian.
 *
 *   00 queue n {kind addr16 len16}*n  a chain of n % 8 + 1 buffers is offered; see buffer_at()
 *   01 addr16 n bytes		       bytes are written to the data area
 *   02 queue index16 addr64 len32 flags16 next16   one descriptor
 *   03 queue head16		       a head is offered
 *   04 queue index16		       the available index jumps
 *   05 mask64			       reset, features offered & mask, up to FEATURES_OK
 *   06 queue size kind		       the queue is enabled with 2 ^ (size % 9) entries
 *   07				       DRIVER_OK
 *   08 queue			       a kick, after which the device's threads have their turn
 *   09				       reset by the driver
 *   0a				       pause, save, load what was saved, resume
 *   0b offset16 len		       the configuration space is read, ...
 *   0c offset16 len value64	       ... written
 *   0d n bytes			       bytes (or none) come from the host's side; the same
 *   0e n16 bytes		       pause, load that as the device's state, resume or reset
 *   0f queue flags16 event16	       flags of the available ring, and used_event
 *
 * Whatever it did, the device is reset in the end, and must come to rest.
 */
#ifndef TESTS_FUZZ_GUEST_PROGRAM_H
#define TESTS_FUZZ_GUEST_PROGRAM_H

#include "tests/unit/device_fixture.h"

struct fuzz_guest {
	struct device_fixture f;
	struct transport_counts transport;
	struct virtio_device *vdev; /* the caller's, realized by fuzz_guest_init() */
	struct vring_driver rings[VIRTIO_MAX_QUEUES];
	/* The host's end of the device; may be NULL. */
	void (*host_input)(void *arg, const uint8_t *data, size_t len);
	void *arg;
};

/* Memory, loop, buses; a log that is silent. Before the device is made. Aborts on failure. */
void fuzz_machine_init(struct device_fixture *f);

/* Takes g->vdev into use. */
void fuzz_guest_init(struct fuzz_guest *g);

void fuzz_guest_run(struct fuzz_guest *g, const uint8_t *data, size_t size);

/* Brings a device to rest. */
void fuzz_quiesce(struct device_fixture *f, struct device *dev);

#endif
