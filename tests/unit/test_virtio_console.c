/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "chardev/chardev.h"
#include "tests/unit/device_fixture.h"
#include "vmm/virtio/virtio_console.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#define RX	   0
#define TX	   1
#define QUEUE_SIZE 256
#define RX_DATA	   FIXTURE_DATA
#define TX_DATA	   (FIXTURE_DATA + 0x80000)
#define FEATURES   (1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_RING_F_INDIRECT_DESC)

struct test {
	struct device_fixture f;
	struct chardev *chardev;
	struct virtio_device *vdev;
	struct transport_counts transport;
	struct vring_driver rings[2];
	int terminal; /* the pseudo-terminal's slave */
};

static void lay_rings(struct test *t)
{
	uint64_t at = vring_driver_init(&t->rings[RX], t->f.host.memory, FIXTURE_RINGS, QUEUE_SIZE);

	vring_driver_init(&t->rings[TX], t->f.host.memory, at, QUEUE_SIZE);
}

static void bring_up(struct test *t, uint64_t features)
{
	lay_rings(t);
	driver_negotiate(t->vdev, features | 1ULL << VIRTIO_CONSOLE_F_SIZE);
	driver_enable_queue(t->vdev, RX, &t->rings[RX]);
	driver_enable_queue(t->vdev, TX, &t->rings[TX]);
	driver_ok(t->vdev);
}

static void make_device(struct test *t)
{
	struct err err = ERR_INIT;

	assert_int_equal(virtio_console_new(&t->f.host, "__console", t->chardev, &t->vdev, &err),
			 0);
	assert_int_equal(t->vdev->dev.ops->realize(&t->vdev->dev, &err), 0);
	transport_counts_connect(&t->transport, t->vdev);
}

static struct test *test_new(void)
{
	struct chardev_params params = {.mode = CHARDEV_PTY, .input = true};
	struct test *t = calloc(1, sizeof(*t));
	struct err err = ERR_INIT;

	assert_non_null(t);
	device_fixture_init(&t->f, false);
	assert_int_equal(chardev_new(t->f.host.main_loop, &params, &t->chardev, &err), 0);
	t->terminal = open(chardev_path(t->chardev), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_true(t->terminal >= 0);
	make_device(t);
	return t;
}

static void test_end(struct test *t)
{
	device_fixture_end(&t->f, &t->vdev->dev);
	fd_close(&t->terminal);
	chardev_free(t->chardev);
	device_fixture_fini(&t->f);
	free(t);
}

static void type(struct test *t, const char *text)
{
	assert_int_equal(write(t->terminal, text, strlen(text)), strlen(text));
}

static void give_room(struct test *t, uint64_t addr, uint32_t len)
{
	struct vring_buffer buffer = {.addr = addr, .len = len, .write = true};

	vring_add(&t->rings[RX], &buffer, 1);
	virtio_kick_queue(t->vdev, RX);
}

static void print(struct test *t, const char *text)
{
	struct vring_buffer buffer = {.addr = TX_DATA, .len = (uint32_t)strlen(text)};

	assert_int_equal(guest_memory_write(t->f.host.memory, gpa(TX_DATA), text, strlen(text)), 0);
	vring_add(&t->rings[TX], &buffer, 1);
	virtio_kick_queue(t->vdev, TX);
}

static uint32_t answer(struct test *t, unsigned queue)
{
	uint32_t id, len;

	assert_true(driver_wait_used(&t->f, &t->rings[queue], &id, &len));
	return len;
}

static void assert_guest_got(struct test *t, uint64_t addr, const char *text)
{
	char got[64] = "";

	assert_int_equal(guest_memory_read(t->f.host.memory, gpa(addr), got, strlen(text)), 0);
	assert_string_equal(got, text);
}

/* Reads `text` off the terminal. */
static void assert_terminal_shows(struct test *t, const char *text)
{
	char got[64] = "";
	size_t len = 0;

	for (unsigned i = 0; i < 1000 && len < strlen(text); i++) {
		ssize_t n = read(t->terminal, got + len, strlen(text) - len);

		if (n > 0)
			len += (size_t)n;
		else
			device_fixture_run_ms(&t->f, 1);
	}
	assert_string_equal(got, text);
}

/* --- tests -------------------------------------------------------------------------------- */

static void output_reaches_the_terminal(void **state)
{
	struct test *t = test_new();

	bring_up(t, FEATURES);
	print(t, "hello");
	assert_int_equal(answer(t, TX), 0);
	print(t, " world");
	assert_terminal_shows(t, "hello world");
	test_end(t);
}

static void input_reaches_the_guest(void **state)
{
	struct test *t = test_new();

	bring_up(t, FEATURES);
	give_room(t, RX_DATA, 64);
	type(t, "ls\n");
	assert_int_equal(answer(t, RX), 3);
	assert_guest_got(t, RX_DATA, "ls\n");
	assert_true(t->transport.queues[RX] >= 1);
	/* Also when the room comes after the input, and in small pieces. */
	type(t, "abcdef");
	device_fixture_run_ms(&t->f, 20);
	give_room(t, RX_DATA, 4);
	assert_int_equal(answer(t, RX), 4);
	assert_guest_got(t, RX_DATA, "abcd");
	give_room(t, RX_DATA, 4);
	assert_int_equal(answer(t, RX), 2);
	assert_guest_got(t, RX_DATA, "ef");
	test_end(t);
}

static void input_before_there_is_a_driver_waits_for_it(void **state)
{
	struct test *t = test_new();

	type(t, "early");
	device_fixture_run_ms(&t->f, 20);
	bring_up(t, FEATURES);
	give_room(t, RX_DATA, 64);
	assert_int_equal(answer(t, RX), 5);
	assert_guest_got(t, RX_DATA, "early");
	test_end(t);
}

static void much_input_arrives_whole_and_in_order(void **state)
{
	struct test *t = test_new();
	const unsigned total = 60000;
	unsigned written = 0, got = 0;
	uint8_t bytes[100];
	uint32_t id, len;

	bring_up(t, FEATURES);
	while (got < total) {
		/* Whoever types is faster than the driver: the terminal fills. */
		while (written < total) {
			unsigned n = MIN(total - written, (unsigned)sizeof(bytes));
			ssize_t rc;

			for (unsigned i = 0; i < n; i++)
				bytes[i] = 'a' + (written + i) % 26;
			rc = write(t->terminal, bytes, n);
			if (rc <= 0)
				break;
			written += (unsigned)rc;
		}
		give_room(t, RX_DATA, 97);
		assert_true(driver_wait_used(&t->f, &t->rings[RX], &id, &len));
		assert_in_range(len, 1, 97);
		assert_int_equal(guest_memory_read(t->f.host.memory, gpa(RX_DATA), bytes, len), 0);
		for (unsigned i = 0; i < len; i++)
			assert_int_equal(bytes[i], 'a' + (got + i) % 26);
		got += len;
	}
	assert_int_equal(got, total);
	test_end(t);
}

static void one_chain_of_many_pieces_is_printed_whole(void **state)
{
	struct test *t = test_new();
	const struct vring_buffer buffers[] = {{.addr = TX_DATA, .len = 2},
					       {.addr = TX_DATA + 0x5000, .len = 1},
					       {.addr = TX_DATA + 0x9000, .len = 3}};

	bring_up(t, FEATURES);
	guest_memory_write(t->f.host.memory, gpa(TX_DATA), "ab", 2);
	guest_memory_write(t->f.host.memory, gpa(TX_DATA + 0x5000), "c", 1);
	guest_memory_write(t->f.host.memory, gpa(TX_DATA + 0x9000), "def", 3);
	vring_add_indirect(&t->rings[TX], TX_DATA + 0x1000, buffers, 3);
	virtio_kick_queue(t->vdev, TX);
	assert_terminal_shows(t, "abcdef");
	test_end(t);
}

static void flood_of_output_is_bounded_and_does_not_hold_up_a_reset(void **state)
{
	struct test *t = test_new();
	struct vring_buffer buffers[64];
	uint64_t before;

	for (unsigned i = 0; i < 64; i++)
		buffers[i] = (struct vring_buffer){.addr = TX_DATA, .len = 0x70000};
	bring_up(t, FEATURES);
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		vring_add_indirect(&t->rings[TX], RX_DATA + 1024 * (uint64_t)i, buffers, 64);
	virtio_kick_queue(t->vdev, TX);
	before = loop_now_ns();
	driver_reset(&t->f, t->vdev);
	assert_in_range(loop_now_ns() - before, 0, 4000000000ULL);
	bring_up(t, FEATURES);
	print(t, "x");
	assert_int_equal(answer(t, TX), 0);
	test_end(t);
}

static void configuration_tells_the_terminals_size(void **state)
{
	struct test *t = test_new();
	struct winsize size = {.ws_col = 132, .ws_row = 50};
	uint8_t config[8];
	unsigned before;

	assert_true(virtio_offered_features(t->vdev) & 1ULL << VIRTIO_CONSOLE_F_SIZE);
	assert_int_equal(ioctl(t->terminal, TIOCSWINSZ, &size), 0);
	bring_up(t, FEATURES);
	device_fixture_run_ms(&t->f, 10);
	virtio_config_read(t->vdev, 0, config, 4);
	assert_memory_equal(config, "\x84\0\x32\0", 4);
	before = t->transport.config;
	size.ws_col = 80;
	assert_int_equal(ioctl(t->terminal, TIOCSWINSZ, &size), 0);
	chardev_update_size(t->chardev);
	assert_int_equal(t->transport.config, before + 1);
	chardev_update_size(t->chardev); /* no change, no interrupt */
	assert_int_equal(t->transport.config, before + 1);
	virtio_config_read(t->vdev, 0, config, 2);
	assert_memory_equal(config, "\x50\0", 2);
	for (uint32_t offset = 0; offset < 64; offset++)
		for (unsigned len = 1; len <= 8; len *= 2) {
			virtio_config_write(t->vdev, offset, "\xff\xff\xff\xff\xff\xff\xff\xff",
					    len);
			virtio_config_read(t->vdev, offset, config, len);
		}
	virtio_config_read(t->vdev, 0, config, 4);
	assert_memory_equal(config, "\x50\0\x32\0", 4);
	test_end(t);
}

static void nonsense_on_either_queue_needs_a_reset_and_the_device_lives_on(void **state)
{
	struct test *t = test_new();

	for (unsigned queue = 0; queue < 2; queue++) {
		bring_up(t, FEATURES);
		type(t, "x"); /* the receive queue is looked at when there is input */
		vring_offer(&t->rings[queue], 0xffff);
		virtio_kick_queue(t->vdev, queue);
		for (unsigned i = 0;
		     i < 1000 && !(virtio_status(t->vdev) & VIRTIO_CONFIG_S_NEEDS_RESET); i++)
			device_fixture_run_ms(&t->f, 1);
		assert_true(virtio_status(t->vdev) & VIRTIO_CONFIG_S_NEEDS_RESET);
		driver_reset(&t->f, t->vdev);
	}
	bring_up(t, FEATURES);
	print(t, "alive");
	assert_terminal_shows(t, "alive");
	test_end(t);
}

static void buffers_without_room_are_answered_and_lose_no_input(void **state)
{
	struct test *t = test_new();
	struct vring_buffer readable = {.addr = RX_DATA, .len = 8};

	bring_up(t, FEATURES);
	type(t, "kept");
	device_fixture_run_ms(&t->f, 20);
	for (unsigned i = 0; i < 10; i++)
		vring_add(&t->rings[RX], &readable, 1);
	virtio_kick_queue(t->vdev, RX);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(answer(t, RX), 0);
	give_room(t, RX_DATA, 64);
	assert_int_equal(answer(t, RX), 4);
	assert_guest_got(t, RX_DATA, "kept");
	test_end(t);
}

static void input_waits_through_a_pause(void **state)
{
	struct test *t = test_new();

	bring_up(t, FEATURES);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	type(t, "later");
	give_room(t, RX_DATA, 64);
	device_fixture_run_ms(&t->f, 20);
	assert_int_equal(vring_used_idx(&t->rings[RX]), 0);
	virtio_device_resume(&t->vdev->dev);
	assert_int_equal(answer(t, RX), 5);
	test_end(t);
}

static void saved_device_keeps_the_input_it_holds(void **state)
{
	struct test *t = test_new();
	AUTO_BUF struct buf buf = {.data = NULL};
	struct cursor in;

	bring_up(t, FEATURES);
	type(t, "held");
	device_fixture_run_ms(&t->f, 20);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	assert_int_equal(virtio_device_save(&t->vdev->dev, &buf), 0);
	device_fixture_end(&t->f, &t->vdev->dev);

	make_device(t);
	in = cursor_init(buf.data, buf.len);
	assert_int_equal(virtio_device_load(&t->vdev->dev, &in, NULL), 0);
	virtio_device_resume(&t->vdev->dev);
	give_room(t, RX_DATA, 64);
	assert_int_equal(answer(t, RX), 4);
	assert_guest_got(t, RX_DATA, "held");
	test_end(t);
}

static void state_with_more_input_than_fits_is_refused(void **state)
{
	struct test *t = test_new();
	AUTO_BUF struct buf buf = {.data = NULL};
	struct cursor in;

	assert_int_equal(virtio_device_save(&t->vdev->dev, &buf), 0);
	buf.data[buf.len - 5] = 0xff; /* the ring's head */
	in = cursor_init(buf.data, buf.len);
	assert_int_equal(virtio_device_load(&t->vdev->dev, &in, NULL), -EBADMSG);
	test_end(t);
}

static void resets_and_pauses_in_quick_turn_lose_nothing(void **state)
{
	struct test *t = test_new();

	bring_up(t, FEATURES);
	for (unsigned i = 0; i < 100; i++) {
		print(t, "y");
		if (i % 2)
			device_fixture_quiesce(&t->f, &t->vdev->dev);
		if (i % 3 == 0) {
			driver_reset(&t->f, t->vdev);
			bring_up(t, FEATURES);
			print(t, "z");
		}
		virtio_device_resume(&t->vdev->dev);
		assert_int_equal(answer(t, TX), 0);
	}
	test_end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_reaches_the_terminal),
		cmocka_unit_test(input_reaches_the_guest),
		cmocka_unit_test(input_before_there_is_a_driver_waits_for_it),
		cmocka_unit_test(much_input_arrives_whole_and_in_order),
		cmocka_unit_test(one_chain_of_many_pieces_is_printed_whole),
		cmocka_unit_test(flood_of_output_is_bounded_and_does_not_hold_up_a_reset),
		cmocka_unit_test(configuration_tells_the_terminals_size),
		cmocka_unit_test(nonsense_on_either_queue_needs_a_reset_and_the_device_lives_on),
		cmocka_unit_test(buffers_without_room_are_answered_and_lose_no_input),
		cmocka_unit_test(input_waits_through_a_pause),
		cmocka_unit_test(saved_device_keeps_the_input_it_holds),
		cmocka_unit_test(state_with_more_input_than_fits_is_refused),
		cmocka_unit_test(resets_and_pauses_in_quick_turn_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
