/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device as a guest reaches it: through configuration space and BAR 0 on the bus. The
 * device is a console, which has two queues. */
#ifndef TESTS_UNIT_PCI_GUEST_H
#define TESTS_UNIT_PCI_GUEST_H

#include "chardev/chardev.h"
#include "tests/unit/device_fixture.h"
#include "vmm/virtio/virtio_pci.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>

#define ISR	0x2000
#define DEVICE	0x4000
#define NOTIFY	0x6000
#define TABLE	0x8000
#define PBA	0x48000
#define SIZE	0x80000
#define RX	0
#define TX	1
#define QUEUES	2
#define SLOT	3
#define TX_DATA FIXTURE_DATA

#define ACK	    VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER	    VIRTIO_CONFIG_S_DRIVER
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

struct pci_guest {
	struct device_fixture f;
	struct chardev *chardev;
	struct virtio_device *vdev;
	struct device *node;
	struct vring_driver rings[QUEUES];
	uint64_t bar;
	bool bar32;
};

/* Skips the test where there is no KVM. */
struct pci_guest *guest_new(bool bar32);
void guest_free(struct pci_guest *t);

/* Accesses to BAR 0 and to configuration space; len 1, 2, 4 or 8. */
uint64_t guest_get(struct pci_guest *t, uint64_t offset, unsigned len);
void guest_set(struct pci_guest *t, uint64_t offset, uint64_t value, unsigned len);
uint32_t guest_config(struct pci_guest *t, unsigned offset, unsigned len);
void guest_set_config(struct pci_guest *t, unsigned offset, uint32_t value, unsigned len);
uint8_t guest_status(struct pci_guest *t);
void guest_set_status(struct pci_guest *t, uint8_t value);

/* Offset of the vendor capability of that type, or (type 0) of MSI-X. */
unsigned guest_find_capability(struct pci_guest *t, unsigned type);

/* A driver's steps: up to FEATURES_OK; up to DRIVER_OK with both queues, vector queue + 1 each;
 * reset, with the wait for it. */
void guest_negotiate(struct pci_guest *t);
void guest_bring_up(struct pci_guest *t);
void guest_reset(struct pci_guest *t);
bool guest_sees_reset(void *arg); /* of a struct pci_guest: the status reads 0 */

/* Puts four bytes into the transmit queue, without a kick. */
void guest_offer_output(struct pci_guest *t);

/* Output is offered, kicked and answered. */
void guest_assert_works(struct pci_guest *t);

#endif
