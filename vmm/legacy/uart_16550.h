/* SPDX-License-Identifier: Apache-2.0 */
/*
 * National Semiconductor PC16550D UART at COM1 (ports 0x3f8 to 0x3ff, IOAPIC pin 4). Registers and
 * interrupts as in the data sheet, section 8; a line without time: what is transmitted is gone at
 * once, baud rate and frame format are kept but mean nothing.
 */
#ifndef VMM_LEGACY_UART_16550_H
#define VMM_LEGACY_UART_16550_H

#include "vmm/bus/device.h"

struct chardev;

/*
 * A UART with its line at `chardev` (borrowed, outlives it; NULL: output is dropped). Id
 * "__serial". It takes input from the chardev between resume() and quiesce(). Any thread. Returns
 * 0, -ENOMEM.
 */
int uart_16550_new(const struct device_host *host, struct chardev *chardev, struct device **ret_dev,
		   struct err *err);

#endif
