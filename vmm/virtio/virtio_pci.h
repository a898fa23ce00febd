/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio over PCI, modern only (virtio 1.2, section 4.1): BAR0 with common configuration at 0, ISR
 * at 0x2000, device configuration at 0x4000, notification at 0x6000 (multiplier 4), MSI-X table at
 * 0x8000, PBA at 0x48000; one ioeventfd a queue.
 */
#ifndef VMM_VIRTIO_VIRTIO_PCI_H
#define VMM_VIRTIO_VIRTIO_PCI_H

#include "vmm/pci/msix.h"
#include "vmm/virtio/virtio.h"

/*
 * The transport node "_virtio-pci-<id>" for `vdev` (borrowed; must outlive it), plugged at realize
 * into `segment` at `slot` (-1: lowest free); bar32: BAR0 below 4 GiB. Returns 0 or negative errno;
 * owned by the caller as a device.
 */
int virtio_pci_new(const struct device_host *host, struct virtio_device *vdev,
		   struct pci_segment *segment, int slot, bool bar32, struct device **ret_dev,
		   struct err *err);

/* The PCI function of a device made by virtio_pci_new(), for BDF and BARs. */
struct pci_device *virtio_pci_function(struct device *dev);

#endif
