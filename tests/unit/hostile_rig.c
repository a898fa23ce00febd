/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hostile_rig.h"

#include "base/endian.h"
#include "base/fd.h"
#include "chardev/chardev.h"
#include "storage/block.h"
#include "tests/unit/net_fixture.h"
#include "vmm/virtio/virtio_blk.h"
#include "vmm/virtio/virtio_console.h"
#include "vmm/virtio/virtio_rng.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define IMAGE_BYTES (256 * KIB)
#define QUEUE_MAX   256
#define FRAME_BYTES 100

static void realize(struct hostile_rig *rig)
{
	assert_int_equal(rig->vdev->dev.ops->realize(&rig->vdev->dev, NULL), 0);
}

static void make_own(struct hostile_rig *rig)
{
	device_fixture_init(&rig->own, false);
	rig->f = &rig->own;
}

static void end_own(struct hostile_rig *rig)
{
	device_fixture_end(rig->f, &rig->vdev->dev);
}

static void offer_one(struct hostile_rig *rig, unsigned queue, uint32_t len, bool write)
{
	struct vring_buffer buffer = {
		.addr = HOSTILE_DATA + queue * 8192, .len = len, .write = write};

	vring_add(&rig->rings[queue], &buffer, 1);
}

/* --- rng ------------------------------------------------------------------------------------ */

static void make_rng(struct hostile_rig *rig)
{
	make_own(rig);
	assert_int_equal(virtio_rng_new(&rig->f->host, "_rng", "/dev/urandom", &rig->vdev, NULL),
			 0);
	realize(rig);
}

static void end_rng(struct hostile_rig *rig)
{
	end_own(rig);
	device_fixture_fini(rig->f);
}

static void offer_rng(struct hostile_rig *rig, unsigned queue)
{
	offer_one(rig, queue, 64, true);
}

const struct hostile_kind hostile_rng = {
	.name = "rng", .num_queues = 1, .make = make_rng, .end = end_rng, .offer = offer_rng};

/* --- console -------------------------------------------------------------------------------- */

static void make_console(struct hostile_rig *rig)
{
	struct chardev_params params = {.mode = CHARDEV_PTY, .input = true};

	make_own(rig);
	assert_int_equal(chardev_new(rig->f->host.main_loop, &params, &rig->chardev, NULL), 0);
	rig->terminal =
		open(chardev_path(rig->chardev), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_true(rig->terminal >= 0);
	assert_int_equal(
		virtio_console_new(&rig->f->host, "_console", rig->chardev, &rig->vdev, NULL), 0);
	realize(rig);
}

static void end_console(struct hostile_rig *rig)
{
	end_own(rig);
	fd_close(&rig->terminal);
	chardev_free(rig->chardev);
	device_fixture_fini(rig->f);
}

static void provoke_console(struct hostile_rig *rig)
{
	char output[4096];

	while (read(rig->terminal, output, sizeof(output)) > 0)
		;
	/* Full: then there is input, which is all that is wanted. */
	if (write(rig->terminal, "x", 1) < 0)
		return;
}

static void offer_console(struct hostile_rig *rig, unsigned queue)
{
	offer_one(rig, queue, 8, queue == 0);
}

const struct hostile_kind hostile_console = {.name = "console",
					     .num_queues = 2,
					     .make = make_console,
					     .end = end_console,
					     .provoke = provoke_console,
					     .offer = offer_console};

/* --- blk ------------------------------------------------------------------------------------ */

static void make_blk(struct hostile_rig *rig)
{
	AUTO_FD int fd = memfd_create("image", MFD_CLOEXEC);
	struct block_params image = {.sparse = true};
	struct virtio_blk_params params = {.id = "_disk0", .num_queues = 2, .queue_size = 256};
	char path[64];

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, IMAGE_BYTES), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	image.path = path;
	make_own(rig);
	assert_int_equal(block_open(&image, &rig->image, NULL), 0);
	params.image = rig->image;
	assert_int_equal(virtio_blk_new(&rig->f->host, &params, &rig->vdev, NULL), 0);
	realize(rig);
}

static void end_blk(struct hostile_rig *rig)
{
	end_own(rig);
	block_close(rig->image);
	device_fixture_fini(rig->f);
}

static void offer_blk(struct hostile_rig *rig, unsigned queue)
{
	const uint64_t at = HOSTILE_DATA + queue * 8192;
	const struct vring_buffer chain[] = {{.addr = at, .len = 16},
					     {.addr = at + 64, .len = 512, .write = true},
					     {.addr = at + 32, .len = 1, .write = true}};
	uint8_t header[16] = {VIRTIO_BLK_T_IN};

	assert_int_equal(guest_memory_write(rig->f->host.memory, gpa(at), header, sizeof(header)),
			 0);
	vring_add(&rig->rings[queue], chain, ARRAY_SIZE(chain));
}

const struct hostile_kind hostile_blk = {
	.name = "blk", .num_queues = 2, .make = make_blk, .end = end_blk, .offer = offer_blk};

/* --- net ------------------------------------------------------------------------------------ */

static void make_net(struct hostile_rig *rig)
{
	rig->f = &rig->net->f;
	rig->vdev = rig->net->vdev;
}

static void end_net(struct hostile_rig *rig)
{
	net_fixture_end(rig->net);
}

static void provoke_net(struct hostile_rig *rig)
{
	uint8_t frame[2048];

	while (recv(rig->net->sock, frame, sizeof(frame), MSG_DONTWAIT) > 0)
		;
	net_host_send(rig->net, 7, FRAME_BYTES);
}

static void offer_net(struct hostile_rig *rig, unsigned queue)
{
	const uint64_t at = HOSTILE_DATA + queue * 8192;
	const struct vring_buffer command[] = {{.addr = at, .len = 2},
					       {.addr = at + 64, .len = 1, .write = true}};

	if (queue == 2) {
		vring_add(&rig->rings[2], command, 2);
	} else if (queue == 1) {
		net_lay_frame(rig->net, at, 8, FRAME_BYTES);
		offer_one(rig, 1, NET_HEADER + FRAME_BYTES, false);
	} else {
		offer_one(rig, 0, 2048, true);
	}
}

const struct hostile_kind hostile_net = {.name = "net",
					 .num_queues = 3,
					 .make = make_net,
					 .end = end_net,
					 .provoke = provoke_net,
					 .offer = offer_net};

/* --- the rig -------------------------------------------------------------------------------- */

struct hostile_rig *hostile_rig_new(const struct hostile_kind *kind)
{
	/* First: it may skip the test. */
	struct net_fixture *net = kind == &hostile_net ? net_fixture_new(1) : NULL;
	struct hostile_rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->kind = kind;
	rig->net = net;
	kind->make(rig);
	transport_counts_connect(&rig->transport, rig->vdev);
	return rig;
}

void hostile_rig_end(struct hostile_rig *rig)
{
	rig->kind->end(rig);
	free(rig);
}

static void lay_rings(struct hostile_rig *rig)
{
	uint64_t at = FIXTURE_RINGS;

	for (unsigned i = 0; i < rig->vdev->num_queues; i++)
		at = vring_driver_init(&rig->rings[i], rig->f->host.memory, at, HOSTILE_RING_SIZE);
	assert_true(at <= FIXTURE_DATA);
}

bool hostile_bring_up(struct hostile_rig *rig)
{
	uint64_t features = virtio_offered_features(rig->vdev);
	uint8_t steps[] = {VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER,
			   VIRTIO_CONFIG_S_FEATURES_OK};
	uint8_t status = virtio_status(rig->vdev);

	lay_rings(rig);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (steps[i] == VIRTIO_CONFIG_S_FEATURES_OK) {
			virtio_set_driver_features(rig->vdev, 0, (uint32_t)features);
			virtio_set_driver_features(rig->vdev, 1, (uint32_t)(features >> 32));
		}
		status |= steps[i];
		virtio_set_status(rig->vdev, status);
	}
	for (unsigned i = 0; i < rig->vdev->num_queues; i++)
		virtio_configure_queue(rig->vdev, i, &rig->rings[i].config);
	status |= VIRTIO_CONFIG_S_DRIVER_OK;
	virtio_set_status(rig->vdev, status);
	return virtio_status(rig->vdev) == status;
}

void hostile_assert_works(struct hostile_rig *rig)
{
	uint32_t id, len;

	driver_reset(rig->f, rig->vdev);
	assert_true(hostile_bring_up(rig));
	/* What the host sends before the device is ready may be thrown away. */
	device_fixture_run_ms(rig->f, 20);
	for (unsigned i = 0; i < rig->kind->num_queues; i++) {
		rig->kind->offer(rig, i);
		if (rig->kind->provoke)
			rig->kind->provoke(rig);
		virtio_kick_queue(rig->vdev, i);
		assert_true(driver_wait_used(rig->f, &rig->rings[i], &id, &len));
	}
	assert_false(hostile_needs_reset(rig->vdev));
}

bool hostile_needs_reset(void *vdev)
{
	return virtio_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Where a sanitizer has replaced malloc(), only it knows. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

size_t hostile_heap_bytes(void)
{
	if (__sanitizer_get_current_allocated_bytes)
		return __sanitizer_get_current_allocated_bytes();
	return mallinfo2().uordblks;
}

uint32_t hostile_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}
