/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine as devices see it, for their tests: real loop, memory, buses, and where the host has
 * KVM a VM with its interrupt router and a PCI segment. The test's thread is the main loop's.
 */
#ifndef TESTS_UNIT_DEVICE_FIXTURE_H
#define TESTS_UNIT_DEVICE_FIXTURE_H

#include "tests/unit/vring_driver.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/device.h"
#include "vmm/virtio/virtio.h"

struct pci_segment;

#define FIXTURE_MEMORY_BYTES (2 * MIB)
#define FIXTURE_RINGS	     0x1000 /* free below FIXTURE_DATA */
#define FIXTURE_DATA	     0x100000

struct device_fixture {
	struct device_host host;
	struct pci_segment *segment; /* NULL without KVM */
	atomic_uint activated;	     /* events from devices */
	atomic_uint resets;
};

/* Where there is no KVM, says so and skips the test. Before anything is allocated. */
void device_fixture_require_kvm(void);

/* Sets *f up; asserts on failure. with_kvm: host.kvm, host.irq and segment too. */
void device_fixture_init(struct device_fixture *f, bool with_kvm);
void device_fixture_fini(struct device_fixture *f);

/* Runs the main loop until cond(arg), 5 seconds at most. Returns whether it came true. */
bool device_fixture_run(struct device_fixture *f, bool (*cond)(void *arg), void *arg);

/* Runs the main loop for so long. */
void device_fixture_run_ms(struct device_fixture *f, unsigned ms);

/* Brings the device to rest and waits for it; asserts that it gets there. */
void device_fixture_quiesce(struct device_fixture *f, struct device *dev);

/* Quiesces, unrealizes and frees. */
void device_fixture_end(struct device_fixture *f, struct device *dev);

/* Counts what a device tells its transport, for tests without PCI. */
struct transport_counts {
	atomic_uint queues[VIRTIO_MAX_QUEUES];
	atomic_uint config;
	atomic_bool active;
};

void transport_counts_connect(struct transport_counts *t, struct virtio_device *vdev);

/* The driver's steps. Start: reset, features (VERSION_1 is added), FEATURES_OK. Each asserts that
 * the device accepts. */
void driver_negotiate(struct virtio_device *vdev, uint64_t features);
void driver_enable_queue(struct virtio_device *vdev, unsigned queue, const struct vring_driver *d);
void driver_ok(struct virtio_device *vdev);
/* Asks for a reset and waits until the status reads 0. */
void driver_reset(struct device_fixture *f, struct virtio_device *vdev);

/* Runs the main loop until the device has answered a chain, and takes the answer. Returns false
 * after 5 seconds without. */
bool driver_wait_used(struct device_fixture *f, struct vring_driver *d, uint32_t *ret_id,
		      uint32_t *ret_len);

#endif
