/* SPDX-License-Identifier: Apache-2.0 */
/* The block device: cache modes, configuration space, state, start, stop and reset. */
#include "tests/unit/blk_fixture.h"

#include "base/endian.h"
#include "base/fd.h"
#include "base/json.h"
#include "storage/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* Counts the synchronous engine's flushes. */
static atomic_uint flushes;

int fdatasync(int fd)
{
	atomic_fetch_add(&flushes, 1);
	return (int)syscall(SYS_fdatasync, fd);
}

/* --- cache modes ---------------------------------------------------------------------------- */

static uint8_t read_wce(struct blk_fixture *f)
{
	uint8_t wce = 0xff;

	virtio_config_read(f->vdev, offsetof(struct virtio_blk_config, wce), &wce, 1);
	return wce;
}

static void write_wce(struct blk_fixture *f, uint8_t wce)
{
	virtio_config_write(f->vdev, offsetof(struct virtio_blk_config, wce), &wce, 1);
}

static unsigned flushes_of(struct blk_fixture *f, uint32_t type)
{
	atomic_store(&flushes, 0);
	if (type == VIRTIO_BLK_T_WRITE_ZEROES)
		assert_int_equal(blk_request_range(f, type, 0, 8, 0), VIRTIO_BLK_S_OK);
	else
		assert_int_equal(blk_request_one(f, type, 0, 512, type == VIRTIO_BLK_T_IN),
				 VIRTIO_BLK_S_OK);
	return atomic_load(&flushes);
}

static void writes_are_flushed_unless_the_driver_can_flush(void **state)
{
	struct blk_fixture *f = *state;

	blk_start(f, FEATURE(WRITE_ZEROES));
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 1);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_WRITE_ZEROES), 1);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_IN), 0);
	driver_reset(&f->host, f->vdev);
	blk_start(f, FEATURE(FLUSH) | FEATURE(WRITE_ZEROES));
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 0);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_WRITE_ZEROES), 0);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_FLUSH), 1);
}

static void driver_switches_the_cache(void **state)
{
	struct blk_fixture *f = *state;

	blk_start(f, FEATURE(FLUSH) | FEATURE(CONFIG_WCE));
	assert_int_equal(read_wce(f), 1);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 0);
	write_wce(f, 0);
	assert_int_equal(read_wce(f), 0);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 1);
	write_wce(f, 1);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 0);
	write_wce(f, 0);
	driver_reset(&f->host, f->vdev);
	blk_start(f, FEATURE(FLUSH) | FEATURE(CONFIG_WCE));
	assert_int_equal(read_wce(f), 1);
}

static void cache_is_off_at_first_where_it_cannot_be_flushed(void **state)
{
	struct blk_fixture *f = *state;

	blk_start(f, FEATURE(CONFIG_WCE));
	assert_int_equal(read_wce(f), 0);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 1);
	write_wce(f, 1);
	assert_int_equal(read_wce(f), 1);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 0);
}

static void cache_cannot_be_switched_unless_negotiated(void **state)
{
	struct blk_fixture *f = *state;

	blk_start(f, FEATURE(FLUSH));
	write_wce(f, 0);
	assert_int_equal(flushes_of(f, VIRTIO_BLK_T_OUT), 0);
}

/* --- configuration space, state, counters --------------------------------------------------- */

static void configuration_tells_what_the_disk_is(void **state)
{
	struct blk_fixture *f = *state;
	struct virtio_blk_config c;

	for (unsigned i = 0; i < sizeof(c); i++)
		virtio_config_read(f->vdev, i, (uint8_t *)&c + i, 1);
	assert_int_equal(le64toh(c.capacity), IMAGE_SECTORS);
	assert_int_equal(le32toh(c.seg_max), QUEUE_SIZE - 2);
	assert_int_equal(le32toh(c.blk_size), 512);
	assert_int_equal(c.physical_block_exp, 0);
	assert_int_equal(c.wce, 1);
	assert_int_equal(le16toh(c.num_queues), NUM_QUEUES);
	assert_int_equal(le32toh(c.max_discard_seg), 1);
	assert_int_equal(le32toh(c.max_write_zeroes_seg), 1);
	assert_true(le32toh(c.max_discard_sectors) > 0);
	assert_true(le32toh(c.max_write_zeroes_sectors) > 0);
	assert_int_equal(le32toh(c.discard_sector_alignment), 1);
	assert_true(virtio_offered_features(f->vdev) & FEATURE(MQ));
	assert_false(virtio_offered_features(f->vdev) & FEATURE(RO));
}

static void configuration_can_be_read_and_written_at_any_offset(void **state)
{
	struct blk_fixture *f = *state;
	const uint8_t ones[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t before[128], after[128], wide[8];

	blk_start_all(f);
	for (unsigned i = 0; i < sizeof(before); i++)
		virtio_config_read(f->vdev, i, &before[i], 1);
	for (unsigned len = 1; len <= 8; len *= 2) {
		for (uint32_t at = 0; at < 124; at++) {
			if (at != offsetof(struct virtio_blk_config, wce))
				virtio_config_write(f->vdev, at, ones, len);
			virtio_config_read(f->vdev, at, wide, len);
			assert_memory_equal(wide, before + at, MIN(len, 128 - at));
		}
		virtio_config_write(f->vdev, UINT32_MAX - 3, ones, len);
		virtio_config_read(f->vdev, UINT32_MAX - 3, wide, len);
		for (unsigned i = 0; i < len; i++)
			assert_int_equal(wide[i], 0);
	}
	for (unsigned i = 0; i < sizeof(after); i++)
		virtio_config_read(f->vdev, i, &after[i], 1);
	assert_memory_equal(before, after, sizeof(before));
}

static void disk_that_is_not_sparse_offers_no_discard(void **state)
{
	struct blk_fixture *f = *state;
	struct virtio_blk_config c;

	assert_false(virtio_offered_features(f->vdev) & FEATURE(DISCARD));
	assert_true(virtio_offered_features(f->vdev) & FEATURE(WRITE_ZEROES));
	virtio_config_read(f->vdev, offsetof(struct virtio_blk_config, write_zeroes_may_unmap),
			   &c.write_zeroes_may_unmap, 1);
	assert_int_equal(c.write_zeroes_may_unmap, 0);
}

static void state_is_saved_at_rest_and_work_goes_on_after_load(void **state)
{
	struct blk_fixture *f = *state;
	struct device *dev = &f->vdev->dev;
	struct buf saved = {0};
	struct cursor in;
	struct err err = ERR_INIT;

	blk_start(f, FEATURE(FLUSH) | FEATURE(CONFIG_WCE));
	write_wce(f, 0);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 1, 512, true), VIRTIO_BLK_S_OK);
	device_fixture_quiesce(&f->host, dev);
	assert_int_equal(dev->ops->save(dev, &saved), 0);
	device_fixture_end(&f->host, dev);
	block_close(f->block);

	blk_create_device(f, &(struct blk_setup){.sync = true});
	dev = &f->vdev->dev;
	device_fixture_quiesce(&f->host, dev);
	in = cursor_init(saved.data, saved.len);
	assert_int_equal(dev->ops->load(dev, &in, &err), 0);
	dev->ops->resume(dev);
	assert_int_equal(read_wce(f), 0);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 2, 512, true), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 1024, DATA, 512);
	buf_fini(&saved);
}

static int64_t counter(struct blk_fixture *f, const char *name)
{
	AUTO_JSON struct json *all = f->vdev->dev.ops->counters(&f->vdev->dev);

	assert_non_null(json_member(all, name));
	return json_int(json_member(all, name));
}

static void counters_count_what_succeeded(void **state)
{
	struct blk_fixture *f = *state;

	assert_int_equal(counter(f, "read_ops"), 0);
	assert_int_equal(counter(f, "read_latency_max"), 0);
	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 0, 1024, true), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_OUT, 0, 4096, false), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, IMAGE_SECTORS, 512, true),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(counter(f, "read_ops"), 2);
	assert_int_equal(counter(f, "read_bytes"), 1536);
	assert_int_equal(counter(f, "write_ops"), 1);
	assert_int_equal(counter(f, "write_bytes"), 4096);
	assert_true(counter(f, "read_latency_min") <= counter(f, "read_latency_avg"));
	assert_true(counter(f, "read_latency_avg") <= counter(f, "read_latency_max"));
}

/* --- start, stop, reset --------------------------------------------------------------------- */

static void requests_made_during_a_pause_are_served_after_it(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 512, .write = true};
	struct device *dev = &f->vdev->dev;

	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	device_fixture_quiesce(&f->host, dev);
	blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, 6, &data, 1);
	virtio_kick_queue(f->vdev, 0);
	device_fixture_run_ms(&f->host, 50);
	assert_int_equal(blk_status(f, 0), NO_STATUS);
	dev->ops->resume(dev);
	blk_wait_used(f, 0);
	assert_int_equal(blk_status(f, 0), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 6 * 512, DATA, 512);
}

static void driver_may_reset_under_load(void **state)
{
	struct blk_fixture *f = *state;

	for (unsigned round = 0; round < 50; round++) {
		blk_start_all(f);
		for (unsigned i = 0; i < 5; i++) {
			struct vring_buffer data = {.addr = DATA + i * 65536, .len = 65536};

			blk_offer(f, 0, i, VIRTIO_BLK_T_OUT, i * 128, &data, 1);
		}
		virtio_kick_queue(f->vdev, 0);
		if (round % 2)
			device_fixture_run_ms(&f->host, 1);
		driver_reset(&f->host, f->vdev);
	}
	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 3, 512, true), VIRTIO_BLK_S_OK);
}

/* A page of guest memory whose first use blocks until it is given: a slow disk. */
struct slow_page {
	int fd;
	void *host;
};

static void slow_page_init(struct slow_page *slow, struct blk_fixture *f, uint64_t addr)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	slow->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (slow->fd < 0)
		skip();
	assert_int_equal(
		guest_memory_map(f->host.host.memory, gpa(addr), 4096, GUEST_WRITE, &slow->host),
		0);
	assert_int_equal(ioctl(slow->fd, UFFDIO_API, &api), 0);
	reg.range.start = (uintptr_t)slow->host;
	reg.range.len = 4096;
	assert_int_equal(madvise(slow->host, 4096, MADV_DONTNEED), 0);
	assert_int_equal(ioctl(slow->fd, UFFDIO_REGISTER, &reg), 0);
}

static void slow_page_wait_for_use(struct slow_page *slow)
{
	struct pollfd p = {.fd = slow->fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 5000), 1);
}

static void slow_page_give(struct slow_page *slow)
{
	struct uffdio_zeropage zero = {.range = {(uintptr_t)slow->host, 4096}};

	assert_int_equal(ioctl(slow->fd, UFFDIO_ZEROPAGE, &zero), 0);
	close(slow->fd);
}

static void set_flag(struct loop_task *task)
{
	*(bool *)task->arg = true;
}

static bool flag_is_set(void *arg)
{
	return *(bool *)arg;
}

static void pause_waits_for_what_is_in_flight(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 4096, .write = true};
	struct device *dev = &f->vdev->dev;
	struct slow_page slow;
	struct quiesce q;
	bool at_rest = false;
	uint32_t id, len;

	slow_page_init(&slow, f, DATA);
	blk_start_all(f);
	blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, 8, &data, 1);
	virtio_kick_queue(f->vdev, 0);
	slow_page_wait_for_use(&slow);
	quiesce_init(&q, f->host.host.main_loop, set_flag, &at_rest);
	dev->ops->quiesce(dev, &q);
	quiesce_release(&q);
	device_fixture_run_ms(&f->host, 50);
	assert_false(at_rest);
	assert_int_equal(blk_status(f, 0), NO_STATUS);
	slow_page_give(&slow);
	assert_true(device_fixture_run(&f->host, flag_is_set, &at_rest));
	assert_true(vring_get_used(&f->rings[0], &id, &len));
	assert_int_equal(blk_status(f, 0), VIRTIO_BLK_S_OK);
	blk_assert_image_is(f, 4096, DATA, 4096);
	dev->ops->resume(dev);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 3, 512, true), VIRTIO_BLK_S_OK);
}

static void reset_waits_for_what_is_in_flight(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 4096, .write = true};
	struct slow_page slow;

	slow_page_init(&slow, f, DATA);
	blk_start_all(f);
	blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, 8, &data, 1);
	virtio_kick_queue(f->vdev, 0);
	slow_page_wait_for_use(&slow);
	virtio_set_status(f->vdev, 0);
	device_fixture_run_ms(&f->host, 50);
	assert_int_not_equal(virtio_status(f->vdev), 0);
	slow_page_give(&slow);
	driver_reset(&f->host, f->vdev);
	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 3, 512, true), VIRTIO_BLK_S_OK);
}

static bool asks_for_reset(void *arg)
{
	return virtio_status(arg) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* The same head again while its request is on its way: the peers' use after free. */
static void head_that_is_in_flight_on_a_slow_disk_breaks_the_queue(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 4096, .write = true};
	struct slow_page slow;

	slow_page_init(&slow, f, DATA);
	blk_start_all(f);
	blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, 8, &data, 1);
	virtio_kick_queue(f->vdev, 0);
	slow_page_wait_for_use(&slow);
	for (unsigned i = 0; i < QUEUE_SIZE - 1; i++)
		vring_offer(&f->rings[0], 0);
	virtio_kick_queue(f->vdev, 0);
	/* Whether the first request is answered by then or not, the heads behind it come twice. */
	slow_page_give(&slow);
	assert_true(device_fixture_run(&f->host, asks_for_reset, f->vdev));
	driver_reset(&f->host, f->vdev);
	blk_start_all(f);
	assert_int_equal(blk_request_one(f, VIRTIO_BLK_T_IN, 3, 512, true), VIRTIO_BLK_S_OK);
}

static void device_goes_away_with_requests_waiting(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 65536, .write = true};

	blk_start_all(f);
	for (unsigned i = 0; i < 5; i++) {
		blk_offer(f, i % 2, i, VIRTIO_BLK_T_IN, 0, &data, 1);
		data.addr += data.len;
	}
	virtio_kick_queue(f->vdev, 0);
	virtio_kick_queue(f->vdev, 1);
	device_fixture_end(&f->host, &f->vdev->dev);
	f->vdev = NULL;
}

static void device_goes_away_without_ever_having_been_used(void **state)
{
	struct blk_fixture *f = *state;

	device_fixture_end(&f->host, &f->vdev->dev);
	f->vdev = NULL;
}

static void queue_that_is_not_enabled_is_left_alone(void **state)
{
	struct blk_fixture *f = *state;
	struct vring_buffer data = {.addr = DATA, .len = 512, .write = true};

	driver_negotiate(f->vdev, FEATURE(FLUSH));
	driver_enable_queue(f->vdev, 1, &f->rings[1]);
	driver_ok(f->vdev);
	blk_offer(f, 0, 0, VIRTIO_BLK_T_IN, 0, &data, 1);
	eventfd_signal(f->vdev->kick_fds[0]);
	blk_offer(f, 1, 1, VIRTIO_BLK_T_IN, 0, &data, 1);
	blk_wait_used(f, 1);
	assert_int_equal(blk_status(f, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_status(f, 0), NO_STATUS);
	driver_reset(&f->host, f->vdev);
}

static void queue_counts_and_sizes_out_of_range_are_refused(void **state)
{
	static const struct {
		unsigned num;
		uint16_t size;
	} bad[] = {{0, 128}, {VIRTIO_MAX_QUEUES + 1, 128}, {1, 0}, {1, 100}, {1, 2}, {1, 1}};
	struct blk_fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct virtio_blk_params params = {.id = "x",
						   .image = f->block,
						   .num_queues = bad[i].num,
						   .queue_size = bad[i].size};
		struct virtio_device *vdev;
		struct err err = ERR_INIT;

		assert_int_equal(virtio_blk_new(&f->host.host, &params, &vdev, &err), -EINVAL);
		assert_true(err_count(&err) > 0);
	}
}

static struct blk_setup with_sync = {.sync = true};
static struct blk_setup with_blocks = {.not_sparse = true};

#define TEST(name) cmocka_unit_test_setup_teardown(name, blk_set_up, blk_tear_down)
#define TEST_WITH(name, setup) \
	cmocka_unit_test_prestate_setup_teardown(name, blk_set_up, blk_tear_down, &(setup))
#define TEST_BOTH(name) TEST(name), TEST_WITH(name, with_sync)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_WITH(writes_are_flushed_unless_the_driver_can_flush, with_sync),
		TEST_WITH(driver_switches_the_cache, with_sync),
		TEST_WITH(cache_is_off_at_first_where_it_cannot_be_flushed, with_sync),
		TEST_WITH(cache_cannot_be_switched_unless_negotiated, with_sync),
		TEST(configuration_tells_what_the_disk_is),
		TEST(configuration_can_be_read_and_written_at_any_offset),
		TEST_WITH(disk_that_is_not_sparse_offers_no_discard, with_blocks),
		TEST(state_is_saved_at_rest_and_work_goes_on_after_load),
		TEST(counters_count_what_succeeded),
		TEST_BOTH(requests_made_during_a_pause_are_served_after_it),
		TEST_BOTH(driver_may_reset_under_load),
		TEST_BOTH(pause_waits_for_what_is_in_flight),
		TEST_BOTH(reset_waits_for_what_is_in_flight),
		TEST_BOTH(head_that_is_in_flight_on_a_slow_disk_breaks_the_queue),
		TEST_BOTH(device_goes_away_with_requests_waiting),
		TEST(device_goes_away_without_ever_having_been_used),
		TEST(queue_that_is_not_enabled_is_left_alone),
		TEST(queue_counts_and_sizes_out_of_range_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
