/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic as a PCI function (1b36:0011): a byte through which the guest says that it panicked. Bits
 * as in the kernel's uapi header linux/pvpanic.h: 0 panicked, 1 a crash kernel takes over, 2 an
 * orderly shutdown.
 */
#ifndef VMM_LEGACY_PVPANIC_PCI_H
#define VMM_LEGACY_PVPANIC_PCI_H

#include "vmm/bus/device.h"

struct pci_device;
struct pci_segment;

/* Plugged at realize into `segment` (outlives it) at `slot` (-1: lowest free). Id "__pvpanic".
 * Returns 0, -ENOMEM. */
int pvpanic_pci_new(const struct device_host *host, struct pci_segment *segment, int slot,
		    struct device **ret_dev, struct err *err);

/* The PCI function of a device made by pvpanic_pci_new(). */
struct pci_device *pvpanic_pci_function(struct device *dev);

#endif
