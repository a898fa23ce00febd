/* SPDX-License-Identifier: Apache-2.0 */
/* The device's status machine, on a device whose data path is only noted down. */
#include "base/fd.h"
#include "tests/unit/device_fixture.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ACK	    VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER	    VIRTIO_CONFIG_S_DRIVER
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED	    VIRTIO_CONFIG_S_FAILED

#define VERSION_1    (1ULL << VIRTIO_F_VERSION_1)
#define OWN_FEATURES 0x5ULL
#define QUEUES	     3
#define QUEUE_SIZE   16

struct test_device {
	struct virtio_device vdev;
	struct transport_counts transport;
	unsigned starts, stops, resets;
	struct quiesce *held; /* stop() came and is not let go yet */
	uint8_t config[8];
	bool refuse_load;
};

static struct test_device *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct test_device, vdev);
}

static uint64_t features(struct virtio_device *vdev)
{
	return OWN_FEATURES;
}

static void config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len)
{
	if (range_within(offset, len, 0, 8))
		memcpy(data, from_vdev(vdev)->config + offset, len);
}

static void config_write(struct virtio_device *vdev, uint32_t offset, const void *data,
			 unsigned len)
{
	if (range_within(offset, len, 0, 8))
		memcpy(from_vdev(vdev)->config + offset, data, len);
}

static void start(struct virtio_device *vdev)
{
	from_vdev(vdev)->starts++;
}

static void stop(struct virtio_device *vdev, struct quiesce *q)
{
	from_vdev(vdev)->stops++;
	quiesce_hold(q);
	from_vdev(vdev)->held = q;
}

static void reset(struct virtio_device *vdev)
{
	from_vdev(vdev)->resets++;
}

static const struct virtio_ops ops = {
	.device_id = 42,
	.features = features,
	.config_read = config_read,
	.config_write = config_write,
	.start = start,
	.stop = stop,
	.reset = reset,
};

static const struct device_ops dev_ops = {
	.kind = "test",
	.reset = virtio_device_reset,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.save = virtio_device_save,
	.load = virtio_device_load,
};

struct test {
	struct device_fixture f;
	struct test_device dev;
	struct virtio_device *vdev;
	struct vring_driver rings[QUEUES];
};

static struct test *test_new(void)
{
	struct test *t = calloc(1, sizeof(*t));
	uint64_t at = FIXTURE_RINGS;
	struct err err = ERR_INIT;

	assert_non_null(t);
	device_fixture_init(&t->f, false);
	t->vdev = &t->dev.vdev;
	assert_int_equal(virtio_device_init(t->vdev, &dev_ops, &ops, &t->f.host, "test0", QUEUES,
					    QUEUE_SIZE, &err),
			 0);
	transport_counts_connect(&t->dev.transport, t->vdev);
	for (unsigned i = 0; i < QUEUES; i++)
		at = vring_driver_init(&t->rings[i], t->f.host.memory, at, QUEUE_SIZE);
	return t;
}

static void test_end(struct test *t)
{
	virtio_device_fini(t->vdev);
	device_fixture_fini(&t->f);
	free(t);
}

/* The threads of the data path have let go. */
static void let_go(struct test *t)
{
	struct quiesce *q = TAKE(t->dev.held);

	assert_non_null(q);
	quiesce_release(q);
	device_fixture_run_ms(&t->f, 2);
}

static void bring_up(struct test *t)
{
	driver_negotiate(t->vdev, OWN_FEATURES);
	for (unsigned i = 0; i < QUEUES; i++)
		driver_enable_queue(t->vdev, i, &t->rings[i]);
	driver_ok(t->vdev);
}

/* --- negotiation -------------------------------------------------------------------------- */

static void queue_counts_and_sizes_are_bounded(void **state)
{
	static const struct {
		unsigned queues;
		uint16_t size;
	} bad[] = {{0, 16}, {VIRTIO_MAX_QUEUES + 1, 16}, {1, 0}, {1, 3}, {1, 0xffff}};
	struct device_host host = {.main_loop = NULL};
	struct virtio_device *vdev = calloc(1, sizeof(*vdev));
	char long_id[DEVICE_ID_MAX + 1];

	assert_non_null(vdev);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(virtio_device_init(vdev, &dev_ops, &ops, &host, "x", bad[i].queues,
						    bad[i].size, NULL),
				 -EINVAL);
		virtio_device_fini(vdev);
	}
	memset(long_id, 'x', sizeof(long_id) - 1);
	long_id[sizeof(long_id) - 1] = '\0';
	assert_int_equal(virtio_device_init(vdev, &dev_ops, &ops, &host, long_id, 1, 16, NULL),
			 -ENAMETOOLONG);
	assert_int_equal(virtio_device_init(vdev, &dev_ops, &ops, &host, "x", VIRTIO_MAX_QUEUES,
					    32768, NULL),
			 0);
	virtio_device_fini(vdev);
	free(vdev);
}

static void driver_that_follows_the_steps_gets_the_device_going(void **state)
{
	struct test *t = test_new();

	bring_up(t);
	assert_int_equal(virtio_status(t->vdev), ACK | DRIVER | FEATURES_OK | DRIVER_OK);
	assert_int_equal(t->dev.starts, 1);
	assert_true(t->dev.transport.active);
	assert_int_equal(t->f.activated, 1);
	assert_true(virtio_has_feature(t->vdev, 0));
	assert_false(virtio_has_feature(t->vdev, 1));
	test_end(t);
}

static void features_must_be_offered_and_modern(void **state)
{
	struct test *t = test_new();
	const uint64_t bad[] = {0,
				OWN_FEATURES,
				VERSION_1 | 2,
				VERSION_1 | 1ULL << 63,
				VERSION_1 | 1ULL << 40 /* queue reset */,
				UINT64_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		virtio_set_status(t->vdev, 0);
		virtio_set_status(t->vdev, ACK | DRIVER);
		virtio_set_driver_features(t->vdev, 0, (uint32_t)bad[i]);
		virtio_set_driver_features(t->vdev, 1, (uint32_t)(bad[i] >> 32));
		virtio_set_status(t->vdev, ACK | DRIVER | FEATURES_OK);
		assert_int_equal(virtio_status(t->vdev), ACK | DRIVER);
		assert_int_equal(t->vdev->features, 0);
	}
	test_end(t);
}

static void features_are_frozen_from_features_ok_on(void **state)
{
	struct test *t = test_new();

	driver_negotiate(t->vdev, OWN_FEATURES);
	virtio_set_driver_features(t->vdev, 0, 0xffffffff);
	virtio_set_driver_features(t->vdev, 1, 0xffffffff);
	assert_int_equal(virtio_driver_features(t->vdev, 0), OWN_FEATURES);
	assert_int_equal(virtio_driver_features(t->vdev, 1), VERSION_1 >> 32);
	assert_int_equal(t->vdev->features, OWN_FEATURES | VERSION_1);
	test_end(t);
}

static void feature_words_beyond_the_second_are_nothing(void **state)
{
	struct test *t = test_new();
	const unsigned words[] = {2, 3, 31, 32, 0x80000000, 0xffffffff};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		virtio_set_driver_features(t->vdev, words[i], 0xffffffff);
		assert_int_equal(virtio_driver_features(t->vdev, words[i]), 0);
	}
	assert_int_equal(t->vdev->driver_features, 0);
	test_end(t);
}

/* Every status byte from every reachable status: bits are only added, in order. */
static void status_bits_are_only_added_and_in_order(void **state)
{
	struct test *t = test_new();
	const uint8_t from[] = {0, ACK, ACK | DRIVER, ACK | DRIVER | FEATURES_OK};

	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		for (unsigned value = 1; value < 256; value++) {
			uint8_t after;

			virtio_set_status(t->vdev, 0);
			if (t->dev.held)
				let_go(t);
			assert_int_equal(virtio_status(t->vdev), 0);
			virtio_set_driver_features(t->vdev, 1, VERSION_1 >> 32);
			if (from[i])
				virtio_set_status(t->vdev, from[i]);
			assert_int_equal(virtio_status(t->vdev), from[i]);

			virtio_set_status(t->vdev, (uint8_t)value);
			after = virtio_status(t->vdev);
			assert_int_equal(after & from[i], from[i]);
			assert_int_equal(after & ~(from[i] | value), 0);
			assert_int_equal(after & 0x70, 0);
			if (from[i] & ~value)
				assert_int_equal(after, from[i]);
			if (after & DRIVER_OK)
				assert_true(from[i] & FEATURES_OK);
			if (after & FEATURES_OK)
				assert_int_equal(after & (ACK | DRIVER), ACK | DRIVER);
			assert_int_equal(t->vdev->started, !!(after & DRIVER_OK));
		}
	}
	virtio_set_status(t->vdev, 0);
	if (t->dev.held)
		let_go(t);
	test_end(t);
}

/* --- queues ------------------------------------------------------------------------------- */

static void queues_are_configured_between_features_ok_and_driver_ok_only(void **state)
{
	struct test *t = test_new();
	struct virtqueue_config config = t->rings[0].config;

	config.enabled = false;
	assert_false(virtio_configure_queue(t->vdev, 0, &config));
	virtio_set_status(t->vdev, ACK);
	assert_false(virtio_configure_queue(t->vdev, 0, &config));
	virtio_set_status(t->vdev, ACK | DRIVER);
	assert_false(virtio_configure_queue(t->vdev, 0, &config));
	driver_negotiate(t->vdev, 0);
	assert_true(virtio_configure_queue(t->vdev, 0, &config));
	driver_enable_queue(t->vdev, 0, &t->rings[0]);
	driver_ok(t->vdev);
	config.size = 4;
	for (unsigned i = 0; i < QUEUES; i++)
		assert_false(virtio_configure_queue(t->vdev, i, &config));
	assert_int_equal(virtio_queue_config(t->vdev, 0).size, QUEUE_SIZE);
	assert_int_equal(t->vdev->queues[0].config.size, QUEUE_SIZE);
	test_end(t);
}

static void enabled_queue_keeps_its_configuration(void **state)
{
	struct test *t = test_new();
	struct virtqueue_config config = t->rings[0].config;

	driver_negotiate(t->vdev, 0);
	assert_true(virtio_configure_queue(t->vdev, 0, &config));
	config.size = 8;
	assert_false(virtio_configure_queue(t->vdev, 0, &config));
	config.enabled = false;
	assert_false(virtio_configure_queue(t->vdev, 0, &config));
	assert_true(virtio_queue_config(t->vdev, 0).enabled);
	test_end(t);
}

static void queue_sizes_and_numbers_that_do_not_exist_are_refused(void **state)
{
	struct test *t = test_new();
	struct virtqueue_config config = t->rings[0].config;

	config.enabled = false;
	driver_negotiate(t->vdev, 0);
	for (unsigned size = 0; size <= 0xffff; size++) {
		bool legal = is_power_of_two(size) && size <= QUEUE_SIZE;

		config.size = (uint16_t)size;
		config.max_size = 0xffff;
		assert_int_equal(virtio_configure_queue(t->vdev, 0, &config), legal);
		assert_int_equal(virtio_queue_config(t->vdev, 0).max_size, QUEUE_SIZE);
	}
	config.size = QUEUE_SIZE;
	for (unsigned queue = QUEUES; queue <= 0xffff; queue++) {
		assert_false(virtio_configure_queue(t->vdev, queue, &config));
		assert_int_equal(virtio_queue_config(t->vdev, queue).size, 0);
		virtio_kick_queue(t->vdev, queue);
	}
	test_end(t);
}

static void queue_that_is_not_enabled_is_not_kicked(void **state)
{
	struct test *t = test_new();

	driver_negotiate(t->vdev, 0);
	driver_enable_queue(t->vdev, 1, &t->rings[1]);
	driver_ok(t->vdev);
	for (unsigned i = 0; i < QUEUES; i++)
		virtio_kick_queue(t->vdev, i);
	assert_int_equal(eventfd_drain(t->vdev->kick_fds[0]), 0);
	assert_int_equal(eventfd_drain(t->vdev->kick_fds[1]), 1);
	assert_null(t->vdev->queues[0].desc);
	assert_non_null(t->vdev->queues[1].desc);
	test_end(t);
}

static void rings_outside_ram_need_a_reset_and_nothing_starts(void **state)
{
	struct test *t = test_new();
	struct virtqueue_config config = t->rings[0].config;

	config.desc.v = 0xc0000000;
	driver_negotiate(t->vdev, 0);
	assert_true(virtio_configure_queue(t->vdev, 0, &config));
	driver_ok(t->vdev);
	assert_int_equal(t->dev.starts, 0);
	assert_true(virtio_status(t->vdev) & NEEDS_RESET);
	assert_int_equal(t->dev.transport.config, 1);
	assert_true(t->dev.transport.active);
	/* After its reset it works. */
	driver_reset(&t->f, t->vdev);
	bring_up(t);
	assert_int_equal(t->dev.starts, 1);
	test_end(t);
}

/* --- reset and pause ---------------------------------------------------------------------- */

static void reset_takes_until_the_data_path_is_at_rest(void **state)
{
	struct test *t = test_new();

	bring_up(t);
	t->dev.resets = 0;
	virtio_kick_queue(t->vdev, 0);
	virtio_set_status(t->vdev, 0);
	device_fixture_run_ms(&t->f, 2);
	assert_int_not_equal(virtio_status(t->vdev), 0);
	assert_non_null(t->vdev->queues[0].desc);
	/* Nothing else is heard meanwhile, also not a second reset. */
	virtio_set_status(t->vdev, 0);
	virtio_set_status(t->vdev, 0xff);
	assert_int_equal(t->dev.stops, 1);
	assert_int_equal(t->dev.resets, 0);
	let_go(t);
	assert_int_equal(virtio_status(t->vdev), 0);
	assert_int_equal(t->dev.resets, 1);
	assert_int_equal(t->f.resets, 1);
	assert_false(t->dev.transport.active);
	assert_null(t->vdev->queues[0].desc);
	assert_false(virtio_queue_config(t->vdev, 0).enabled);
	assert_int_equal(virtio_queue_config(t->vdev, 0).size, QUEUE_SIZE);
	assert_int_equal(eventfd_drain(t->vdev->kick_fds[0]), 0);
	bring_up(t);
	assert_int_equal(t->dev.starts, 2);
	test_end(t);
}

static void reset_of_a_device_that_does_not_run_is_done_at_once(void **state)
{
	struct test *t = test_new();

	driver_negotiate(t->vdev, OWN_FEATURES);
	virtio_set_status(t->vdev, 0);
	assert_int_equal(virtio_status(t->vdev), 0);
	assert_int_equal(t->vdev->driver_features, 0);
	assert_int_equal(t->f.resets, 0); /* it was never active: no event */
	test_end(t);
}

static void quiesce_waits_for_the_data_path_and_resume_starts_it_again(void **state)
{
	struct test *t = test_new();
	struct device *dev = &t->vdev->dev;

	bring_up(t);
	virtio_device_quiesce(dev, &(struct quiesce){.holders = 10}); /* never comes to 0 */
	assert_int_equal(t->dev.stops, 1);
	let_go(t);
	assert_false(t->vdev->started);
	assert_non_null(t->vdev->queues[0].desc);
	virtio_device_resume(dev);
	assert_int_equal(t->dev.starts, 2);
	assert_int_equal(t->f.activated, 1);
	test_end(t);
}

static void at_rest(struct loop_task *task)
{
	(*(unsigned *)task->arg)++;
}

static void pause_that_meets_a_reset_waits_for_it(void **state)
{
	struct test *t = test_new();
	unsigned rests = 0;
	struct quiesce q;

	bring_up(t);
	virtio_set_status(t->vdev, 0);
	quiesce_init(&q, t->f.host.main_loop, at_rest, &rests);
	virtio_device_quiesce(&t->vdev->dev, &q);
	quiesce_release(&q);
	device_fixture_run_ms(&t->f, 2);
	assert_int_equal(rests, 0);
	assert_int_equal(t->dev.stops, 1);
	let_go(t);
	assert_int_equal(rests, 1);
	assert_int_equal(virtio_status(t->vdev), 0);
	/* What the driver does while paused starts at resume. */
	bring_up(t);
	assert_int_equal(t->dev.starts, 1);
	virtio_device_resume(&t->vdev->dev);
	assert_int_equal(t->dev.starts, 2);
	test_end(t);
}

static void reset_that_meets_a_pause_waits_for_it(void **state)
{
	struct test *t = test_new();
	unsigned rests = 0;
	struct quiesce q;

	bring_up(t);
	quiesce_init(&q, t->f.host.main_loop, at_rest, &rests);
	virtio_device_quiesce(&t->vdev->dev, &q);
	quiesce_release(&q);
	virtio_set_status(t->vdev, 0);
	assert_int_not_equal(virtio_status(t->vdev), 0);
	assert_int_equal(t->dev.stops, 1);
	let_go(t);
	assert_int_equal(rests, 1);
	assert_int_equal(virtio_status(t->vdev), 0);
	test_end(t);
}

static void reset_while_paused_is_done_at_once(void **state)
{
	struct test *t = test_new();
	unsigned rests = 0;
	struct quiesce q;

	bring_up(t);
	quiesce_init(&q, t->f.host.main_loop, at_rest, &rests);
	virtio_device_quiesce(&t->vdev->dev, &q);
	quiesce_release(&q);
	let_go(t);
	virtio_set_status(t->vdev, 0);
	assert_int_equal(virtio_status(t->vdev), 0);
	virtio_device_resume(&t->vdev->dev);
	assert_int_equal(t->dev.starts, 1);
	test_end(t);
}

static void resume_that_overtakes_the_pause_starts_again_at_rest(void **state)
{
	struct test *t = test_new();
	unsigned rests = 0;
	struct quiesce q;

	bring_up(t);
	quiesce_init(&q, t->f.host.main_loop, at_rest, &rests);
	virtio_device_quiesce(&t->vdev->dev, &q);
	quiesce_release(&q);
	virtio_device_resume(&t->vdev->dev);
	assert_int_equal(t->dev.starts, 1);
	let_go(t);
	assert_int_equal(rests, 1);
	assert_int_equal(t->dev.starts, 2);
	test_end(t);
}

static void needs_reset_is_told_once_and_ends_with_reset(void **state)
{
	struct test *t = test_new();

	bring_up(t);
	virtio_needs_reset(t->vdev, "test");
	virtio_needs_reset(t->vdev, "test");
	assert_int_equal(t->dev.transport.config, 1);
	assert_true(virtio_status(t->vdev) & NEEDS_RESET);
	/* A driver that adds bits to what it read does no harm. */
	virtio_set_status(t->vdev, virtio_status(t->vdev) | FAILED);
	assert_true(virtio_status(t->vdev) & FAILED);
	virtio_set_status(t->vdev, 0);
	let_go(t);
	assert_int_equal(virtio_status(t->vdev), 0);
	test_end(t);
}

/* --- configuration space ------------------------------------------------------------------ */

static void configuration_space_reads_zero_where_the_device_has_none(void **state)
{
	struct test *t = test_new();
	uint8_t data[8];

	virtio_config_write(t->vdev, 0, "\1\2\3\4\5\6\7\10", 8);
	for (unsigned len = 1; len <= 8; len *= 2) {
		for (uint32_t offset = 0; offset < 4096; offset++) {
			memset(data, 0xee, sizeof(data));
			virtio_config_read(t->vdev, offset, data, len);
			for (unsigned i = 0; i < len; i++)
				assert_int_equal(data[i], offset + len <= 8 ? offset + i + 1 : 0);
		}
	}
	virtio_config_read(t->vdev, 0xfffffffc, data, 8);
	virtio_config_write(t->vdev, 0xfffffffc, data, 8);
	test_end(t);
}

static void change_of_configuration_moves_the_generation_and_tells(void **state)
{
	struct test *t = test_new();
	unsigned before = t->vdev->config_generation;

	virtio_config_changed(t->vdev);
	assert_int_not_equal(t->vdev->config_generation, before);
	assert_int_equal(t->dev.transport.config, 1);
	test_end(t);
}

/* --- state -------------------------------------------------------------------------------- */

static void saved_device_goes_on_where_it_was(void **state)
{
	struct test *t = test_new(), *u = test_new();
	AUTO_BUF struct buf buf = {.data = NULL};
	struct cursor in;

	bring_up(t);
	t->vdev->queues[1].next_avail = t->vdev->queues[1].next_used = 77;
	t->vdev->config_generation = 3;
	assert_int_equal(virtio_device_save(&t->vdev->dev, &buf), 0);
	in = cursor_init(buf.data, buf.len);
	assert_int_equal(virtio_device_load(&u->vdev->dev, &in, NULL), 0);
	assert_int_equal(cursor_left(&in), 0);
	assert_int_equal(u->dev.starts, 0);
	assert_int_equal(virtio_status(u->vdev), virtio_status(t->vdev));
	virtio_device_resume(&u->vdev->dev);
	assert_int_equal(u->dev.starts, 1);
	assert_true(u->dev.transport.active);
	assert_int_equal(u->vdev->features, t->vdev->features);
	assert_int_equal(u->vdev->queues[1].next_avail, 77);
	assert_int_equal(u->vdev->queues[1].config.desc.v, t->rings[1].config.desc.v);
	assert_int_equal(u->vdev->config_generation, 3);
	test_end(t);
	test_end(u);
}

/* Whatever a byte of the state becomes, loading and resuming it stays within bounds. */
static void damaged_state_is_refused_or_harmless(void **state)
{
	struct test *t = test_new();
	AUTO_BUF struct buf buf = {.data = NULL};

	bring_up(t);
	assert_int_equal(virtio_device_save(&t->vdev->dev, &buf), 0);
	for (size_t i = 0; i < buf.len; i++) {
		const uint8_t masks[] = {0x01, 0x80, 0xff};

		for (size_t k = 0; k < ARRAY_SIZE(masks); k++) {
			struct test *u = test_new();
			struct cursor in = cursor_init(buf.data, buf.len);

			buf.data[i] ^= masks[k];
			if (virtio_device_load(&u->vdev->dev, &in, NULL) == 0) {
				virtio_device_resume(&u->vdev->dev);
				for (unsigned q = 0; q < QUEUES; q++)
					assert_true(u->vdev->queues[q].config.size <= QUEUE_SIZE);
			}
			buf.data[i] ^= masks[k];
			test_end(u);
		}
	}
	for (size_t len = 0; len < buf.len; len++) {
		struct cursor in = cursor_init(buf.data, len);

		assert_true(virtio_device_load(&t->vdev->dev, &in, NULL) < 0);
	}
	test_end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queue_counts_and_sizes_are_bounded),
		cmocka_unit_test(driver_that_follows_the_steps_gets_the_device_going),
		cmocka_unit_test(features_must_be_offered_and_modern),
		cmocka_unit_test(features_are_frozen_from_features_ok_on),
		cmocka_unit_test(feature_words_beyond_the_second_are_nothing),
		cmocka_unit_test(status_bits_are_only_added_and_in_order),
		cmocka_unit_test(queues_are_configured_between_features_ok_and_driver_ok_only),
		cmocka_unit_test(enabled_queue_keeps_its_configuration),
		cmocka_unit_test(queue_sizes_and_numbers_that_do_not_exist_are_refused),
		cmocka_unit_test(queue_that_is_not_enabled_is_not_kicked),
		cmocka_unit_test(rings_outside_ram_need_a_reset_and_nothing_starts),
		cmocka_unit_test(reset_takes_until_the_data_path_is_at_rest),
		cmocka_unit_test(reset_of_a_device_that_does_not_run_is_done_at_once),
		cmocka_unit_test(quiesce_waits_for_the_data_path_and_resume_starts_it_again),
		cmocka_unit_test(pause_that_meets_a_reset_waits_for_it),
		cmocka_unit_test(reset_that_meets_a_pause_waits_for_it),
		cmocka_unit_test(reset_while_paused_is_done_at_once),
		cmocka_unit_test(resume_that_overtakes_the_pause_starts_again_at_rest),
		cmocka_unit_test(needs_reset_is_told_once_and_ends_with_reset),
		cmocka_unit_test(configuration_space_reads_zero_where_the_device_has_none),
		cmocka_unit_test(change_of_configuration_moves_the_generation_and_tells),
		cmocka_unit_test(saved_device_goes_on_where_it_was),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
