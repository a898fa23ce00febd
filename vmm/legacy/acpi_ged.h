/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register behind the ACPI generic event device (ACPI 6.5, 5.6.9): one byte of MMIO, the AML
 * field GEC_, that says what happened and is cleared by reading, and an edge interrupt.
 */
#ifndef VMM_LEGACY_ACPI_GED_H
#define VMM_LEGACY_ACPI_GED_H

#include "vmm/bus/device.h"

enum acpi_ged_event {
	ACPI_GED_CPU = 1,
	ACPI_GED_MEMORY = 2,
	ACPI_GED_PCI = 4,
	ACPI_GED_POWER_BUTTON = 8,
};

/* At `mmio_address`, with the interrupt at IOAPIC pin `gsi`. Id "__ged". Returns 0, -ENOMEM. */
int acpi_ged_new(const struct device_host *host, uint64_t mmio_address, unsigned gsi,
		 struct device **ret_dev, struct err *err);

/* Something happened: `events` are bits of enum acpi_ged_event. Any thread, while realized. */
void acpi_ged_notify(struct device *dev, unsigned events);

#endif
