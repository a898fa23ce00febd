/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of the keyboard controller: port 0x64, where writing 0xFE resets the machine, and
 * port 0x61, which reads 0x20. There is no keyboard behind it.
 */
#ifndef VMM_LEGACY_I8042_H
#define VMM_LEGACY_I8042_H

#include "vmm/bus/device.h"

/* Id "__i8042". Returns 0, -ENOMEM. */
int i8042_new(const struct device_host *host, struct device **ret_dev, struct err *err);

#endif
