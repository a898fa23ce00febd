/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device under a driver of any kind: see guest_program.h for the input. */
#include "tests/fuzz/guest_program.h"
#include "vmm/virtio/virtio_rng.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_guest g;

	if (!g.vdev) {
		fuzz_machine_init(&g.f);
		if (virtio_rng_new(&g.f.host, "rng", "/dev/zero", &g.vdev, NULL) < 0)
			abort();
		fuzz_guest_init(&g);
	}
	fuzz_guest_run(&g, data, size);
	return 0;
}
