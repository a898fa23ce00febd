/* SPDX-License-Identifier: Apache-2.0 */
/* The network device's data path: frames between a driver's rings and the host's end of a tap. */
#include "tests/unit/net_fixture.h"

#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DATA	  FIXTURE_DATA
#define TABLE	  (FIXTURE_DATA + 0xe0000)
#define RX	  0
#define TX	  1
#define MRG	  NET_BIT(MRG_RXBUF)
#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT  (1ull << VIRTIO_RING_F_INDIRECT_DESC)

static unsigned num_buffers(struct net_fixture *t, uint64_t addr)
{
	return guest_bytes(t, addr)[10] | guest_bytes(t, addr)[11] << 8;
}

/* --- transmit -------------------------------------------------------------------------------- */

static void transmitted_frame_reaches_the_host(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, EVENT_IDX);
	net_transmit(t, TX, DATA, net_lay_frame(t, DATA, 7, 500));
	net_host_expect(t, 7, 500);
	assert_int_equal(net_wait_used(t, TX), 0);
	assert_true(atomic_load(&t->transport.queues[TX]) > 0);
	assert_int_equal(net_counter(t, "tx_frames"), 1);
	assert_int_equal(net_counter(t, "tx_bytes"), 500);
	assert_int_equal(net_counter(t, "tx_dropped"), 0);
	net_fixture_end(t);
}

static void transmitted_frame_may_be_in_pieces(void **state)
{
	static const uint32_t cuts[] = {1, 5, 12, 13, 26, 100};
	struct net_fixture *t = net_fixture_new(1);
	uint32_t len;

	net_fixture_start(t, 0);
	len = net_lay_frame(t, DATA, 8, 300);
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		struct vring_buffer buffers[] = {
			{.addr = DATA, .len = cuts[i]},
			{.addr = DATA, .len = 0},
			{.addr = DATA + cuts[i], .len = len - cuts[i]},
		};

		vring_add(&t->rings[TX], buffers, 3);
		virtio_kick_queue(t->vdev, TX);
		net_host_expect(t, 8, 300);
		net_wait_used(t, TX);
	}
	net_fixture_end(t);
}

static void frames_around_the_length_that_is_copied_leave_whole(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, 0);
	for (size_t len = 2034; len <= 2038; len++) {
		uint32_t bytes = net_lay_frame(t, DATA, (uint16_t)len, len);
		struct vring_buffer buffers[] = {
			{.addr = DATA, .len = 1000},
			{.addr = DATA + 1000, .len = bytes - 1000},
		};

		vring_add(&t->rings[TX], buffers, 2);
		virtio_kick_queue(t->vdev, TX);
		net_host_expect(t, (uint16_t)len, len);
		net_wait_used(t, TX);
	}
	net_fixture_end(t);
}

static void many_frames_leave_in_order(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, EVENT_IDX);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < NET_QUEUE_SIZE; i++) {
			uint64_t addr = DATA + i * 256;

			net_transmit(t, TX, addr,
				     net_lay_frame(t, addr, (uint16_t)(1 + i), 60 + i));
		}
		for (unsigned i = 0; i < NET_QUEUE_SIZE; i++) {
			net_host_expect(t, (uint16_t)(1 + i), 60 + i);
			net_wait_used(t, TX);
		}
	}
	net_fixture_end(t);
}

static void large_segment_passes_when_negotiated(void **state)
{
	struct net_fixture *t = net_fixture_new(1);
	const uint64_t features = NET_BIT(CSUM) | NET_BIT(HOST_UFO);
	uint32_t len;

	if (!(virtio_offered_features(t->vdev) & NET_BIT(HOST_UFO))) {
		print_message("skipped: no UFO\n");
		net_fixture_end(t);
		skip();
	}
	net_fixture_start(t, features);
	len = net_lay_frame(t, DATA, 9, 20000);
	/* NEEDS_CSUM, UDP, headers of 42 bytes, pieces of 1000, checksum of UDP */
	memcpy(guest_bytes(t, DATA), "\x01\x03\x2a\x00\xe8\x03\x22\x00\x06\x00", 10);
	net_transmit(t, TX, DATA, len);
	net_wait_used(t, TX);
	assert_int_equal(net_counter(t, "tx_frames"), 1);
	assert_int_equal(net_counter(t, "tx_bytes"), 20000);
	net_fixture_end(t);
}

/* Sends what is to be dropped, and sees that it is and that what follows is not. */
static void expect_dropped(struct net_fixture *t, const struct vring_buffer *buffers, unsigned n)
{
	int64_t before = net_counter(t, "tx_dropped");

	vring_add(&t->rings[TX], buffers, n);
	virtio_kick_queue(t->vdev, TX);
	assert_int_equal(net_wait_used(t, TX), 0);
	assert_int_equal(net_counter(t, "tx_dropped"), before + 1);
	net_transmit(t, TX, DATA + 0x80000, net_lay_frame(t, DATA + 0x80000, 3, 80));
	net_wait_used(t, TX);
	net_host_expect(t, 3, 80);
}

static void frames_of_impossible_length_are_dropped(void **state)
{
	static const uint32_t lengths[] = {1, 11, 12, 13, 25, 65535 + 14 + 8 + 12 + 1, 0x80000};
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, 0);
	memset(guest_bytes(t, DATA), 0, NET_HEADER);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct vring_buffer buffer = {.addr = DATA, .len = lengths[i]};

		expect_dropped(t, &buffer, 1);
	}
	/* A buffer for us to write has no place here. */
	expect_dropped(t, &(struct vring_buffer){.addr = DATA, .len = 100, .write = true}, 1);
	net_fixture_end(t);
}

static void offloads_that_were_not_negotiated_are_dropped(void **state)
{
	static const uint8_t headers[][2] = {{1, 0}, {0, 1}, {0, 3}, {0, 4}, {0, 5}, {0, 0x80}};
	struct net_fixture *t = net_fixture_new(1);
	struct vring_buffer buffer = {.addr = DATA};

	net_fixture_start(t, 0);
	buffer.len = net_lay_frame(t, DATA, 9, 200);
	for (unsigned i = 0; i < ARRAY_SIZE(headers); i++) {
		memcpy(guest_bytes(t, DATA), headers[i], 2);
		expect_dropped(t, &buffer, 1);
	}
	net_fixture_end(t);
}

static void nonsense_in_the_header_is_dropped(void **state)
{
	/* flags, type, header length, segment size, checksum's start and offset */
	static const uint8_t headers[][11] = {
		"\x01\x00\x00\x00\x00\x00\xff\xff\xff\xff", /* checksum beyond the frame */
		"\x01\x01\x36\x00\x00\x00\x22\x00\x10\x00", /* segments of no bytes */
		"\x01\x01\xff\xff\x00\x01\x22\x00\x10\x00", /* headers longer than the frame */
		"\x01\x07\x36\x00\x00\x01\x22\x00\x10\x00", /* unknown type */
	};
	struct net_fixture *t = net_fixture_new(1);
	struct vring_buffer buffer = {.addr = DATA};

	net_fixture_start(t, NET_BIT(CSUM) | NET_BIT(HOST_TSO4) | NET_BIT(HOST_TSO6));
	buffer.len = net_lay_frame(t, DATA, 9, 200);
	for (unsigned i = 0; i < ARRAY_SIZE(headers); i++) {
		memcpy(guest_bytes(t, DATA), headers[i], 10);
		expect_dropped(t, &buffer, 1);
	}
	net_fixture_end(t);
}

static void chain_of_very_many_buffers_is_dropped(void **state)
{
	static struct vring_buffer buffers[VIRTQUEUE_MAX_INDIRECT];
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, INDIRECT);
	memset(guest_bytes(t, DATA), 0, NET_HEADER);
	for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++)
		buffers[i] = (struct vring_buffer){.addr = DATA, .len = 1};
	vring_add_indirect(&t->rings[TX], TABLE, buffers, ARRAY_SIZE(buffers));
	virtio_kick_queue(t->vdev, TX);
	assert_int_equal(net_wait_used(t, TX), 0);
	assert_int_equal(net_counter(t, "tx_dropped"), 1);
	net_fixture_end(t);
}

static void malformed_transmit_chain_needs_a_reset(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	for (unsigned round = 0; round < 3; round++) {
		net_fixture_start(t, 0);
		vring_set_desc(&t->rings[TX], 0, 0, DATA, 100, VRING_DESC_F_NEXT, 0);
		vring_offer(&t->rings[TX], 0);
		virtio_kick_queue(t->vdev, TX);
		net_expect_needs_reset(t);
	}
	net_fixture_start(t, 0);
	net_transmit(t, TX, DATA, net_lay_frame(t, DATA, 7, 500));
	net_host_expect(t, 7, 500);
	net_fixture_end(t);
}

/* --- receive --------------------------------------------------------------------------------- */

static void frame_from_the_host_fills_one_buffer(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, EVENT_IDX);
	net_offer(t, RX, DATA, 1526, 4);
	net_host_send(t, 5, 1000);
	assert_int_equal(net_wait_used(t, RX), NET_HEADER + 1000);
	net_expect_frame(t, DATA, 5, 1000);
	assert_int_equal(num_buffers(t, DATA), 1);
	net_host_send(t, 6, 60);
	assert_int_equal(net_wait_used(t, RX), NET_HEADER + 60);
	net_expect_frame(t, DATA + 1526, 6, 60);
	assert_true(atomic_load(&t->transport.queues[RX]) > 0);
	assert_int_equal(net_counter(t, "rx_frames"), 2);
	assert_int_equal(net_counter(t, "rx_bytes"), 1060);
	net_fixture_end(t);
}

static void frame_spreads_over_merged_buffers(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG | EVENT_IDX);
	net_offer(t, RX, DATA, 1000, 60);
	net_host_send(t, 5, 5000);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(net_wait_used(t, RX), 1000);
	assert_int_equal(net_wait_used(t, RX), 12);
	assert_int_equal(num_buffers(t, DATA), 6);
	net_expect_frame(t, DATA, 5, 5000);
	net_host_send(t, 6, 100);
	assert_int_equal(net_wait_used(t, RX), 112);
	assert_int_equal(num_buffers(t, DATA + 6000), 1);
	net_expect_frame(t, DATA + 6000, 6, 100);
	net_expect_none(t, RX);
	net_fixture_end(t);
}

static void longest_frame_arrives(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG);
	net_offer(t, RX, DATA, 4096, 32);
	net_host_send(t, 5, 65535);
	for (unsigned i = 0; i < 16; i++)
		net_wait_used(t, RX);
	net_expect_frame(t, DATA, 5, 65535);
	net_fixture_end(t);
}

static void long_frames_among_short_ones_arrive_whole(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG);
	for (unsigned i = 0; i < 300; i++) {
		size_t len = i % 100 == 70 ? 9000 : i % 100 < 5 ? 1900 + i % 100 * 100 : 60 + i;
		unsigned n = (unsigned)(NET_HEADER + len + 999) / 1000;

		net_offer(t, RX, DATA, 1000, n);
		net_host_send(t, (uint16_t)i, len);
		for (unsigned k = 0; k < n; k++)
			net_wait_used(t, RX);
		net_expect_frame(t, DATA, (uint16_t)i, len);
		assert_int_equal(num_buffers(t, DATA), n);
	}
	assert_int_equal(net_counter(t, "rx_dropped"), 0);
	net_fixture_end(t);
}

static void buffers_are_used_in_turn_for_ever(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG | EVENT_IDX);
	net_offer(t, RX, DATA, 1000, 60);
	for (unsigned i = 0; i < 1000; i++) {
		size_t len = 60 + i * 13 % 3000;
		unsigned n = (unsigned)(NET_HEADER + len + 999) / 1000;

		net_host_send(t, (uint16_t)i, len);
		for (unsigned k = 0; k < n; k++)
			net_wait_used(t, RX);
		net_offer(t, RX, DATA, 1000, n);
	}
	assert_int_equal(net_counter(t, "rx_frames"), 1000);
	assert_int_equal(net_counter(t, "rx_dropped"), 0);
	net_fixture_end(t);
}

static void frames_wait_for_buffers(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, EVENT_IDX);
	for (uint16_t i = 0; i < 10; i++)
		net_host_send(t, i, 100 + i);
	net_expect_none(t, RX);
	net_offer(t, RX, DATA, 2000, 3);
	for (uint16_t i = 0; i < 3; i++)
		assert_int_equal(net_wait_used(t, RX), NET_HEADER + 100 + i);
	net_expect_none(t, RX);
	net_offer(t, RX, DATA, 2000, 10);
	for (uint16_t i = 3; i < 10; i++)
		assert_int_equal(net_wait_used(t, RX), NET_HEADER + 100 + i);
	assert_int_equal(net_counter(t, "rx_dropped"), 0);
	net_fixture_end(t);
}

static void frame_beyond_a_plain_buffer_is_dropped(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, 0);
	net_offer(t, RX, DATA, 500, 2);
	net_host_send(t, 5, 489);
	net_host_send(t, 6, 488);
	assert_int_equal(net_wait_used(t, RX), 500);
	net_expect_frame(t, DATA, 6, 488);
	assert_int_equal(net_counter(t, "rx_dropped"), 1);
	net_fixture_end(t);
}

static void frame_waits_for_more_buffers_to_merge(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG);
	net_offer(t, RX, DATA, 500, 2);
	net_host_send(t, 5, 1400);
	device_fixture_run_ms(&t->f, 20);
	net_offer(t, RX, DATA + 1000, 500, 1);
	assert_int_equal(net_wait_used(t, RX), 500);
	assert_int_equal(net_wait_used(t, RX), 500);
	assert_int_equal(net_wait_used(t, RX), 412);
	net_expect_frame(t, DATA, 5, 1400);
	assert_int_equal(num_buffers(t, DATA), 3);
	assert_int_equal(net_counter(t, "rx_dropped"), 0);
	net_fixture_end(t);
}

static void frame_that_waits_in_vain_does_not_block_others(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG);
	net_offer(t, RX, DATA, 500, 2);
	net_host_send(t, 5, 1400);
	net_host_send(t, 6, 300);
	assert_int_equal(net_wait_used(t, RX), NET_HEADER + 300);
	net_expect_frame(t, DATA, 6, 300);
	assert_int_equal(net_counter(t, "rx_dropped"), 1);
	net_fixture_end(t);
}

static void frame_beyond_all_that_the_ring_holds_is_dropped(void **state)
{
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG);
	net_offer(t, RX, DATA, 100, NET_QUEUE_SIZE);
	net_host_send(t, 5, 9000);
	net_host_send(t, 6, 80);
	assert_int_equal(net_wait_used(t, RX), NET_HEADER + 80);
	net_expect_frame(t, DATA, 6, 80);
	assert_int_equal(net_counter(t, "rx_dropped"), 1);
	net_fixture_end(t);
}

static void buffers_of_very_many_pieces_can_be_merged(void **state)
{
	static struct vring_buffer pieces[200];
	struct net_fixture *t = net_fixture_new(1);

	net_fixture_start(t, MRG | INDIRECT);
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < 8; i++) {
			uint64_t addr = DATA + i * sizeof(pieces) / sizeof(*pieces) * 2;

			for (unsigned k = 0; k < ARRAY_SIZE(pieces); k++)
				pieces[k] = (struct vring_buffer){
					.addr = addr + 2 * k, .len = 2, .write = true};
			vring_add_indirect(&t->rings[RX], TABLE + i * 0x1000, pieces,
					   ARRAY_SIZE(pieces));
		}
		virtio_kick_queue(t->vdev, RX);
		device_fixture_run_ms(&t->f, 5);
		for (uint16_t i = 0; i < 4; i++) {
			net_host_send(t, i, 700);
			assert_int_equal(net_wait_used(t, RX), 400);
			assert_int_equal(net_wait_used(t, RX), 312);
			net_expect_frame(t, DATA + i * 800, i, 700);
		}
	}
	net_fixture_end(t);
}

static void unusable_receive_buffer_needs_a_reset(void **state)
{
	static const struct vring_buffer bad[][2] = {
		{{.addr = DATA, .len = 11, .write = true}, {.addr = DATA, .len = 0, .write = true}},
		{{.addr = DATA, .len = 100}, {.addr = DATA, .len = 1000, .write = true}},
		{{.addr = FIXTURE_MEMORY_BYTES - 10, .len = 20, .write = true},
		 {.addr = DATA, .len = 100, .write = true}},
	};
	struct net_fixture *t = net_fixture_new(1);

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		net_fixture_start(t, i % 2 ? MRG : 0);
		vring_add(&t->rings[RX], bad[i], 2);
		virtio_kick_queue(t->vdev, RX);
		net_host_send(t, 5, 100);
		net_expect_needs_reset(t);
	}
	net_fixture_start(t, 0);
	net_offer(t, RX, DATA, 2000, 1);
	net_host_send(t, 5, 100);
	net_wait_used(t, RX);
	net_expect_frame(t, DATA, 5, 100);
	net_fixture_end(t);
}

static void flood_does_not_keep_the_device_from_stopping(void **state)
{
	struct net_fixture *t = net_fixture_new(1);
	uint32_t len;

	net_fixture_start(t, MRG);
	net_offer(t, RX, DATA, 2000, NET_QUEUE_SIZE);
	len = net_lay_frame(t, DATA + 0x80000, 3, 80);
	for (unsigned i = 0; i < NET_QUEUE_SIZE; i++)
		net_transmit(t, TX, DATA + 0x80000, len);
	for (unsigned i = 0; i < 400; i++)
		net_host_send(t, 5, 60);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	t->vdev->dev.ops->resume(&t->vdev->dev);
	net_wait_used(t, TX);
	net_fixture_end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transmitted_frame_reaches_the_host),
		cmocka_unit_test(transmitted_frame_may_be_in_pieces),
		cmocka_unit_test(frames_around_the_length_that_is_copied_leave_whole),
		cmocka_unit_test(many_frames_leave_in_order),
		cmocka_unit_test(large_segment_passes_when_negotiated),
		cmocka_unit_test(frames_of_impossible_length_are_dropped),
		cmocka_unit_test(offloads_that_were_not_negotiated_are_dropped),
		cmocka_unit_test(nonsense_in_the_header_is_dropped),
		cmocka_unit_test(chain_of_very_many_buffers_is_dropped),
		cmocka_unit_test(malformed_transmit_chain_needs_a_reset),
		cmocka_unit_test(frame_from_the_host_fills_one_buffer),
		cmocka_unit_test(frame_spreads_over_merged_buffers),
		cmocka_unit_test(longest_frame_arrives),
		cmocka_unit_test(long_frames_among_short_ones_arrive_whole),
		cmocka_unit_test(buffers_are_used_in_turn_for_ever),
		cmocka_unit_test(frames_wait_for_buffers),
		cmocka_unit_test(frame_beyond_a_plain_buffer_is_dropped),
		cmocka_unit_test(frame_waits_for_more_buffers_to_merge),
		cmocka_unit_test(frame_that_waits_in_vain_does_not_block_others),
		cmocka_unit_test(frame_beyond_all_that_the_ring_holds_is_dropped),
		cmocka_unit_test(buffers_of_very_many_pieces_can_be_merged),
		cmocka_unit_test(unusable_receive_buffer_needs_a_reset),
		cmocka_unit_test(flood_does_not_keep_the_device_from_stopping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
