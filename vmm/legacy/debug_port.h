/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port 0x80: codes that a guest writes to mark how far its boot has come, logged with the time
 * since the device was made.
 */
#ifndef VMM_LEGACY_DEBUG_PORT_H
#define VMM_LEGACY_DEBUG_PORT_H

#include "vmm/bus/device.h"

/* Id "__debug_port". Returns 0, -ENOMEM. */
int debug_port_new(const struct device_host *host, struct device **ret_dev, struct err *err);

/* Who writes a code, by convention: "Firmware" (up to 0x1f), "Bootloader" (0x3f), "Kernel" (0x5f),
 * "Userspace" (0x7f), "Custom". */
const char *debug_port_class(uint8_t code);

#endif
