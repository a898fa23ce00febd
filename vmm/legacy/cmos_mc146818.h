/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Motorola MC146818 real-time clock with its CMOS RAM, ports 0x70 (index) and 0x71 (data): the time
 * in UTC, and the memory sizes that firmware looks for. There is no IRQ 8; flags can be polled.
 */
#ifndef VMM_LEGACY_CMOS_MC146818_H
#define VMM_LEGACY_CMOS_MC146818_H

#include "vmm/bus/device.h"

/* Sizes are taken from host->memory. Id "__cmos". Returns 0, -ENOMEM. */
int cmos_mc146818_new(const struct device_host *host, struct device **ret_dev, struct err *err);

#endif
