/* SPDX-License-Identifier: Apache-2.0 */
/* The block device: what requests do, and what chains it takes. */
#include "tests/unit/blk_fixture.h"

#include "base/fd.h"
#include "base/loop.h"
#include "storage/block.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A request that is a chain of the test's own; header and status are number 0. */
static uint8_t chain_request(struct blk_fixture *f, const struct vring_buffer *chain, unsigned n,
			     uint32_t *ret_len)
{
	vring_add(&f->rings[0], chain, n);
	*ret_len = blk_wait_used(f, 0);
	return blk_status(f, 0);
}

/* The driver is told behind the status's change. */
static bool told_to_reset(void *arg)
{
	struct blk_fixture *f = arg;

	return virtio_status(f->vdev) & VIRTIO_CONFIG_S_NEEDS_RESET &&
	       atomic_load(&f->transport.config) > 0;
}

/* The device asks for a reset, and after one it works. */
static void assert_broken_and_revived(struct blk_fixture *f)
{
	virtio_kick_queue(f->vdev, 0);
	assert_true(device_fixture_run(&f->host, told_to_reset, f));
	driver_reset(&f->host, f->vdev);
	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 3, 512, true), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 3 * 512, DATA, 512);
}

/* --- requests ------------------------------------------------------------------------------- */

static void data_is_read_and_written(void **state)
{
	struct blk_fixture *f = *state;

	/* Without EVENT_IDX: every answer interrupts. */
	blk_start(f, FEATURE(FLUSH));
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 0, 64 * KIB, true), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 0, DATA, 64 * KIB);
	blk_fill(f, DATA, 0x5c, 4096);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_OUT, IMAGE_SECTORS - 8, 4096, false),
			 VIRTIO_BLK_S_OK);
	blk_assert_image_holds(f, IMAGE_BYTES - 4096, 0x5c, 4096);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	assert_int_equal(atomic_load(&f->transport.queues[0]), 3);
	assert_int_equal(atomic_load(&f->transport.queues[1]), 0);
}

static void answer_counts_the_bytes_that_were_written(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 1024, .write = true};

	blk_start_all(f);
	blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, 0, &data, 1);
	assert_int_equal(blk_wait_used(f, 0), 1025);
	blk_offer(f, 0, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
	assert_int_equal(blk_wait_used(f, 0), 1);
	/* Nothing but the status is written: that is not from the start. */
	blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, IMAGE_SECTORS, &data, 1);
	assert_int_equal(blk_wait_used(f, 0), 0);
	assert_int_equal(blk_status(f, 0), VIRTIO_BLK_S_IOERR);
}

static void requests_beyond_the_end_fail(void **state)
{
	static const uint64_t sectors[] = {
		IMAGE_SECTORS - 1, IMAGE_SECTORS, IMAGE_SECTORS + 1, 1ULL << 54,
		1ULL << 55,	   1ULL << 63,	  UINT64_MAX / 512,  UINT64_MAX / 512 + 1,
		UINT64_MAX - 1,	   UINT64_MAX};
	struct blk_fixture *f = *state;

	blk_start_all(f);
	blk_fill(f, DATA, 0x77, 1024);
	for (size_t i = 0; i < ARRAY_SIZE(sectors); i++) {
		assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_OUT, sectors[i], 1024, false),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, sectors[i], 1024, true),
				 VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, IMAGE_SECTORS - 1, 512, true),
			 VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, IMAGE_BYTES - 512, DATA, 512);
}

static void sizes_that_are_no_sectors_fail(void **state)
{
	static const uint32_t sizes[] = {0, 1, 511, 513, 1023};
	struct blk_fixture *f = *state;

	blk_start_all(f);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 0, sizes[i], true),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_OUT, 0, sizes[i], false),
				 VIRTIO_BLK_S_IOERR);
	}
}

static void unknown_requests_are_unsupported(void **state)
{
	static const uint32_t types[] = {2, 3, 5, 9, 10, 12, 14, 0x80000000, UINT32_MAX};
	struct blk_fixture *f = *state;

	blk_start_all(f);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		assert_int_equal(blk_request_one(f, types[i], 0, 512, true), VIRTIO_BLK_S_UNSUPP);
}

static void readonly_disk_fails_all_that_writes(void **state)
{
	struct blk_fixture *f = *state;

	assert_true(virtio_offered_features(f->vdev) & FEATURE(RO));
	assert_false(virtio_offered_features(f->vdev) & FEATURE(DISCARD));
	assert_false(virtio_offered_features(f->vdev) & FEATURE(WRITE_ZEROES));
	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 7, 512, true), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 7 * 512, DATA, 512);
	blk_fill(f, DATA, 0x33, 512);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_OUT, 7, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_DISCARD, 7, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 7, 1, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
}

static void get_id_tells_the_serial_padded(void **state)
{
	struct blk_fixture *f = *state;
	uint8_t id[32];

	blk_start_all(f);
	blk_fill(f, DATA, 0xff, sizeof(id));
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
	blk_get(f, DATA, id, sizeof(id));
	assert_memory_equal(id, "_disk0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff", 22);
	blk_fill(f, DATA, 0xff, sizeof(id));
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_GET_ID, 0, 4, true), VIRTIO_BLK_S_OK);
	blk_get(f, DATA, id, sizeof(id));
	assert_memory_equal(id, "_dis\xff", 5);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_GET_ID, 0, 30, true), VIRTIO_BLK_S_OK);
	blk_get(f, DATA, id, sizeof(id));
	assert_memory_equal(id, "_disk0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 31);
}

static void serial_may_fill_its_twenty_bytes(void **state)
{
	struct blk_fixture *f = *state;
	uint8_t id[20];

	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
	blk_get(f, DATA, id, sizeof(id));
	assert_memory_equal(id, "12345678901234567890", 20);
}

static void discard_and_write_zeroes_stay_in_their_range(void **state)
{
	struct blk_fixture *f = *state;

	blk_start_all(f);
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 9, 300, 0),
			 VIRTIO_BLK_S_OK);
	blk_assert_image_holds(f, 9 * 512, 0, 300 * 512);
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 1024, 8,
					   VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
			 VIRTIO_BLK_S_OK);
	blk_assert_image_holds(f, 1024 * 512, 0, 8 * 512);
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_DISCARD, 2048, 2048, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 8, 512, true), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 8 * 512, DATA, 512);
}

static void ranges_that_make_no_sense_are_refused(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	struct blk_fixture *f = *state;

	blk_start_all(f);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		uint32_t type = types[i];

		assert_int_equal(blk_request_range(f, type, 0, 0, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_range(f, type, IMAGE_SECTORS, 1, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_range(f, type, IMAGE_SECTORS - 1, 2, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_range(f, type, UINT64_MAX, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_range(f, type, 1ULL << 55, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_range(f, type, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_range(f, type, 0, 1, 2), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(blk_request_range(f, type, 0, 1, 0x80000000), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(blk_request_one(f, type, 0, 15, false), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_one(f, type, 0, 17, false), VIRTIO_BLK_S_IOERR);
		/* Two segments: one is offered. */
		assert_int_equal(blk_request_one(f, type, 0, 32, false), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request_one(f, type, 0, 0, false), VIRTIO_BLK_S_IOERR);
	}
	/* 5.2.6.2: unmap is for write-zeroes */
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_DISCARD, 0, 1,
					   VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 0, DATA, 512);
}

static void ranges_that_were_not_negotiated_are_unsupported(void **state)
{
	struct blk_fixture *f = *state;

	blk_start(f, FEATURE(FLUSH));
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(blk_request_range(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0),
			 VIRTIO_BLK_S_UNSUPP);
}

/* --- shapes of chains ----------------------------------------------------------------------- */

static void header_data_and_status_may_be_cut_anywhere(void **state)
{
	struct blk_fixture *f = *state;
	const struct vring_buffer read[] = {
		{HEADER(0), 1, false}, {HEADER(0) + 1, 14, false}, {HEADER(0) + 15, 1, false},
		{DATA, 1, true},       {DATA + 1, 700, true},	   {DATA + 701, 323, true},
		{STATUS(0), 1, true},
	};
	const struct vring_buffer write[] = {
		{HEADER(0), 15, false},
		{HEADER(0) + 15, 3, false}, /* with the data's first two bytes behind it */
		{DATA, 510, false},
		{STATUS(0), 1, true},
	};
	uint8_t two[2] = {0x42, 0x43};
	uint32_t len;

	blk_start_all(f);
	blk_put_header(f, 0, VIRTIO_BLK_T_IN, 5);
	assert_int_equal(chain_request(f, read, ARRAY_SIZE(read), &len), VIRTIO_BLK_S_OK);
	assert_int_equal(len, 1025);
	blk_assert_image_is(f, 5 * 512, DATA, 1024);

	blk_put_header(f, 0, VIRTIO_BLK_T_OUT, 5);
	blk_put(f, HEADER(0) + 16, two, 2);
	assert_int_equal(chain_request(f, write, ARRAY_SIZE(write), &len), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 5 * 512, HEADER(0) + 16, 2);
	blk_assert_image_is(f, 5 * 512 + 2, DATA, 510);
}

static void status_may_share_a_descriptor_with_data(void **state)
{
	struct blk_fixture *f = *state;
	const struct vring_buffer chain[] = {
		{HEADER(0), 16, false},
		{DATA, 513, true},
	};
	uint8_t status;
	uint32_t len;

	blk_start_all(f);
	blk_put_header(f, 0, VIRTIO_BLK_T_IN, 2);
	blk_fill(f, DATA, NO_STATUS, 514);
	chain_request(f, chain, ARRAY_SIZE(chain), &len);
	assert_int_equal(len, 513);
	blk_assert_image_is(f, 2 * 512, DATA, 512);
	blk_get(f, DATA + 512, &status, 1);
	assert_int_equal(status, VIRTIO_BLK_S_OK);
	blk_get(f, DATA + 513, &status, 1);
	assert_int_equal(status, NO_STATUS);
}

static void indirect_chain_is_served(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer chain[66];
	unsigned n = 0;

	blk_start_all(f);
	chain[n++] = (struct vring_buffer){HEADER(0), 16, false};
	for (; n < 65; n++)
		chain[n] = (struct vring_buffer){DATA + (n - 1) * 512, 512, true};
	chain[n++] = (struct vring_buffer){STATUS(0), 1, true};
	blk_put_header(f, 0, VIRTIO_BLK_T_IN, 100);
	vring_add_indirect(&f->rings[0], INDIRECT, chain, n);
	assert_int_equal(blk_wait_used(f, 0), 64 * 512 + 1);
	assert_int_equal(blk_status(f, 0), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 100 * 512, DATA, 64 * 512);
}

static void chain_of_more_buffers_than_offered_breaks_the_queue(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer chain[300];
	unsigned n = 0;

	blk_start_all(f);
	chain[n++] = (struct vring_buffer){HEADER(0), 16, false};
	for (; n < 299; n++)
		chain[n] = (struct vring_buffer){DATA + (n - 1) * 512, 512, true};
	chain[n++] = (struct vring_buffer){STATUS(0), 1, true};
	blk_put_header(f, 0, VIRTIO_BLK_T_IN, 0);
	vring_add_indirect(&f->rings[0], INDIRECT, chain, n);
	assert_broken_and_revived(f);
}

static void chain_without_a_status_byte_breaks_the_queue(void **state)
{
	struct blk_fixture *f = *state;
	const struct vring_buffer chain[] = {{HEADER(0), 16, false}, {DATA, 512, false}};

	blk_start_all(f);
	blk_put_header(f, 0, VIRTIO_BLK_T_OUT, 0);
	vring_add(&f->rings[0], chain, 2);
	assert_broken_and_revived(f);
}

static void chain_without_a_whole_header_breaks_the_queue(void **state)
{
	struct blk_fixture *f = *state;
	const struct vring_buffer chain[] = {{HEADER(0), 15, false}, {STATUS(0), 1, true}};
	const struct vring_buffer none[] = {{STATUS(0), 1, true}};

	blk_start_all(f);
	blk_put_header(f, 0, VIRTIO_BLK_T_FLUSH, 0);
	vring_add(&f->rings[0], chain, 2);
	assert_broken_and_revived(f);
	vring_add(&f->rings[0], none, 1);
	assert_broken_and_revived(f);
}

static void buffer_outside_ram_breaks_the_queue(void **state)
{
	struct blk_fixture *f = *state;
	const struct vring_buffer chain[] = {{HEADER(0), 16, false},
					     {FIXTURE_MEMORY_BYTES - 256, 512, true},
					     {STATUS(0), 1, true}};

	blk_start_all(f);
	blk_put_header(f, 0, VIRTIO_BLK_T_IN, 0);
	vring_add(&f->rings[0], chain, 3);
	assert_broken_and_revived(f);
	assert_int_equal(blk_status(f, 0), VIRTIO_BLK_S_OK);
}

static void head_that_comes_twice_breaks_the_queue(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 512, .write = true};

	for (unsigned round = 0; round < 20; round++) {
		blk_start_all(f);
		blk_put_header(f, 0, VIRTIO_BLK_T_IN, 0);
		/* Descriptors first, then the same head twice with one index update. */
		vring_set_desc(&f->rings[0], 0, 0, HEADER(0), 16, VRING_DESC_F_NEXT, 1);
		vring_set_desc(&f->rings[0], 0, 1, data.addr, data.len,
			       VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
		vring_set_desc(&f->rings[0], 0, 2, STATUS(0), 1, VRING_DESC_F_WRITE, 0);
		blk_put(f, f->rings[0].config.avail.v + 4, "\0\0\0\0", 4);
		vring_set_avail_idx(&f->rings[0], 2);
		assert_broken_and_revived(f);
		driver_reset(&f->host, f->vdev);
	}
}

static void many_requests_of_both_queues_are_all_answered(void **state)
{
	struct blk_fixture *f = *state;
	uint32_t id, len;

	blk_start_all(f);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 10; i++) {
			struct vring_buffer data = {.addr = DATA + i * 4096, .len = 4096};

			data.write = i % 2;
			blk_offer(f, i / 5, i, data.write ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
				  100 * i + round, &data, 1);
		}
		for (unsigned i = 0; i < 10; i++) {
			virtio_kick_queue(f->vdev, i / 5);
			assert_true(driver_wait_used(&f->host, &f->rings[i / 5], &id, &len));
		}
		for (unsigned i = 0; i < 10; i++) {
			assert_int_equal(blk_status(f, i), VIRTIO_BLK_S_OK);
			blk_assert_image_is(f, (100 * i + round) * 512, DATA + i * 4096, 4096);
		}
	}
}

static void image_that_shrank_fails_requests(void **state)
{
	struct blk_fixture *f = *state;

	blk_start_all(f);
	assert_int_equal(truncate(f->path, MIB), 0);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 2 * MIB / 512, 512, true),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, MIB / 512 - 1, 1024, true),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

static struct blk_setup with_sync = {.sync = true};
static struct blk_setup with_readonly = {.readonly = true};
static struct blk_setup with_serial = {.serial = "12345678901234567890 and more"};

#define TEST(name) cmocka_unit_test_setup_teardown(name, blk_set_up, blk_tear_down)
#define TEST_WITH(name, setup) \
	cmocka_unit_test_prestate_setup_teardown(name, blk_set_up, blk_tear_down, &(setup))
#define TEST_BOTH(name) TEST(name), TEST_WITH(name, with_sync)

/* --- kicks ---------------------------------------------------------------------------------- */

/* As a driver does with EVENT_IDX (2.7.10.2): a kick when the device has asked for one at `index`.
 */
static void kick_if_asked(struct blk_fixture *f, uint16_t index)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (vring_need_event(vring_kick_event(&f->rings[0]), (uint16_t)(index + 1), index))
		virtio_kick_queue(f->vdev, 0);
}

static bool answered(struct blk_fixture *f)
{
	uint64_t deadline = loop_now_ns() + 20000000000ull;
	uint32_t id, len;

	while (!vring_get_used(&f->rings[0], &id, &len))
		if (loop_now_ns() > deadline)
			return false;
	return true;
}

/* So quick that the device looks for the next request before it goes to sleep, with pauses that are
 * longer than it looks: whenever it stops looking it asks for a kick first. */
static void no_request_is_missed_without_a_kick_that_was_not_asked_for(void **state)
{
	struct blk_fixture *f = *state;

	blk_start_all(f);
	for (unsigned i = 0; i < 20000; i++) {
		struct vring_buffer data = {.addr = DATA, .len = 512, .write = true};

		blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, i % 64, &data, 1);
		kick_if_asked(f, (uint16_t)i);
		assert_true(answered(f));
		assert_int_equal(blk_status(f, 0), VIRTIO_BLK_S_OK);
		if (i % 500 == 0)
			usleep(i % 3000 / 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_BOTH(data_is_read_and_written),
		TEST_BOTH(answer_counts_the_bytes_that_were_written),
		TEST(requests_beyond_the_end_fail),
		TEST(sizes_that_are_no_sectors_fail),
		TEST(unknown_requests_are_unsupported),
		TEST_WITH(readonly_disk_fails_all_that_writes, with_readonly),
		TEST(get_id_tells_the_serial_padded),
		TEST_WITH(serial_may_fill_its_twenty_bytes, with_serial),
		TEST_BOTH(discard_and_write_zeroes_stay_in_their_range),
		TEST(ranges_that_make_no_sense_are_refused),
		TEST(ranges_that_were_not_negotiated_are_unsupported),
		TEST_BOTH(header_data_and_status_may_be_cut_anywhere),
		TEST(status_may_share_a_descriptor_with_data),
		TEST(indirect_chain_is_served),
		TEST(chain_of_more_buffers_than_offered_breaks_the_queue),
		TEST(chain_without_a_status_byte_breaks_the_queue),
		TEST(chain_without_a_whole_header_breaks_the_queue),
		TEST(buffer_outside_ram_breaks_the_queue),
		TEST_BOTH(head_that_comes_twice_breaks_the_queue),
		TEST_BOTH(many_requests_of_both_queues_are_all_answered),
		TEST_BOTH(image_that_shrank_fails_requests),
		TEST_BOTH(no_request_is_missed_without_a_kick_that_was_not_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
