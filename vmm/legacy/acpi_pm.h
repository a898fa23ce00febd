/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fixed registers of a hardware-reduced ACPI machine (ACPI 6.5, 4.8.3.5 and 4.8.3.6): port
 * 0x600, where writing 1 resets and 0x34 (sleep type 5, sleep enable) powers off, and the 32-bit
 * power management timer at port 0x608, 3.579545 MHz, which stands still while the machine is
 * paused.
 */
#ifndef VMM_LEGACY_ACPI_PM_H
#define VMM_LEGACY_ACPI_PM_H

#include "vmm/bus/device.h"

#define ACPI_PM_TIMER_HZ 3579545U

/* Id "__acpi_pm". Returns 0, -ENOMEM. */
int acpi_pm_new(const struct device_host *host, struct device **ret_dev, struct err *err);

#endif
