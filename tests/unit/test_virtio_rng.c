/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "tests/unit/device_fixture.h"
#include "vmm/virtio/iothread.h"
#include "vmm/virtio/virtio_rng.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUE_SIZE 256
#define DATA	   FIXTURE_DATA
#define EVENT_IDX  (1ULL << VIRTIO_RING_F_EVENT_IDX)

struct test {
	struct device_fixture f;
	struct virtio_device *vdev;
	struct transport_counts transport;
	struct vring_driver ring;
	char dir[32];
	char fifo[64];
	int feed; /* the fifo's other end */
};

static struct virtio_device *rng_on(struct test *t, const char *source)
{
	struct virtio_device *vdev;
	struct err err = ERR_INIT;

	assert_int_equal(virtio_rng_new(&t->f.host, "__rng", source, &vdev, &err), 0);
	assert_int_equal(vdev->dev.ops->realize(&vdev->dev, &err), 0);
	transport_counts_connect(&t->transport, vdev);
	return vdev;
}

static void bring_up(struct test *t, uint64_t features)
{
	vring_driver_init(&t->ring, t->f.host.memory, FIXTURE_RINGS, QUEUE_SIZE);
	driver_negotiate(t->vdev, features);
	driver_enable_queue(t->vdev, 0, &t->ring);
	driver_ok(t->vdev);
}

/* A device on `source`, or on a fifo of its own when that is NULL. */
static struct test *test_new(const char *source)
{
	struct test *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	device_fixture_init(&t->f, false);
	strcpy(t->dir, "/tmp/coracle-test-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	snprintf(t->fifo, sizeof(t->fifo), "%s/fifo", t->dir);
	assert_int_equal(mkfifo(t->fifo, 0600), 0);
	t->vdev = rng_on(t, source ? source : t->fifo);
	t->feed = open(t->fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	assert_true(t->feed >= 0);
	bring_up(t, EVENT_IDX);
	return t;
}

static void test_end(struct test *t)
{
	device_fixture_end(&t->f, &t->vdev->dev);
	fd_close(&t->feed);
	unlink(t->fifo);
	rmdir(t->dir);
	device_fixture_fini(&t->f);
	free(t);
}

static void feed(struct test *t, const char *bytes)
{
	assert_int_equal(write(t->feed, bytes, strlen(bytes)), strlen(bytes));
}

static void ask(struct test *t, uint32_t len)
{
	struct vring_buffer buffer = {.addr = DATA, .len = len, .write = true};

	vring_add(&t->ring, &buffer, 1);
	virtio_kick_queue(t->vdev, 0);
}

static uint32_t answer(struct test *t)
{
	uint32_t id, len;

	assert_true(driver_wait_used(&t->f, &t->ring, &id, &len));
	return len;
}

static void assert_guest_has(struct test *t, uint64_t addr, const char *text)
{
	char got[64];

	assert_int_equal(guest_memory_read(t->f.host.memory, gpa(addr), got, strlen(text)), 0);
	assert_memory_equal(got, text, strlen(text));
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The process does next to nothing while the main loop waits for 200 ms. */
static void assert_idle(struct test *t)
{
	uint64_t before = cpu_ns();

	device_fixture_run_ms(&t->f, 200);
	assert_in_range(cpu_ns() - before, 0, 100000000);
}

static unsigned count_entries(const char *path, const char *comm)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char file[300], text[32] = "";
		FILE *fp;

		if (entry->d_name[0] == '.')
			continue;
		if (!comm) {
			n++;
			continue;
		}
		snprintf(file, sizeof(file), "%s/%s/comm", path, entry->d_name);
		fp = fopen(file, "re");
		if (fp && fgets(text, sizeof(text), fp) && !strcmp(text, comm))
			n++;
		if (fp)
			fclose(fp);
	}
	closedir(dir);
	return n;
}

/* --- tests -------------------------------------------------------------------------------- */

static void request_is_filled_from_the_source(void **state)
{
	struct test *t = test_new(NULL);

	feed(t, "sixteen bytes...");
	ask(t, 16);
	assert_int_equal(answer(t), 16);
	assert_guest_has(t, DATA, "sixteen bytes...");
	assert_int_equal(t->transport.queues[0], 1);
	test_end(t);
}

static void request_of_several_buffers_is_filled_across_them(void **state)
{
	struct test *t = test_new(NULL);
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 3, .write = true},
		{.addr = DATA + 0x1000, .len = 5, .write = true},
	};

	feed(t, "abcdefgh");
	vring_add(&t->ring, buffers, 2);
	virtio_kick_queue(t->vdev, 0);
	assert_int_equal(answer(t), 8);
	assert_guest_has(t, DATA, "abc");
	assert_guest_has(t, DATA + 0x1000, "defgh");
	test_end(t);
}

static void short_source_gives_a_short_answer(void **state)
{
	struct test *t = test_new(NULL);

	feed(t, "abc");
	ask(t, 4096);
	assert_int_equal(answer(t), 3);
	test_end(t);
}

static void one_request_gets_64_kib_at_most(void **state)
{
	struct test *t = test_new("/dev/urandom");

	ask(t, 512 * 1024);
	assert_int_equal(answer(t), 64 * 1024);
	test_end(t);
}

static void request_without_room_is_answered_with_nothing(void **state)
{
	struct test *t = test_new("/dev/urandom");
	struct vring_buffer buffer = {.addr = DATA, .len = 16};

	vring_add(&t->ring, &buffer, 1);
	virtio_kick_queue(t->vdev, 0);
	assert_int_equal(answer(t), 0);
	test_end(t);
}

static void request_in_too_many_pieces_is_answered_with_nothing(void **state)
{
	struct test *t = test_new("/dev/urandom");
	struct vring_buffer buffers[100];

	for (unsigned i = 0; i < 100; i++)
		buffers[i] = (struct vring_buffer){.addr = DATA, .len = 1, .write = true};
	vring_add(&t->ring, buffers, 100);
	virtio_kick_queue(t->vdev, 0);
	assert_int_equal(answer(t), 0);
	ask(t, 5);
	assert_int_equal(answer(t), 5);
	test_end(t);
}

static void dry_source_lets_the_request_wait_without_spinning(void **state)
{
	struct test *t = test_new(NULL);

	ask(t, 16);
	assert_idle(t);
	assert_int_equal(vring_used_idx(&t->ring), 0);
	feed(t, "late");
	assert_int_equal(answer(t), 4);
	assert_guest_has(t, DATA, "late");
	test_end(t);
}

static void fifo_whose_writer_went_away_is_only_dry(void **state)
{
	struct test *t = test_new(NULL);

	fd_close(&t->feed);
	ask(t, 16);
	assert_idle(t);
	t->feed = open(t->fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(t->feed >= 0);
	feed(t, "back");
	assert_int_equal(answer(t), 4);
	test_end(t);
}

static void source_that_ended_lets_the_request_wait_without_spinning(void **state)
{
	struct test *t = test_new("/dev/null");

	ask(t, 16);
	assert_idle(t);
	assert_int_equal(vring_used_idx(&t->ring), 0);
	test_end(t);
}

static void many_requests_are_all_answered(void **state)
{
	struct test *t = test_new("/dev/urandom");
	const uint64_t features[] = {EVENT_IDX, 0};

	for (size_t k = 0; k < ARRAY_SIZE(features); k++) {
		driver_reset(&t->f, t->vdev);
		bring_up(t, features[k]);
		for (unsigned i = 0; i < 20; i++) {
			for (unsigned n = 0; n < QUEUE_SIZE; n++)
				ask(t, 8);
			for (unsigned n = 0; n < QUEUE_SIZE; n++)
				assert_int_equal(answer(t), 8);
		}
	}
	test_end(t);
}

static void nonsense_needs_a_reset_and_the_device_lives_on(void **state)
{
	struct test *t = test_new("/dev/urandom");

	for (unsigned i = 0; i < 3; i++) {
		vring_offer(&t->ring, 0xffff);
		virtio_kick_queue(t->vdev, 0);
		/* The driver is told behind the status's change. */
		while (!(virtio_status(t->vdev) & VIRTIO_CONFIG_S_NEEDS_RESET) ||
		       t->transport.config == i)
			device_fixture_run_ms(&t->f, 1);
		assert_int_equal(t->transport.config, i + 1);
		driver_reset(&t->f, t->vdev);
		bring_up(t, EVENT_IDX);
		ask(t, 8);
		assert_int_equal(answer(t), 8);
	}
	test_end(t);
}

static void request_waits_through_a_pause(void **state)
{
	struct test *t = test_new(NULL);

	ask(t, 16);
	device_fixture_run_ms(&t->f, 5);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	feed(t, "meanwhile");
	device_fixture_run_ms(&t->f, 20);
	assert_int_equal(vring_used_idx(&t->ring), 0);
	virtio_device_resume(&t->vdev->dev);
	assert_int_equal(answer(t), 9);
	test_end(t);
}

static void saved_device_answers_what_was_waiting(void **state)
{
	struct test *t = test_new(NULL);
	AUTO_BUF struct buf buf = {.data = NULL};
	struct cursor in;

	feed(t, "one");
	ask(t, 16);
	assert_int_equal(answer(t), 3);
	ask(t, 16);
	device_fixture_run_ms(&t->f, 5);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	assert_int_equal(virtio_device_save(&t->vdev->dev, &buf), 0);
	device_fixture_end(&t->f, &t->vdev->dev);

	t->vdev = rng_on(t, t->fifo);
	in = cursor_init(buf.data, buf.len);
	assert_int_equal(virtio_device_load(&t->vdev->dev, &in, NULL), 0);
	virtio_device_resume(&t->vdev->dev);
	feed(t, "two");
	assert_int_equal(answer(t), 3);
	assert_guest_has(t, DATA, "two");
	test_end(t);
}

static void resets_and_pauses_in_quick_turn_lose_nothing(void **state)
{
	struct test *t = test_new("/dev/urandom");

	for (unsigned i = 0; i < 200; i++) {
		ask(t, 64);
		if (i % 2)
			device_fixture_quiesce(&t->f, &t->vdev->dev);
		if (i % 3 == 0) {
			driver_reset(&t->f, t->vdev);
			bring_up(t, EVENT_IDX);
			ask(t, 64);
		}
		virtio_device_resume(&t->vdev->dev);
		assert_int_equal(answer(t), 64);
	}
	test_end(t);
}

static void source_that_is_not_there_is_named(void **state)
{
	struct device_host host = {.main_loop = NULL};
	struct virtio_device *vdev = NULL;
	struct err err = ERR_INIT;
	char text[256];

	assert_int_equal(virtio_rng_new(&host, "rng", "/nonexistent/rng", &vdev, &err), -ENOENT);
	assert_non_null(strstr(err_format(&err, text, sizeof(text)), "/nonexistent/rng"));
	assert_null(vdev);
}

static void thread_is_named_after_the_device(void **state)
{
	struct test *t = test_new(NULL);
	char name[IOTHREAD_NAME_MAX];

	assert_int_equal(count_entries("/proc/self/task", "_rng\n"), 1);
	iothread_name("a-very-long-device-name", name);
	assert_string_equal(name, "_a-very-long-de");
	iothread_name("", name);
	assert_string_equal(name, "_");
	test_end(t);
}

static void devices_that_come_and_go_leave_nothing_behind(void **state)
{
	struct test *t = test_new("/dev/urandom");
	unsigned fds, threads;

	fds = count_entries("/proc/self/fd", NULL);
	threads = count_entries("/proc/self/task", NULL);
	for (unsigned i = 0; i < 50; i++) {
		ask(t, 8);
		device_fixture_end(&t->f, &t->vdev->dev);
		t->vdev = rng_on(t, "/dev/urandom");
		bring_up(t, EVENT_IDX);
	}
	assert_int_equal(count_entries("/proc/self/fd", NULL), fds);
	assert_int_equal(count_entries("/proc/self/task", NULL), threads);
	test_end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_is_filled_from_the_source),
		cmocka_unit_test(request_of_several_buffers_is_filled_across_them),
		cmocka_unit_test(short_source_gives_a_short_answer),
		cmocka_unit_test(one_request_gets_64_kib_at_most),
		cmocka_unit_test(request_without_room_is_answered_with_nothing),
		cmocka_unit_test(request_in_too_many_pieces_is_answered_with_nothing),
		cmocka_unit_test(dry_source_lets_the_request_wait_without_spinning),
		cmocka_unit_test(fifo_whose_writer_went_away_is_only_dry),
		cmocka_unit_test(source_that_ended_lets_the_request_wait_without_spinning),
		cmocka_unit_test(many_requests_are_all_answered),
		cmocka_unit_test(nonsense_needs_a_reset_and_the_device_lives_on),
		cmocka_unit_test(request_waits_through_a_pause),
		cmocka_unit_test(saved_device_answers_what_was_waiting),
		cmocka_unit_test(resets_and_pauses_in_quick_turn_lose_nothing),
		cmocka_unit_test(source_that_is_not_there_is_named),
		cmocka_unit_test(thread_is_named_after_the_device),
		cmocka_unit_test(devices_that_come_and_go_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
