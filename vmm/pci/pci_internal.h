/* SPDX-License-Identifier: Apache-2.0 */
/* What pci_segment.c and pci_device.c share. */
#ifndef VMM_PCI_PCI_INTERNAL_H
#define VMM_PCI_PCI_INTERNAL_H

#include "vmm/pci/pci.h"

struct pci_segment {
	struct pci_segment_params params;
	struct bus *mmio;
	struct bus *pio; /* NULL: not reachable through ports */
	struct bus_range ecam;
	struct bus_range ports;
	_Atomic uint32_t config_address; /* 0xCF8 */
	pthread_rwlock_t lock;		 /* guards devices; taken before a device's lock */
	struct pci_device *devices[PCI_SLOTS];
	bool has_bridge;
	struct pci_device bridge;
};

/* A guest's access to the function's configuration space: len 1, 2 or 4, within one dword below
 * PCI_CONFIG_SIZE. Any thread. */
uint32_t pci_device_config_read(struct pci_device *pdev, unsigned offset, unsigned len);
void pci_device_config_write(struct pci_device *pdev, unsigned offset, uint32_t value,
			     unsigned len);

/* Brings every BAR on the bus or off it, as configuration space says now. Takes the lock. */
void pci_device_update_bars(struct pci_device *pdev);

/* Takes all BARs off the bus and waits for their handlers. Nobody else reaches the function. */
void pci_device_remove_bars(struct pci_device *pdev);

/* Whether the segment allows a BAR of this kind at [base, base + size). */
bool pci_segment_bar_allowed(const struct pci_segment *segment, uint64_t base, uint64_t size,
			     bool is64);

/* Lets BARs that found their place taken try again; `pdev` itself excepted (may be NULL). */
void pci_segment_retry_bars(struct pci_segment *segment, const struct pci_device *pdev);

/* Power-on state of registers; BARs follow by pci_device_update_bars(). */
void pci_device_set_home(struct pci_device *pdev, unsigned bar, uint64_t base);

#endif
