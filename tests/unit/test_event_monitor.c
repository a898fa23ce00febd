/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "shim/event_log.h"
#include "shim/event_monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct event_log *log;
	struct event_monitor *monitor;
	int fds[2]; /* [0]: the reader's */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_set_level(LOG_ERROR);
	if (!f || loop_new(&f->loop) < 0 || event_log_new(&f->log) < 0)
		return -1;
	f->fds[0] = f->fds[1] = -1;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	event_monitor_free(f->monitor);
	event_log_free(f->log);
	loop_free(f->loop);
	if (f->fds[0] >= 0)
		close(f->fds[0]);
	free(f);
	return 0;
}

static void start(struct fixture *f)
{
	assert_int_equal(event_monitor_new(f->loop, f->log, f->fds[1], &f->monitor, NULL), 0);
}

static void add(struct fixture *f, unsigned n)
{
	char name[32];

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "e%llu",
			 (unsigned long long)event_log_last(f->log) + 1);
		event_log_add(f->log, "vm", name, NULL);
	}
}

static void on_pause_over(struct loop_timer *timer, void *arg)
{
	loop_stop(arg);
}

/* Lets the loop work for a moment. */
static void turn(struct fixture *f)
{
	struct loop_timer *timer;

	assert_int_equal(loop_timer_new(f->loop, on_pause_over, f->loop, &timer), 0);
	loop_timer_start(timer, 20, 0);
	loop_run(f->loop);
	loop_timer_free(timer);
}

/* Reads all that is there, turning the loop meanwhile, and checks that it is whole events with
 * rising numbers. Returns how many; *ret_last = number of the last. */
static unsigned read_events(struct fixture *f, unsigned *ret_last)
{
	static char text[1024 * 1024];
	size_t len = 0;
	unsigned count = 0;
	ssize_t n;
	char *end, *pos = text;

	fcntl(f->fds[0], F_SETFL, O_NONBLOCK);
	for (int idle = 0; idle < 2;) {
		n = read(f->fds[0], text + len, sizeof(text) - 1 - len);
		if (n > 0)
			len += (size_t)n;
		else
			idle++;
		turn(f);
	}
	text[len] = '\0';
	*ret_last = 0;
	for (; (end = strstr(pos, "\n\n")); pos = end + 2) {
		AUTO_JSON struct json *event = json_parse(pos, (size_t)(end - pos), NULL);
		unsigned number = 0;

		assert_non_null(event);
		assert_int_equal(sscanf(json_string(json_member(event, "event")), "e%u", &number),
				 1);
		assert_true(number > *ret_last);
		*ret_last = number;
		count++;
	}
	assert_int_equal(*pos, '\0');
	return count;
}

static void events_from_before_the_monitor_are_written_too(void **state)
{
	struct fixture *f = *state;
	unsigned last;

	assert_int_equal(pipe(f->fds), 0);
	add(f, 2);
	start(f);
	add(f, 3);
	assert_int_equal(read_events(f, &last), 5);
}

static void full_pipe_delays_events_and_tears_none(void **state)
{
	struct fixture *f = *state;
	unsigned last;

	assert_int_equal(pipe(f->fds), 0);
	fcntl(f->fds[1], F_SETPIPE_SZ, 4096);
	start(f);
	add(f, 500);
	assert_int_equal(read_events(f, &last), 500);
	assert_int_equal(last, 500);
}

static void reader_that_is_too_slow_loses_whole_events(void **state)
{
	struct fixture *f = *state;
	unsigned last, count;

	assert_int_equal(pipe(f->fds), 0);
	fcntl(f->fds[1], F_SETPIPE_SZ, 4096);
	start(f);
	add(f, 3000);
	count = read_events(f, &last);
	assert_true(count < 1500 && count >= EVENT_LOG_MAX_EVENTS);
	assert_int_equal(last, 3000);
}

static void full_stream_socket_does_not_tear_events(void **state)
{
	struct fixture *f = *state;
	int small = 2048;
	unsigned last;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, f->fds), 0);
	setsockopt(f->fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	start(f);
	add(f, 700);
	assert_int_equal(read_events(f, &last), 700);
	assert_int_equal(last, 700);
}

static void reader_may_go_away(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(pipe(f->fds), 0);
	fcntl(f->fds[1], F_SETPIPE_SZ, 4096);
	start(f);
	add(f, 100);
	close(f->fds[0]);
	f->fds[0] = -1;
	turn(f);
	add(f, 10);
	turn(f);
}

static void later_reader_of_a_fifo_gets_later_events(void **state)
{
	struct fixture *f = *state;
	char dir[] = "/tmp/coracle-test-XXXXXX", path[64];
	unsigned last;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	f->fds[0] = open(path, O_RDONLY | O_NONBLOCK);
	f->fds[1] = event_monitor_open(path, NULL);
	assert_true(f->fds[1] >= 0);
	start(f);
	add(f, 3);
	assert_int_equal(read_events(f, &last), 3);
	close(f->fds[0]);
	add(f, 2);
	f->fds[0] = open(path, O_RDONLY | O_NONBLOCK);
	add(f, 4);
	assert_int_equal(read_events(f, &last), 4);
	assert_int_equal(last, 9);
	unlink(path);
	rmdir(dir);
}

static void regular_file_is_truncated_and_written(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/coracle-test-XXXXXX";
	unsigned last;

	f->fds[0] = mkstemp(path);
	assert_int_equal(write(f->fds[0], "old", 3), 3);
	lseek(f->fds[0], 0, SEEK_SET);
	f->fds[1] = event_monitor_open(path, NULL);
	start(f);
	add(f, 3);
	assert_int_equal(read_events(f, &last), 3);
	unlink(path);
}

static void full_disk_does_not_stop_anything(void **state)
{
	struct fixture *f = *state;

	f->fds[1] = open("/dev/full", O_WRONLY);
	assert_true(f->fds[1] >= 0);
	start(f);
	add(f, 10);
}

static void path_that_cannot_be_opened_is_told(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(event_monitor_open("/nonexistent/dir/file", &err), -ENOENT);
	assert_non_null(strstr(err_message(&err, 0), "/nonexistent/dir/file"));
}

#define monitor_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		monitor_test(events_from_before_the_monitor_are_written_too),
		monitor_test(full_pipe_delays_events_and_tears_none),
		monitor_test(reader_that_is_too_slow_loses_whole_events),
		monitor_test(full_stream_socket_does_not_tear_events),
		monitor_test(reader_may_go_away),
		monitor_test(later_reader_of_a_fifo_gets_later_events),
		monitor_test(regular_file_is_truncated_and_written),
		monitor_test(full_disk_does_not_stop_anything),
		monitor_test(path_that_cannot_be_opened_is_told),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
