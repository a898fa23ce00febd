/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device on an image in memory under a driver of any kind: see guest_program.h for the
 * input. Its last byte, odd or even, says whether the image is reached by io_uring or by system
 * calls. What comes from the host is the image's new size, in KiB.
 */
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

struct disk {
	struct fuzz_guest g;
	struct virtio_blk_params params;
	int fd;
};

static void resize(void *arg, const uint8_t *data, size_t len)
{
	struct disk *disk = arg;

	if (ftruncate(disk->fd, (off_t)(data[0] * KIB)) < 0)
		abort();
}

static void open_image(struct disk *disk, bool io_uring)
{
	struct block_params params = {.sparse = true, .no_io_uring = !io_uring};
	struct block *image;
	char path[64];

	disk->fd = memfd_create("image", MFD_CLOEXEC);
	if (disk->fd < 0 || ftruncate(disk->fd, IMAGE_BYTES) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk->fd);
	params.path = path;
	if (block_open(&params, &image, NULL) < 0)
		abort();
	disk->params = (struct virtio_blk_params){
		.id = "disk", .image = image, .num_queues = 2, .queue_size = 256};
}

static void set_up(struct disk *disk, bool io_uring)
{
	fuzz_machine_init(&disk->g.f);
	open_image(disk, io_uring);
	if (virtio_blk_new(&disk->g.f.host, &disk->params, &disk->g.vdev, NULL) < 0)
		abort();
	disk->g.host_input = resize;
	disk->g.arg = disk;
	fuzz_guest_init(&disk->g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool io_uring = size && data[size - 1] & 1;
	static struct disk disks[2];
	struct disk *disk = &disks[io_uring];

	if (!disk->g.vdev)
		set_up(disk, io_uring);
	fuzz_guest_run(&disk->g, data, size);
	if (ftruncate(disk->fd, IMAGE_BYTES) < 0)
		abort();
	return 0;
}
