/* SPDX-License-Identifier: Apache-2.0 */
/* Console device with one port (virtio 1.2, section 5.3) on a character device of the host. */
#ifndef VMM_VIRTIO_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_VIRTIO_CONSOLE_H

#include "vmm/virtio/virtio.h"

struct chardev;

/*
 * A device named `id` on `chardev` (borrowed; outlives it). It attaches itself to the character
 * device while the guest's driver is up and not paused, on the main loop; at rest it is detached.
 * Returns 0 or negative errno; owned by the caller as a device.
 */
int virtio_console_new(const struct device_host *host, const char *id, struct chardev *chardev,
		       struct virtio_device **ret_vdev, struct err *err);

#endif
