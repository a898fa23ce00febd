/* SPDX-License-Identifier: Apache-2.0 */
/* The network device's control queue, queue pairs, configuration space and life. */
#include "base/endian.h"
#include "base/fd.h"
#include "tests/unit/net_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA FIXTURE_DATA
#define CTRL (NET_BIT(CTRL_VQ) | NET_BIT(CTRL_GUEST_OFFLOADS) | NET_BIT(GUEST_CSUM))
#define MQ   (NET_BIT(CTRL_VQ) | NET_BIT(MQ))

static uint8_t set_pairs(struct net_fixture *t, unsigned queue, unsigned num)
{
	const uint8_t command[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
				   (uint8_t)num, (uint8_t)(num >> 8)};

	return net_command(t, queue, command, sizeof(command));
}

static uint8_t set_offloads(struct net_fixture *t, uint64_t offloads)
{
	uint8_t command[10] = {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET};

	le_store(command + 2, offloads, 8);
	return net_command(t, 2, command, sizeof(command));
}

/* --- features and configuration space -------------------------------------------------------- */

static void offers_what_the_parameters_allow(void **state)
{
	const uint64_t csum = NET_BIT(CSUM) | NET_BIT(GUEST_CSUM);
	const uint64_t tso = NET_BIT(HOST_TSO4) | NET_BIT(HOST_TSO6) | NET_BIT(HOST_ECN) |
			     NET_BIT(GUEST_TSO4) | NET_BIT(GUEST_TSO6) | NET_BIT(GUEST_ECN);
	const uint64_t ufo = NET_BIT(HOST_UFO) | NET_BIT(GUEST_UFO);
	const uint64_t always =
		NET_BIT(MAC) | NET_BIT(STATUS) | NET_BIT(CTRL_VQ) | NET_BIT(MRG_RXBUF);
	struct net_fixture *t = net_fixture_new(1);
	uint64_t offered = virtio_offered_features(t->vdev);

	assert_int_equal(offered & (always | csum | tso), always | csum | tso);
	assert_true(offered & NET_BIT(MTU));
	assert_false(offered & NET_BIT(MQ));
	device_fixture_end(&t->f, &t->vdev->dev);
	t->params.offload_tso = false;
	t->params.mtu = 0;
	net_fixture_make_device(t);
	offered = virtio_offered_features(t->vdev);
	assert_int_equal(offered & (always | csum | tso), always | csum);
	assert_false(offered & NET_BIT(MTU));
	device_fixture_end(&t->f, &t->vdev->dev);
	t->params.offload_tso = true;
	t->params.offload_csum = false;
	net_fixture_make_device(t);
	offered = virtio_offered_features(t->vdev);
	assert_int_equal(offered & (always | csum | tso | ufo), always);
	net_fixture_end(t);
}

static void configuration_space_reads_as_specified(void **state)
{
	static const uint8_t expected[] = {2, 1, 2, 3, 4, 5, 1, 0, 2, 0, 0x78, 0x05};
	struct net_fixture *t = net_fixture_new(2);
	uint8_t bytes[8];

	for (uint32_t offset = 0; offset < 40; offset++) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			memset(bytes, 0xee, sizeof(bytes));
			virtio_config_read(t->vdev, offset, bytes, len);
			for (unsigned i = 0; i < len; i++)
				assert_int_equal(bytes[i], offset + i < sizeof(expected)
								   ? expected[offset + i]
								   : 0);
		}
	}
	virtio_config_read(t->vdev, UINT32_MAX, bytes, 4);
	virtio_config_write(t->vdev, 0, "\xff\xff\xff\xff", 4);
	virtio_config_read(t->vdev, 0, bytes, 1);
	assert_int_equal(bytes[0], 2);
	net_fixture_end(t);
}

static void number_of_queues_must_fit_the_tap(void **state)
{
	static const unsigned bad[] = {0, 1, 3, 6, UINT32_MAX};
	struct net_fixture *t = net_fixture_new(2);
	struct virtio_device *vdev;
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct virtio_net_params params = t->params;

		params.num_queues = bad[i];
		assert_int_equal(virtio_net_new(&t->f.host, &params, &vdev, &err), -EINVAL);
		assert_int_equal(err.kind, ERR_BAD_REQUEST);
	}
	net_fixture_end(t);
}

static bool thread_exists(const char *name)
{
	DIR *dir = opendir("/proc/self/task");
	bool found = false;
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char path[300], comm[32] = "";
		AUTO_FD int fd = -1;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, comm, sizeof(comm) - 1) > 0)
			found |= strncmp(comm, name, strlen(name)) == 0 &&
				 comm[strlen(name)] == '\n';
	}
	closedir(dir);
	return found;
}

static void threads_are_named_after_device_and_pair(void **state)
{
	static const struct {
		const char *id, *first, *second;
	} cases[] = {
		{"_net1", "_net1_qp0", "_net1_qp1"},
		{"net_0", "_net_0_qp0", "_net_0_qp1"},
		{"front", "_net_front_qp0", "_net_front_qp1"},
		{"network-of-a-long-name", "_network-of_qp0", "_network-of_qp1"},
	};
	struct net_fixture *t = net_fixture_new(2);

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		device_fixture_end(&t->f, &t->vdev->dev);
		t->params.id = cases[i].id;
		net_fixture_make_device(t);
		device_fixture_run_ms(&t->f, 10);
		assert_true(thread_exists(cases[i].first));
		assert_true(thread_exists(cases[i].second));
	}
	net_fixture_end(t);
}

/* --- control queue --------------------------------------------------------------------------- */

static void offloads_change_within_what_was_negotiated(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, CTRL | NET_BIT(GUEST_TSO4));
	assert_int_equal(set_offloads(t, 0), VIRTIO_NET_OK);
	assert_int_equal(set_offloads(t, NET_BIT(GUEST_CSUM)), VIRTIO_NET_OK);
	assert_int_equal(set_offloads(t, NET_BIT(GUEST_CSUM) | NET_BIT(GUEST_TSO4)), VIRTIO_NET_OK);
	assert_int_equal(set_offloads(t, NET_BIT(GUEST_TSO6)), VIRTIO_NET_ERR);
	assert_int_equal(set_offloads(t, CTRL), VIRTIO_NET_ERR);
	assert_int_equal(set_offloads(t, UINT64_MAX), VIRTIO_NET_ERR);
	net_fixture_end(t);
}

static void commands_that_are_not_offered_are_refused(void **state)
{
	struct net_fixture *t = net_fixture_new(1);
	uint8_t command[64] = {0};

	net_fixture_start(t, CTRL);
	for (unsigned class = 0; class < 256; class ++) {
		if (class == VIRTIO_NET_CTRL_GUEST_OFFLOADS)
			continue;
		for (unsigned cmd = 0; cmd < 6; cmd++) {
			command[0] = (uint8_t) class;
			command[1] = (uint8_t)cmd;
			assert_int_equal(net_command(t, 2, command, 8), VIRTIO_NET_ERR);
		}
	}
	/* Of the wrong length. */
	command[0] = VIRTIO_NET_CTRL_GUEST_OFFLOADS;
	command[1] = VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET;
	for (unsigned len = 1; len < 64; len++)
		assert_int_equal(net_command(t, 2, command, len),
				 len == 10 ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
	assert_int_equal(set_pairs(t, 2, 1), VIRTIO_NET_ERR);
	net_fixture_end(t);
}

static void command_without_room_for_the_answer_needs_a_reset(void **state)
{
	struct vring_buffer buffer = {.addr = DATA, .len = 10};
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, CTRL);
	vring_add(&t->rings[2], &buffer, 1);
	virtio_kick_queue(t->vdev, 2);
	net_expect_needs_reset(t);
	net_fixture_start(t, CTRL);
	assert_int_equal(set_offloads(t, 0), VIRTIO_NET_OK);
	net_fixture_end(t);
}

/* --- queue pairs ----------------------------------------------------------------------------- */

/* Sends frames of many connections; returns how many came out of each receive queue. */
static void spread(struct net_fixture *t, unsigned ret_frames[2])
{
	unsigned num = 50;

	ret_frames[0] = ret_frames[1] = 0;
	for (unsigned i = 0; i < num; i++)
		net_host_send(t, (uint16_t)(2000 + i), 60);
	for (unsigned waited = 0; ret_frames[0] + ret_frames[1] < num; waited++) {
		assert_true(waited < 500);
		device_fixture_run_ms(&t->f, 10);
		for (unsigned k = 0; k < 2; k++) {
			uint32_t id, len;

			while (vring_get_used(&t->rings[2 * k], &id, &len)) {
				ret_frames[k]++;
				net_offer(t, 2 * k, DATA + k * 0x40000, 2000, 1);
			}
		}
	}
}

static void frames_spread_over_the_pairs_in_use(void **state)
{
	struct net_fixture *t = net_fixture_new(2);
	unsigned frames[2];

	for (unsigned round = 0; round < 2; round++) {
		net_fixture_start(t, MQ);
		for (unsigned k = 0; k < 2; k++)
			net_offer(t, 2 * k, DATA + k * 0x40000, 2000, NET_QUEUE_SIZE);
		spread(t, frames);
		assert_int_equal(frames[0], 50);
		assert_int_equal(set_pairs(t, 4, 2), VIRTIO_NET_OK);
		spread(t, frames);
		assert_in_range(frames[0], 1, 49);
		net_transmit(t, 3, DATA + 0x80000, net_lay_frame(t, DATA + 0x80000, 1, 100));
		net_host_expect(t, 1, 100);
		net_wait_used(t, 3);
		assert_int_equal(set_pairs(t, 4, 1), VIRTIO_NET_OK);
		spread(t, frames);
		assert_int_equal(frames[0], 50);
		assert_int_equal(set_pairs(t, 4, 2), VIRTIO_NET_OK);
		spread(t, frames);
		assert_in_range(frames[0], 1, 49);
		driver_reset(&t->f, t->vdev);
	}
	net_fixture_end(t);
}

static void number_of_pairs_is_bounded(void **state)
{
	static const unsigned bad[] = {0, 3, 0x8000, 0xffff};
	struct net_fixture *t = net_fixture_new(2);

	net_fixture_start(t, MQ);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(set_pairs(t, 4, bad[i]), VIRTIO_NET_ERR);
	assert_int_equal(set_pairs(t, 4, 2), VIRTIO_NET_OK);
	net_fixture_end(t);
}

static void pair_without_queues_cannot_be_used(void **state)
{
	struct net_fixture *t = net_fixture_new(2);
	uint64_t at = FIXTURE_RINGS;

	driver_negotiate(t->vdev, MQ);
	for (unsigned i = 0; i < 5; i++) {
		at = vring_driver_init(&t->rings[i], t->f.host.memory, at, NET_QUEUE_SIZE);
		if (i != 3)
			driver_enable_queue(t->vdev, i, &t->rings[i]);
	}
	driver_ok(t->vdev);
	assert_int_equal(set_pairs(t, 4, 2), VIRTIO_NET_ERR);
	assert_int_equal(set_pairs(t, 4, 1), VIRTIO_NET_OK);
	net_fixture_end(t);
}

static void control_queue_is_the_third_without_mq(void **state)
{
	struct net_fixture *t = net_fixture_new(2);
	unsigned frames[2];

	net_fixture_start(t, CTRL);
	assert_int_equal(set_offloads(t, 0), VIRTIO_NET_OK);
	assert_int_equal(set_pairs(t, 2, 2), VIRTIO_NET_ERR);
	net_offer(t, 0, DATA, 2000, NET_QUEUE_SIZE);
	/* All of them reach the one pair that is used. */
	spread(t, frames);
	assert_int_equal(frames[0], 50);
	net_fixture_end(t);
}

/* --- life ------------------------------------------------------------------------------------ */

static void pause_gives_buffers_back_and_resume_goes_on(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, NET_BIT(MRG_RXBUF));
	net_offer(t, 0, DATA, 1000, 20);
	for (unsigned i = 0; i < 5; i++) {
		net_host_send(t, (uint16_t)i, 500);
		net_wait_used(t, 0);
		device_fixture_quiesce(&t->f, &t->vdev->dev);
		assert_int_equal(t->vdev->queues[0].num_in_flight, 0);
		net_host_send(t, 77, 600);
		net_expect_none(t, 0);
		t->vdev->dev.ops->resume(&t->vdev->dev);
		assert_int_equal(net_wait_used(t, 0), NET_HEADER + 600);
		net_expect_frame(t, DATA + (2 * i + 1) * 1000, 77, 600);
	}
	net_fixture_end(t);
}

static void frames_from_before_a_reset_are_thrown_away(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, 0);
	for (unsigned i = 0; i < 10; i++)
		net_host_send(t, 1, 100);
	driver_reset(&t->f, t->vdev);
	for (unsigned i = 0; i < 10; i++)
		net_host_send(t, 2, 100);
	net_fixture_negotiate(t, 0);
	net_offer(t, 0, DATA, 2000, 4);
	driver_ok(t->vdev);
	net_expect_none(t, 0);
	net_host_send(t, 3, 100);
	net_wait_used(t, 0);
	net_expect_frame(t, DATA, 3, 100);
	net_fixture_end(t);
}

static void state_moves_to_another_device(void **state)
{
	struct net_fixture *t = net_fixture_new(2);
	struct buf saved = {.len = 0};
	struct cursor in;
	struct err err = ERR_INIT;
	unsigned frames[2];

	net_fixture_start(t, MQ | NET_BIT(MRG_RXBUF) | NET_BIT(GUEST_CSUM));
	for (unsigned k = 0; k < 2; k++)
		net_offer(t, 2 * k, DATA + k * 0x40000, 2000, NET_QUEUE_SIZE);
	assert_int_equal(set_pairs(t, 4, 2), VIRTIO_NET_OK);
	spread(t, frames);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	assert_int_equal(t->vdev->dev.ops->save(&t->vdev->dev, &saved), 0);
	t->vdev->dev.ops->unrealize(&t->vdev->dev);
	t->vdev->dev.ops->free(&t->vdev->dev);
	net_fixture_make_device(t);
	/* Cut short it is refused. */
	in = cursor_init(saved.data, saved.len - 1);
	assert_true(t->vdev->dev.ops->load(&t->vdev->dev, &in, &err) < 0);
	in = cursor_init(saved.data, saved.len);
	assert_int_equal(t->vdev->dev.ops->load(&t->vdev->dev, &in, &err), 0);
	t->vdev->dev.ops->resume(&t->vdev->dev);
	spread(t, frames);
	assert_in_range(frames[0], 1, 49);
	buf_fini(&saved);
	net_fixture_end(t);
}

static void device_starts_and_stops_over_and_over(void **state)
{
	struct net_fixture *t = net_fixture_new(2);

	for (unsigned i = 0; i < 50; i++) {
		net_fixture_negotiate(t, MQ);
		net_offer(t, 0, DATA, 2000, 4);
		net_offer(t, 2, DATA, 2000, 4);
		driver_ok(t->vdev);
		for (unsigned k = 0; k < 10; k++)
			net_host_send(t, (uint16_t)k, 100);
		if (i % 3 == 0)
			driver_reset(&t->f, t->vdev);
		else
			device_fixture_quiesce(&t->f, &t->vdev->dev);
		t->vdev->dev.ops->resume(&t->vdev->dev);
		driver_reset(&t->f, t->vdev);
	}
	net_fixture_end(t);
}

static void tap_serves_one_device_after_the_other(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	for (unsigned i = 0; i < 10; i++) {
		net_fixture_start(t, NET_BIT(GUEST_CSUM) | NET_BIT(GUEST_TSO4));
		net_offer(t, 0, DATA, 2000, 4);
		net_host_send(t, 3, 100);
		net_wait_used(t, 0);
		device_fixture_end(&t->f, &t->vdev->dev);
		net_fixture_make_device(t);
	}
	net_fixture_end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_what_the_parameters_allow),
		cmocka_unit_test(configuration_space_reads_as_specified),
		cmocka_unit_test(number_of_queues_must_fit_the_tap),
		cmocka_unit_test(threads_are_named_after_device_and_pair),
		cmocka_unit_test(offloads_change_within_what_was_negotiated),
		cmocka_unit_test(commands_that_are_not_offered_are_refused),
		cmocka_unit_test(command_without_room_for_the_answer_needs_a_reset),
		cmocka_unit_test(frames_spread_over_the_pairs_in_use),
		cmocka_unit_test(number_of_pairs_is_bounded),
		cmocka_unit_test(pair_without_queues_cannot_be_used),
		cmocka_unit_test(control_queue_is_the_third_without_mq),
		cmocka_unit_test(pause_gives_buffers_back_and_resume_goes_on),
		cmocka_unit_test(frames_from_before_a_reset_are_thrown_away),
		cmocka_unit_test(state_moves_to_another_device),
		cmocka_unit_test(device_starts_and_stops_over_and_over),
		cmocka_unit_test(tap_serves_one_device_after_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
