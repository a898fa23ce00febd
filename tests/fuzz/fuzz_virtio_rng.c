/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device under a driver of any kind: see guest_program.h for the input. Its source is a
 * pipe, which is dry until something comes from the host. */
#include "tests/fuzz/guest_program.h"
#include "vmm/virtio/virtio_rng.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int ends[2];

static void host_input(void *arg, const uint8_t *data, size_t len)
{
	/* A full pipe takes no more. */
	if (write(ends[1], data, len) < 0)
		return;
}

static void set_up(struct fuzz_guest *g)
{
	char path[64];

	fuzz_machine_init(&g->f);
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
	if (virtio_rng_new(&g->f.host, "rng", path, &g->vdev, NULL) < 0)
		abort();
	fuzz_guest_init(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_guest g = {.host_input = host_input};
	char rest[4096];

	if (!g.vdev)
		set_up(&g);
	fuzz_guest_run(&g, data, size);
	while (read(ends[0], rest, sizeof(rest)) > 0)
		;
	return 0;
}
