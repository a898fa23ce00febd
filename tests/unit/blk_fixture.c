/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/blk_fixture.h"

#include "base/endian.h"
#include "base/fd.h"
#include "storage/block.h"

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void create_image(struct blk_fixture *f)
{
	AUTO_FREE uint8_t *data = malloc(IMAGE_BYTES);
	char exe[PATH_MAX] = "";
	AUTO_FD int fd = -1;

	assert_non_null(data);
	assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
	*strrchr(exe, '/') = '\0';
	snprintf(f->dir, sizeof(f->dir), "%.3900s/test_virtio_blk.XXXXXX", exe);
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/image", f->dir);
	fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (uint64_t i = 0; i < IMAGE_BYTES; i++)
		data[i] = (uint8_t)(i / 512 + i);
	assert_int_equal(fd_write_all(fd, data, IMAGE_BYTES), 0);
}

void blk_create_device(struct blk_fixture *f, const struct blk_setup *setup)
{
	struct block_params image = {
		.path = f->path,
		.readonly = setup->readonly,
		.sparse = !setup->not_sparse,
		.no_io_uring = setup->sync,
	};
	struct virtio_blk_params params = {
		.id = "_disk0",
		.num_queues = NUM_QUEUES,
		.queue_size = QUEUE_SIZE,
		.serial = setup->serial,
	};
	struct err err = ERR_INIT;

	assert_int_equal(block_open(&image, &f->block, &err), 0);
	params.image = f->block;
	assert_int_equal(virtio_blk_new(&f->host.host, &params, &f->vdev, &err), 0);
	assert_int_equal(f->vdev->dev.ops->realize(&f->vdev->dev, &err), 0);
	transport_counts_connect(&f->transport, f->vdev);
}

int blk_set_up(void **state)
{
	static const struct blk_setup plain;
	struct blk_fixture *f = calloc(1, sizeof(*f));
	const struct blk_setup *setup = *state ? *state : &plain;
	uint64_t at = FIXTURE_RINGS;

	assert_non_null(f);
	device_fixture_init(&f->host, false);
	create_image(f);
	blk_create_device(f, setup);
	for (unsigned i = 0; i < NUM_QUEUES; i++)
		at = vring_driver_init(&f->rings[i], f->host.host.memory, at, QUEUE_SIZE);
	assert_true(at <= FIXTURE_DATA);
	*state = f;
	return 0;
}

int blk_tear_down(void **state)
{
	struct blk_fixture *f = *state;

	if (f->vdev)
		device_fixture_end(&f->host, &f->vdev->dev);
	block_close(f->block);
	device_fixture_fini(&f->host);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

void blk_start(struct blk_fixture *f, uint64_t features)
{
	driver_negotiate(f->vdev, features);
	for (unsigned i = 0; i < NUM_QUEUES; i++) {
		vring_driver_reset(&f->rings[i]);
		driver_enable_queue(f->vdev, i, &f->rings[i]);
	}
	driver_ok(f->vdev);
}

void blk_start_all(struct blk_fixture *f)
{
	blk_start(f, ALL_FEATURES & virtio_offered_features(f->vdev));
}

void blk_put(struct blk_fixture *f, uint64_t addr, const void *data, size_t len)
{
	assert_int_equal(guest_memory_write(f->host.host.memory, gpa(addr), data, len), 0);
}

void blk_get(struct blk_fixture *f, uint64_t addr, void *data, size_t len)
{
	assert_int_equal(guest_memory_read(f->host.host.memory, gpa(addr), data, len), 0);
}

void blk_put_header(struct blk_fixture *f, unsigned i, uint32_t type, uint64_t sector)
{
	uint8_t header[16] = {0};
	uint8_t none = NO_STATUS;

	le_store(header, type, 4);
	le_store(header + 8, sector, 8);
	blk_put(f, HEADER(i), header, sizeof(header));
	blk_put(f, STATUS(i), &none, 1);
}

uint8_t blk_status(struct blk_fixture *f, unsigned i)
{
	void *status;

	assert_int_equal(
		guest_memory_map(f->host.host.memory, gpa(STATUS(i)), 1, GUEST_READ, &status), 0);
	return __atomic_load_n((uint8_t *)status, __ATOMIC_RELAXED);
}

void blk_offer(struct blk_fixture *f, unsigned queue, unsigned i, uint32_t type, uint64_t sector,
	       const struct vring_buffer *data, unsigned n)
{
	struct vring_buffer chain[QUEUE_SIZE];

	assert_true(n + 2 <= QUEUE_SIZE);
	blk_put_header(f, i, type, sector);
	chain[0] = (struct vring_buffer){.addr = HEADER(i), .len = 16};
	for (unsigned k = 0; k < n; k++)
		chain[k + 1] = data[k];
	chain[n + 1] = (struct vring_buffer){.addr = STATUS(i), .len = 1, .write = true};
	vring_add(&f->rings[queue], chain, n + 2);
}

uint32_t blk_wait_used(struct blk_fixture *f, unsigned queue)
{
	uint32_t id, len = 0;

	virtio_kick_queue(f->vdev, queue);
	assert_true(driver_wait_used(&f->host, &f->rings[queue], &id, &len));
	return len;
}

uint8_t blk_request_one(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t len,
			bool write)
{
	struct vring_buffer data = {.addr = DATA, .len = len, .write = write};

	blk_offer(f, 0, 0, type, sector, &data, len ? 1 : 0);
	blk_wait_used(f, 0);
	return blk_status(f, 0);
}

uint8_t blk_request_range(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t sectors,
			  uint32_t flags)
{
	uint8_t segment[16];

	le_store(segment, sector, 8);
	le_store(segment + 8, sectors, 4);
	le_store(segment + 12, flags, 4);
	blk_put(f, DATA, segment, sizeof(segment));
	return blk_request_one(f, type, 0, sizeof(segment), false);
}

void blk_fill(struct blk_fixture *f, uint64_t addr, uint8_t byte, size_t len)
{
	AUTO_FREE uint8_t *data = malloc(len);

	assert_non_null(data);
	memset(data, byte, len);
	blk_put(f, addr, data, len);
}

void blk_assert_image_is(struct blk_fixture *f, uint64_t offset, uint64_t addr, size_t len)
{
	AUTO_FREE uint8_t *on_disk = malloc(len), *in_guest = NULL;
	AUTO_FD int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	in_guest = malloc(len);
	assert_true(on_disk && in_guest);
	assert_int_equal(fd_pread_all(fd, on_disk, len, (off_t)offset), 0);
	blk_get(f, addr, in_guest, len);
	assert_memory_equal(on_disk, in_guest, len);
}

void blk_assert_image_holds(struct blk_fixture *f, uint64_t offset, uint8_t byte, size_t len)
{
	AUTO_FREE uint8_t *data = malloc(len);
	AUTO_FD int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	assert_non_null(data);
	assert_int_equal(fd_pread_all(fd, data, len, (off_t)offset), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], byte);
}
