/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/chardev_rig.h"

#include "base/fd.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

/* --- null and file --- */

static void null_drops_everything(void **state)
{
	struct chardev_rig *f = *state;

	chardev_rig_open(f, CHARDEV_NULL, NULL);
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	chardev_rig_say(f, "gone");
	chardev_kick(f->dev);
	chardev_flush(f->dev);
	chardev_update_size(f->dev);
	chardev_rig_run(f, 5);
	assert_null(chardev_path(f->dev));
	assert_true(chardev_dropped(f->dev) == 0);
}

static void file_is_truncated_and_gets_all_output(void **state)
{
	struct chardev_rig *f = *state;
	char buf[64] = {0};
	int fd = open(f->path, O_CREAT | O_RDWR, 0600);

	assert_int_equal(write(fd, "previous boot", 13), 13);
	chardev_rig_open(f, CHARDEV_FILE, f->path);
	assert_string_equal(chardev_path(f->dev), f->path);
	chardev_rig_say(f, "first ");
	chardev_rig_run(f, 10);
	chardev_rig_say(f, "second");
	chardev_flush(f->dev);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), 12);
	assert_string_equal(buf, "first second");
	close(fd);
}

static void unwritten_output_is_flushed_at_free(void **state)
{
	struct chardev_rig *f = *state;
	char buf[8] = {0};
	int fd;

	chardev_rig_open(f, CHARDEV_FILE, f->path);
	chardev_rig_say(f, "last");
	chardev_free(TAKE(f->dev));
	fd = open(f->path, O_RDONLY);
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	close(fd);
}

static void file_that_cannot_be_opened_is_named(void **state)
{
	struct chardev_rig *f = *state;
	const struct chardev_params params = {.mode = CHARDEV_FILE, .path = "/nonexistent/x"};
	struct err err = ERR_INIT;

	assert_int_equal(chardev_new(f->loop, &params, &f->dev, &err), -ENOENT);
	assert_non_null(strstr(err_message(&err, 0), "/nonexistent/x"));
	assert_null(f->dev);
}

static void modes_that_need_a_path_refuse_without(void **state)
{
	struct chardev_rig *f = *state;
	struct chardev_params params = {.mode = CHARDEV_FILE};

	assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), -EINVAL);
	params.mode = CHARDEV_SOCKET;
	assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), -EINVAL);
}

static void fifo_without_a_reader_does_not_block(void **state)
{
	struct chardev_rig *f = *state;
	char block[4096];
	char got[16] = {0};
	int fd;

	assert_int_equal(mkfifo(f->path, 0600), 0);
	chardev_rig_open(f, CHARDEV_FILE, f->path);
	chardev_rig_say(f, "early");
	chardev_rig_run(f, 10);
	fd = open(f->path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(read(fd, got, 5), 5);
	assert_string_equal(got, "early");
	/* A reader that does not read: the ring fills, and the rest is dropped and counted. */
	memset(block, 'x', sizeof(block));
	for (unsigned i = 0; i < 600; i++) {
		chardev_write(f->dev, block, sizeof(block));
		if (i % 50 == 0)
			chardev_rig_run(f, 3);
	}
	assert_true(chardev_dropped(f->dev) > 0);
	close(fd);
}

struct printer {
	struct chardev *dev;
	struct loop *loop;
	unsigned written;
};

/* A guest that prints byte by byte, some 100 us apart, for 300 ms. */
static void *print_bytes(void *arg)
{
	struct printer *p = arg;
	uint64_t start = loop_now_ns();

	while (loop_now_ns() - start < 300000000ULL) {
		chardev_write(p->dev, "x", 1);
		p->written++;
		usleep(50);
	}
	loop_stop(p->loop);
	return NULL;
}

static void many_small_writes_cost_few_wakeups(void **state)
{
	struct chardev_rig *f = *state;
	struct printer p = {.loop = f->loop};
	struct thread t = {0};
	struct rusage before, after;
	long wakeups;
	struct stat st;

	chardev_rig_open(f, CHARDEV_FILE, f->path);
	p.dev = f->dev;
	getrusage(RUSAGE_THREAD, &before);
	assert_int_equal(thread_start(&t, "printer", THREAD_VCPU, print_bytes, &p), 0);
	loop_run(f->loop);
	getrusage(RUSAGE_THREAD, &after);
	thread_join(&t);
	/* Each sleep of the loop is a voluntary switch: two milliseconds apart, a few for the
	 * rest. */
	wakeups = after.ru_nvcsw - before.ru_nvcsw;
	assert_true(wakeups < 250);
	chardev_flush(f->dev);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_size, p.written);
	assert_true(p.written > 100);
}

/* --- threads --- */

struct writer {
	struct chardev *dev;
	char letter;
};

static void *write_lines(void *arg)
{
	struct writer *w = arg;
	char line[64];

	memset(line, w->letter, sizeof(line));
	line[63] = '\n';
	for (unsigned i = 0; i < 1000; i++)
		chardev_write(w->dev, line, sizeof(line));
	return NULL;
}

static void output_of_several_threads_stays_whole(void **state)
{
	struct chardev_rig *f = *state;
	struct writer writers[3];
	struct thread threads[3] = {0};
	static char buf[3 * 64000 + 1];
	int fd;

	chardev_rig_open(f, CHARDEV_FILE, f->path);
	for (unsigned i = 0; i < 3; i++) {
		writers[i] = (struct writer){.dev = f->dev, .letter = (char)('a' + i)};
		assert_int_equal(
			thread_start(&threads[i], "writer", THREAD_VCPU, write_lines, &writers[i]),
			0);
	}
	chardev_rig_run(f, 50);
	for (unsigned i = 0; i < 3; i++)
		thread_join(&threads[i]);
	chardev_rig_run(f, 20);
	fd = open(f->path, O_RDONLY);
	assert_int_equal(read(fd, buf, sizeof(buf)), 3 * 64000);
	for (unsigned i = 0; i < 3000; i++)
		for (unsigned k = 1; k < 63; k++)
			assert_int_equal(buf[i * 64 + k], buf[i * 64]);
	close(fd);
}

/* --- pty --- */

static int open_slave(struct chardev_rig *f)
{
	int fd = open(chardev_path(f->dev), O_RDWR | O_NOCTTY | O_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

static void pty_is_raw_and_carries_both_directions(void **state)
{
	struct chardev_rig *f = *state;
	char buf[64] = {0};
	int fd;

	chardev_rig_open(f, CHARDEV_PTY, NULL);
	f->front.room = 100;
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	fd = open_slave(f);
	chardev_rig_say(f, "a\nb\x03");
	chardev_rig_run(f, 10);
	assert_int_equal(chardev_rig_slurp(fd, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "a\nb\x03", 4);
	assert_int_equal(write(fd, "x\r\x03\n", 4), 4);
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 4);
	assert_memory_equal(f->front.got, "x\r\x03\n", 4);
	close(fd);
}

static void pty_keeps_working_when_its_reader_comes_and_goes(void **state)
{
	struct chardev_rig *f = *state;
	struct rusage before, after;
	char buf[64] = {0};
	int fd;

	chardev_rig_open(f, CHARDEV_PTY, NULL);
	f->front.room = 100;
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	for (unsigned i = 0; i < 3; i++) {
		chardev_rig_say(f, "before");
		fd = open_slave(f);
		chardev_rig_run(f, 10);
		assert_int_equal(chardev_rig_slurp(fd, buf, sizeof(buf)), 6);
		close(fd);
		/* Nobody has it open: no spinning on a hang-up. */
		getrusage(RUSAGE_THREAD, &before);
		chardev_rig_run(f, 50);
		getrusage(RUSAGE_THREAD, &after);
		assert_true(after.ru_utime.tv_usec + after.ru_stime.tv_usec -
				    before.ru_utime.tv_usec - before.ru_stime.tv_usec <
			    25000);
	}
}

static void front_end_without_room_stops_the_reader_and_loses_nothing(void **state)
{
	struct chardev_rig *f = *state;
	int fd;

	chardev_rig_open(f, CHARDEV_PTY, NULL);
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	fd = open_slave(f);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 0);
	f->front.room = 4;
	chardev_kick(f->dev);
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 4);
	/* Without a front-end nothing is read at all. */
	chardev_attach(f->dev, NULL, NULL);
	f->front.room = 100;
	chardev_kick(f->dev);
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 4);
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 10);
	assert_memory_equal(f->front.got, "0123456789", 10);
	close(fd);
}

static void pty_size_is_told(void **state)
{
	struct chardev_rig *f = *state;
	struct winsize ws = {.ws_col = 132, .ws_row = 43};
	int fd;

	chardev_rig_open(f, CHARDEV_PTY, NULL);
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	fd = open_slave(f);
	assert_int_equal(ioctl(fd, TIOCSWINSZ, &ws), 0);
	chardev_update_size(f->dev);
	assert_int_equal(f->front.columns, 132);
	assert_int_equal(f->front.rows, 43);
	close(fd);
}

/* --- socket --- */

static int dial(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void socket_replays_what_was_said_before(void **state)
{
	struct chardev_rig *f = *state;
	char buf[64] = {0};
	struct stat st;
	int fd;

	chardev_rig_open(f, CHARDEV_SOCKET, f->path);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	chardev_rig_say(f, "before ");
	chardev_rig_run(f, 10);
	fd = dial(f->path);
	chardev_rig_run(f, 10);
	chardev_rig_say(f, "after");
	chardev_rig_run(f, 10);
	assert_int_equal(chardev_rig_slurp(fd, buf, sizeof(buf)), 12);
	assert_string_equal(buf, "before after");
	close(fd);
	/* And again for the next client. */
	fd = dial(f->path);
	chardev_rig_run(f, 10);
	assert_int_equal(chardev_rig_slurp(fd, buf, sizeof(buf)), 12);
	close(fd);
}

static void socket_replays_the_last_mebibyte(void **state)
{
	struct chardev_rig *f = *state;
	static char block[65536], got[3 << 20];
	size_t n = 0;
	int fd;

	chardev_rig_open(f, CHARDEV_SOCKET, f->path);
	for (unsigned i = 0; i < 40; i++) {
		memset(block, 'A' + (int)i, sizeof(block));
		chardev_write(f->dev, block, sizeof(block));
		chardev_rig_run(f, 4);
	}
	fd = dial(f->path);
	for (unsigned i = 0; i < 200 && n < (1 << 20); i++) {
		chardev_rig_run(f, 2);
		n += chardev_rig_slurp(fd, got + n, sizeof(got) - n);
	}
	assert_int_equal(n, 1 << 20);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(got[i * 65536], 'A' + 24 + (int)i);
	close(fd);
}

static void newest_client_takes_over(void **state)
{
	struct chardev_rig *f = *state;
	char buf[16];
	int first, second;

	chardev_rig_open(f, CHARDEV_SOCKET, f->path);
	f->front.room = 100;
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	first = dial(f->path);
	chardev_rig_run(f, 10);
	second = dial(f->path);
	chardev_rig_run(f, 10);
	assert_int_equal(read(first, buf, sizeof(buf)), 0);
	assert_int_equal(write(second, "two", 3), 3);
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 3);
	close(first);
	close(second);
}

static void input_of_a_client_that_left_is_not_lost(void **state)
{
	struct chardev_rig *f = *state;
	int fd;

	chardev_rig_open(f, CHARDEV_SOCKET, f->path);
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	fd = dial(f->path);
	assert_int_equal(write(fd, "command\n", 8), 8);
	close(fd);
	chardev_rig_run(f, 10);
	chardev_rig_say(f, "echo");
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 0);
	f->front.room = 100;
	chardev_kick(f->dev);
	chardev_rig_run(f, 10);
	assert_int_equal(f->front.len, 8);
}

static void half_closed_client_still_gets_output(void **state)
{
	struct chardev_rig *f = *state;
	struct rusage before, after;
	char buf[16] = {0};
	int fd;

	chardev_rig_open(f, CHARDEV_SOCKET, f->path);
	f->front.room = 100;
	chardev_attach(f->dev, &chardev_rig_client, &f->front);
	fd = dial(f->path);
	assert_int_equal(write(fd, "in", 2), 2);
	shutdown(fd, SHUT_WR);
	getrusage(RUSAGE_THREAD, &before);
	chardev_rig_run(f, 50);
	getrusage(RUSAGE_THREAD, &after);
	assert_true(after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec -
			    before.ru_stime.tv_usec <
		    25000);
	assert_int_equal(f->front.len, 2);
	chardev_rig_say(f, "out");
	chardev_rig_run(f, 10);
	assert_int_equal(read(fd, buf, sizeof(buf)), 3);
	close(fd);
	chardev_rig_run(f, 10);
	chardev_rig_say(f, "nobody");
	chardev_rig_run(f, 10);
}

static void old_socket_is_replaced_but_a_file_is_not(void **state)
{
	struct chardev_rig *f = *state;
	const struct chardev_params params = {.mode = CHARDEV_SOCKET, .path = f->path};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, f->path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	chardev_rig_open(f, CHARDEV_SOCKET, f->path);
	close(dial(f->path));
	chardev_free(TAKE(f->dev));
	assert_int_equal(access(f->path, F_OK), -1); /* removed at free */
	fd = open(f->path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), -EEXIST);
	assert_int_equal(access(f->path, F_OK), 0);
}

static void socket_path_that_is_too_long_is_refused(void **state)
{
	struct chardev_rig *f = *state;
	char path[200];
	const struct chardev_params params = {.mode = CHARDEV_SOCKET, .path = path};

	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[199] = '\0';
	assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), -ENAMETOOLONG);
}

static void descriptors_are_given_back(void **state)
{
	struct chardev_rig *f = *state;
	static const enum chardev_mode modes[] = {CHARDEV_NULL, CHARDEV_PTY, CHARDEV_FILE,
						  CHARDEV_SOCKET, CHARDEV_TTY};
	int before = 0, after;

	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
			const struct chardev_params params = {.mode = modes[i], .path = f->path};

			assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), 0);
			if (modes[i] == CHARDEV_SOCKET) {
				int fd = dial(f->path);

				chardev_rig_run(f, 1);
				close(fd);
			}
			chardev_free(TAKE(f->dev));
			unlink(f->path);
		}
		chardev_rig_run(f, 1);
		after = dup(2);
		close(after);
		if (round == 0)
			before = after;
		assert_int_equal(after, before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, chardev_rig_setup, chardev_rig_teardown)
		T(null_drops_everything),
		T(file_is_truncated_and_gets_all_output),
		T(unwritten_output_is_flushed_at_free),
		T(file_that_cannot_be_opened_is_named),
		T(modes_that_need_a_path_refuse_without),
		T(fifo_without_a_reader_does_not_block),
		T(many_small_writes_cost_few_wakeups),
		T(output_of_several_threads_stays_whole),
		T(pty_is_raw_and_carries_both_directions),
		T(pty_keeps_working_when_its_reader_comes_and_goes),
		T(front_end_without_room_stops_the_reader_and_loses_nothing),
		T(pty_size_is_told),
		T(socket_replays_what_was_said_before),
		T(socket_replays_the_last_mebibyte),
		T(newest_client_takes_over),
		T(input_of_a_client_that_left_is_not_lost),
		T(half_closed_client_still_gets_output),
		T(old_socket_is_replaced_but_a_file_is_not),
		T(socket_path_that_is_too_long_is_refused),
		T(descriptors_are_given_back),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
