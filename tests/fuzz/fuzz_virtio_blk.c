/* SPDX-License-Identifier: Apache-2.0 */
/* The block device on an image in memory under a driver of any kind: see guest_program.h for the
 * input. */
#include "base/fd.h"
#include "storage/block.h"
#include "tests/fuzz/guest_program.h"
#include "vmm/virtio/virtio_blk.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IMAGE_BYTES (128 * KIB)

static struct block *open_image(void)
{
	struct block_params params = {.sparse = true, .no_io_uring = true};
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct block *image;
	char path[64];

	if (fd < 0 || ftruncate(fd, IMAGE_BYTES) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	params.path = path;
	if (block_open(&params, &image, NULL) < 0)
		abort();
	return image;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtio_blk_params params = {.id = "disk", .num_queues = 2, .queue_size = 256};
	static struct fuzz_guest g;

	if (!g.vdev) {
		fuzz_machine_init(&g.f);
		params.image = open_image();
		if (virtio_blk_new(&g.f.host, &params, &g.vdev, NULL) < 0)
			abort();
		fuzz_guest_init(&g);
	}
	fuzz_guest_run(&g, data, size);
	return 0;
}
