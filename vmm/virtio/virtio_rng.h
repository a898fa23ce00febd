/* SPDX-License-Identifier: Apache-2.0 */
/* Entropy device (virtio 1.2, section 5.4): random bytes from a file of the host. */
#ifndef VMM_VIRTIO_VIRTIO_RNG_H
#define VMM_VIRTIO_VIRTIO_RNG_H

#include "vmm/virtio/virtio.h"

/*
 * A device named `id` whose bytes come from `src_path` ("/dev/urandom"), which is opened here. A
 * source that runs dry lets the driver wait. Worker thread. Returns 0 or negative errno; owned by
 * the caller as a device.
 */
int virtio_rng_new(const struct device_host *host, const char *id, const char *src_path,
		   struct virtio_device **ret_vdev, struct err *err);

#endif
