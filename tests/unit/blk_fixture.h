/* SPDX-License-Identifier: Apache-2.0 */
/* A block device behind real rings, on a real image beside the test's binary, and its driver. */
#ifndef TESTS_UNIT_BLK_FIXTURE_H
#define TESTS_UNIT_BLK_FIXTURE_H

#include "tests/unit/device_fixture.h"
#include "vmm/virtio/virtio_blk.h"

#include <limits.h>
#include <linux/virtio_blk.h>

#define IMAGE_BYTES   (4 * MIB)
#define IMAGE_SECTORS (IMAGE_BYTES / 512)
#define QUEUE_SIZE    16
#define NUM_QUEUES    2

/* Guest addresses: per chain a header, a status, and data. */
#define HEADER(i) (FIXTURE_DATA + 64 * (uint64_t)(i))
#define STATUS(i) (FIXTURE_DATA + 4096 + (uint64_t)(i))
#define INDIRECT  (FIXTURE_DATA + 8192)
#define DATA	  (FIXTURE_DATA + 64 * KIB)

#define NO_STATUS 0xee

#define FEATURE(name) (1ULL << VIRTIO_BLK_F_##name)
#define ALL_FEATURES                                                                       \
	(FEATURE(FLUSH) | FEATURE(CONFIG_WCE) | FEATURE(DISCARD) | FEATURE(WRITE_ZEROES) | \
	 FEATURE(SEG_MAX) | FEATURE(BLK_SIZE) | FEATURE(TOPOLOGY) | FEATURE(MQ) |          \
	 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX)

struct blk_fixture {
	struct device_fixture host;
	struct transport_counts transport;
	char dir[PATH_MAX];
	char path[PATH_MAX + 16];
	struct block *block;
	struct virtio_device *vdev;
	struct vring_driver rings[NUM_QUEUES];
};

struct blk_setup {
	bool sync;
	bool readonly;
	bool not_sparse;
	const char *serial;
};

/* cmocka's set-up and tear-down. The state before is a struct blk_setup or NULL, then a struct
 * blk_fixture. The image's bytes differ from sector to sector. */
int blk_set_up(void **state);
int blk_tear_down(void **state);

/* Opens the image and makes the device, connected and realized, not started. */
void blk_create_device(struct blk_fixture *f, const struct blk_setup *setup);

/* Resets the rings, negotiates, enables every queue, sets DRIVER_OK. */
void blk_start(struct blk_fixture *f, uint64_t features);
void blk_start_all(struct blk_fixture *f); /* all features that are offered */

/* Guest memory. */
void blk_put(struct blk_fixture *f, uint64_t addr, const void *data, size_t len);
void blk_get(struct blk_fixture *f, uint64_t addr, void *data, size_t len);
void blk_fill(struct blk_fixture *f, uint64_t addr, uint8_t byte, size_t len);

/* Writes header i and sets status i to NO_STATUS. */
void blk_put_header(struct blk_fixture *f, unsigned i, uint32_t type, uint64_t sector);
uint8_t blk_status(struct blk_fixture *f, unsigned i);

/* Offers header i, `data`, and status i. */
void blk_offer(struct blk_fixture *f, unsigned queue, unsigned i, uint32_t type, uint64_t sector,
	       const struct vring_buffer *data, unsigned n);

/* Kicks, and waits for an answer. Returns its length. */
uint32_t blk_wait_used(struct blk_fixture *f, unsigned queue);

/* One request of header 0, `len` bytes at DATA unless 0, and status 0. Returns the status. */
uint8_t blk_request_one(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t len,
			bool write);

/* A discard or write-zeroes. Returns the status. */
uint8_t blk_request_range(struct blk_fixture *f, uint32_t type, uint64_t sector, uint32_t sectors,
			  uint32_t flags);

/* The image's bytes at `offset` are those at guest address `addr`; are all `byte`. */
void blk_assert_image_is(struct blk_fixture *f, uint64_t offset, uint64_t addr, size_t len);
void blk_assert_image_holds(struct blk_fixture *f, uint64_t offset, uint8_t byte, size_t len);

#endif
