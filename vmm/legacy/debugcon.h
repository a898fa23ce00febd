/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debug console: one port; what is written comes out at a character device or in the log, and a
 * read gives 0xe9, by which software recognises it. It is used for the debug console (port 0xe9
 * unless configured otherwise) and the port that firmware prints to (0x402).
 */
#ifndef VMM_LEGACY_DEBUGCON_H
#define VMM_LEGACY_DEBUGCON_H

#include "vmm/bus/device.h"

#define DEBUGCON_PORT_FIRMWARE 0x402

struct chardev;

/*
 * At `port`, with device id `id` (copied). Output goes to `chardev` (borrowed, outlives it), or,
 * when that is NULL, to the log at level info, line by line. Returns 0, -ENOMEM, -ENAMETOOLONG.
 */
int debugcon_new(const struct device_host *host, const char *id, uint16_t port,
		 struct chardev *chardev, struct device **ret_dev, struct err *err);

#endif
