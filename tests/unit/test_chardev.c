/* SPDX-License-Identifier: Apache-2.0 */
#include "chardev/chardev.h"

#include "base/fd.h"
#include "base/loop.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

/* A front-end that takes what it has room for. */
struct front {
	size_t room;
	uint8_t got[1 << 16];
	size_t len;
	unsigned columns, rows;
};

struct fixture {
	struct loop *loop;
	struct chardev *dev;
	struct front front;
	char dir[32];
	char path[64];
};

static size_t front_room(void *arg)
{
	return ((struct front *)arg)->room;
}

static void front_receive(void *arg, const uint8_t *data, size_t len)
{
	struct front *f = arg;

	assert_true(len <= f->room && f->len + len <= sizeof(f->got));
	memcpy(&f->got[f->len], data, len);
	f->len += len;
	f->room -= len;
}

static void front_resized(void *arg, unsigned columns, unsigned rows)
{
	struct front *f = arg;

	f->columns = columns;
	f->rows = rows;
}

static const struct chardev_client front_client = {
	.can_receive = front_room,
	.receive = front_receive,
	.resized = front_resized,
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	strcpy(f->dir, "/tmp/test_chardev.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/console", f->dir);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	chardev_free(f->dev);
	loop_free(f->loop);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void stop_loop(struct loop_timer *t, void *arg)
{
	loop_stop(arg);
}

static void run_loop(struct fixture *f, unsigned ms)
{
	struct loop_timer *t = NULL;

	assert_int_equal(loop_timer_new(f->loop, stop_loop, f->loop, &t), 0);
	loop_timer_start(t, ms, 0);
	loop_run(f->loop);
	loop_timer_free(t);
}

static void open_dev(struct fixture *f, enum chardev_mode mode, const char *path)
{
	const struct chardev_params params = {.mode = mode, .path = path, .input = true};
	struct err err = ERR_INIT;

	assert_int_equal(chardev_new(f->loop, &params, &f->dev, &err), 0);
}

static void say(struct fixture *f, const char *text)
{
	chardev_write(f->dev, text, strlen(text));
}

/* All that can be read from fd now. */
static size_t slurp(int fd, char *buf, size_t len)
{
	size_t n = 0;
	ssize_t r;

	fd_set_nonblock(fd, true);
	while (n < len && (r = read(fd, buf + n, len - n)) > 0)
		n += (size_t)r;
	return n;
}

/* --- null and file --- */

static void null_drops_everything(void **state)
{
	struct fixture *f = *state;

	open_dev(f, CHARDEV_NULL, NULL);
	chardev_attach(f->dev, &front_client, &f->front);
	say(f, "gone");
	chardev_kick(f->dev);
	chardev_flush(f->dev);
	chardev_update_size(f->dev);
	run_loop(f, 5);
	assert_null(chardev_path(f->dev));
	assert_true(chardev_dropped(f->dev) == 0);
}

static void file_is_truncated_and_gets_all_output(void **state)
{
	struct fixture *f = *state;
	char buf[64] = {0};
	int fd = open(f->path, O_CREAT | O_RDWR, 0600);

	assert_int_equal(write(fd, "previous boot", 13), 13);
	open_dev(f, CHARDEV_FILE, f->path);
	assert_string_equal(chardev_path(f->dev), f->path);
	say(f, "first ");
	run_loop(f, 10);
	say(f, "second");
	chardev_flush(f->dev);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), 12);
	assert_string_equal(buf, "first second");
	close(fd);
}

static void unwritten_output_is_flushed_at_free(void **state)
{
	struct fixture *f = *state;
	char buf[8] = {0};
	int fd;

	open_dev(f, CHARDEV_FILE, f->path);
	say(f, "last");
	chardev_free(TAKE(f->dev));
	fd = open(f->path, O_RDONLY);
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	close(fd);
}

static void file_that_cannot_be_opened_is_named(void **state)
{
	struct fixture *f = *state;
	const struct chardev_params params = {.mode = CHARDEV_FILE, .path = "/nonexistent/x"};
	struct err err = ERR_INIT;

	assert_int_equal(chardev_new(f->loop, &params, &f->dev, &err), -ENOENT);
	assert_non_null(strstr(err_message(&err, 0), "/nonexistent/x"));
	assert_null(f->dev);
}

static void modes_that_need_a_path_refuse_without(void **state)
{
	struct fixture *f = *state;
	struct chardev_params params = {.mode = CHARDEV_FILE};

	assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), -EINVAL);
	params.mode = CHARDEV_SOCKET;
	assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), -EINVAL);
}

static void fifo_without_a_reader_does_not_block(void **state)
{
	struct fixture *f = *state;
	char block[4096];
	char got[16] = {0};
	int fd;

	assert_int_equal(mkfifo(f->path, 0600), 0);
	open_dev(f, CHARDEV_FILE, f->path);
	say(f, "early");
	run_loop(f, 10);
	fd = open(f->path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(read(fd, got, 5), 5);
	assert_string_equal(got, "early");
	/* A reader that does not read: the ring fills, and the rest is dropped and counted. */
	memset(block, 'x', sizeof(block));
	for (unsigned i = 0; i < 600; i++) {
		chardev_write(f->dev, block, sizeof(block));
		if (i % 50 == 0)
			run_loop(f, 3);
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
	struct fixture *f = *state;
	struct printer p = {.loop = f->loop};
	struct thread t = {0};
	struct rusage before, after;
	long wakeups;
	struct stat st;

	open_dev(f, CHARDEV_FILE, f->path);
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
	struct fixture *f = *state;
	struct writer writers[3];
	struct thread threads[3] = {0};
	static char buf[3 * 64000 + 1];
	int fd;

	open_dev(f, CHARDEV_FILE, f->path);
	for (unsigned i = 0; i < 3; i++) {
		writers[i] = (struct writer){.dev = f->dev, .letter = (char)('a' + i)};
		assert_int_equal(
			thread_start(&threads[i], "writer", THREAD_VCPU, write_lines, &writers[i]),
			0);
	}
	run_loop(f, 50);
	for (unsigned i = 0; i < 3; i++)
		thread_join(&threads[i]);
	run_loop(f, 20);
	fd = open(f->path, O_RDONLY);
	assert_int_equal(read(fd, buf, sizeof(buf)), 3 * 64000);
	for (unsigned i = 0; i < 3000; i++)
		for (unsigned k = 1; k < 63; k++)
			assert_int_equal(buf[i * 64 + k], buf[i * 64]);
	close(fd);
}

/* --- pty --- */

static int open_slave(struct fixture *f)
{
	int fd = open(chardev_path(f->dev), O_RDWR | O_NOCTTY | O_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

static void pty_is_raw_and_carries_both_directions(void **state)
{
	struct fixture *f = *state;
	char buf[64] = {0};
	int fd;

	open_dev(f, CHARDEV_PTY, NULL);
	f->front.room = 100;
	chardev_attach(f->dev, &front_client, &f->front);
	fd = open_slave(f);
	say(f, "a\nb\x03");
	run_loop(f, 10);
	assert_int_equal(slurp(fd, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "a\nb\x03", 4);
	assert_int_equal(write(fd, "x\r\x03\n", 4), 4);
	run_loop(f, 10);
	assert_int_equal(f->front.len, 4);
	assert_memory_equal(f->front.got, "x\r\x03\n", 4);
	close(fd);
}

static void pty_keeps_working_when_its_reader_comes_and_goes(void **state)
{
	struct fixture *f = *state;
	struct rusage before, after;
	char buf[64] = {0};
	int fd;

	open_dev(f, CHARDEV_PTY, NULL);
	f->front.room = 100;
	chardev_attach(f->dev, &front_client, &f->front);
	for (unsigned i = 0; i < 3; i++) {
		say(f, "before");
		fd = open_slave(f);
		run_loop(f, 10);
		assert_int_equal(slurp(fd, buf, sizeof(buf)), 6);
		close(fd);
		/* Nobody has it open: no spinning on a hang-up. */
		getrusage(RUSAGE_THREAD, &before);
		run_loop(f, 50);
		getrusage(RUSAGE_THREAD, &after);
		assert_true(after.ru_utime.tv_usec + after.ru_stime.tv_usec -
				    before.ru_utime.tv_usec - before.ru_stime.tv_usec <
			    25000);
	}
}

static void front_end_without_room_stops_the_reader_and_loses_nothing(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_dev(f, CHARDEV_PTY, NULL);
	chardev_attach(f->dev, &front_client, &f->front);
	fd = open_slave(f);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	run_loop(f, 10);
	assert_int_equal(f->front.len, 0);
	f->front.room = 4;
	chardev_kick(f->dev);
	run_loop(f, 10);
	assert_int_equal(f->front.len, 4);
	/* Without a front-end nothing is read at all. */
	chardev_attach(f->dev, NULL, NULL);
	f->front.room = 100;
	chardev_kick(f->dev);
	run_loop(f, 10);
	assert_int_equal(f->front.len, 4);
	chardev_attach(f->dev, &front_client, &f->front);
	run_loop(f, 10);
	assert_int_equal(f->front.len, 10);
	assert_memory_equal(f->front.got, "0123456789", 10);
	close(fd);
}

static void pty_size_is_told(void **state)
{
	struct fixture *f = *state;
	struct winsize ws = {.ws_col = 132, .ws_row = 43};
	int fd;

	open_dev(f, CHARDEV_PTY, NULL);
	chardev_attach(f->dev, &front_client, &f->front);
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
	struct fixture *f = *state;
	char buf[64] = {0};
	struct stat st;
	int fd;

	open_dev(f, CHARDEV_SOCKET, f->path);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	say(f, "before ");
	run_loop(f, 10);
	fd = dial(f->path);
	run_loop(f, 10);
	say(f, "after");
	run_loop(f, 10);
	assert_int_equal(slurp(fd, buf, sizeof(buf)), 12);
	assert_string_equal(buf, "before after");
	close(fd);
	/* And again for the next client. */
	fd = dial(f->path);
	run_loop(f, 10);
	assert_int_equal(slurp(fd, buf, sizeof(buf)), 12);
	close(fd);
}

static void socket_replays_the_last_mebibyte(void **state)
{
	struct fixture *f = *state;
	static char block[65536], got[3 << 20];
	size_t n = 0;
	int fd;

	open_dev(f, CHARDEV_SOCKET, f->path);
	for (unsigned i = 0; i < 40; i++) {
		memset(block, 'A' + (int)i, sizeof(block));
		chardev_write(f->dev, block, sizeof(block));
		run_loop(f, 4);
	}
	fd = dial(f->path);
	for (unsigned i = 0; i < 200 && n < (1 << 20); i++) {
		run_loop(f, 2);
		n += slurp(fd, got + n, sizeof(got) - n);
	}
	assert_int_equal(n, 1 << 20);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(got[i * 65536], 'A' + 24 + (int)i);
	close(fd);
}

static void newest_client_takes_over(void **state)
{
	struct fixture *f = *state;
	char buf[16];
	int first, second;

	open_dev(f, CHARDEV_SOCKET, f->path);
	f->front.room = 100;
	chardev_attach(f->dev, &front_client, &f->front);
	first = dial(f->path);
	run_loop(f, 10);
	second = dial(f->path);
	run_loop(f, 10);
	assert_int_equal(read(first, buf, sizeof(buf)), 0);
	assert_int_equal(write(second, "two", 3), 3);
	run_loop(f, 10);
	assert_int_equal(f->front.len, 3);
	close(first);
	close(second);
}

static void input_of_a_client_that_left_is_not_lost(void **state)
{
	struct fixture *f = *state;
	int fd;

	open_dev(f, CHARDEV_SOCKET, f->path);
	chardev_attach(f->dev, &front_client, &f->front);
	fd = dial(f->path);
	assert_int_equal(write(fd, "command\n", 8), 8);
	close(fd);
	run_loop(f, 10);
	say(f, "echo");
	run_loop(f, 10);
	assert_int_equal(f->front.len, 0);
	f->front.room = 100;
	chardev_kick(f->dev);
	run_loop(f, 10);
	assert_int_equal(f->front.len, 8);
}

static void half_closed_client_still_gets_output(void **state)
{
	struct fixture *f = *state;
	struct rusage before, after;
	char buf[16] = {0};
	int fd;

	open_dev(f, CHARDEV_SOCKET, f->path);
	f->front.room = 100;
	chardev_attach(f->dev, &front_client, &f->front);
	fd = dial(f->path);
	assert_int_equal(write(fd, "in", 2), 2);
	shutdown(fd, SHUT_WR);
	getrusage(RUSAGE_THREAD, &before);
	run_loop(f, 50);
	getrusage(RUSAGE_THREAD, &after);
	assert_true(after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec -
			    before.ru_stime.tv_usec <
		    25000);
	assert_int_equal(f->front.len, 2);
	say(f, "out");
	run_loop(f, 10);
	assert_int_equal(read(fd, buf, sizeof(buf)), 3);
	close(fd);
	run_loop(f, 10);
	say(f, "nobody");
	run_loop(f, 10);
}

static void old_socket_is_replaced_but_a_file_is_not(void **state)
{
	struct fixture *f = *state;
	const struct chardev_params params = {.mode = CHARDEV_SOCKET, .path = f->path};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, f->path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	open_dev(f, CHARDEV_SOCKET, f->path);
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
	struct fixture *f = *state;
	char path[200];
	const struct chardev_params params = {.mode = CHARDEV_SOCKET, .path = path};

	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[199] = '\0';
	assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), -ENAMETOOLONG);
}

/* --- tty: stdin and stdout of a child process --- */

/* A child whose stdin and stdout are the given fds (-1: closed) runs a tty for 150 ms, which says
 * "hello" and echoes what it gets. Returns its CPU time in microseconds, negative if it failed. */
static long run_tty(int in, int out, bool expect_raw)
{
	struct rusage usage;
	struct fixture f = {0};
	struct termios t;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		const struct chardev_params params = {.mode = CHARDEV_TTY, .input = true};

		signal(SIGPIPE, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		setsid();
		if (loop_new(&f.loop) < 0)
			_exit(1);
		if (in >= 0 && isatty(in) && !ptsname(in))
			ioctl(in, TIOCSCTTY, 0);
		in >= 0 ? dup2(in, 0) : close(0);
		out >= 0 ? dup2(out, 1) : close(1);
		if (chardev_new(f.loop, &params, &f.dev, NULL) < 0)
			_exit(1);
		f.front.room = sizeof(f.front.got);
		chardev_attach(f.dev, &front_client, &f.front);
		chardev_write(f.dev, "hello", 5);
		for (unsigned i = 0; i < 15; i++) {
			struct loop_timer *timer;

			if (loop_timer_new(f.loop, stop_loop, f.loop, &timer) < 0)
				_exit(2);
			loop_timer_start(timer, 10, 0);
			loop_run(f.loop);
			loop_timer_free(timer);
			chardev_write(f.dev, f.front.got, f.front.len);
			f.front.len = 0;
		}
		if (expect_raw && (tcgetattr(0, &t) < 0 || t.c_lflag & (ICANON | ECHO)))
			_exit(3);
		chardev_free(f.dev);
		if (expect_raw && (tcgetattr(0, &t) < 0 || !(t.c_lflag & ICANON)))
			_exit(4);
		loop_free(f.loop);
		_exit(0);
	}
	assert_int_equal(wait4(pid, &status, 0, &usage), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return usage.ru_utime.tv_sec * 1000000L + usage.ru_utime.tv_usec +
	       usage.ru_stime.tv_sec * 1000000L + usage.ru_stime.tv_usec;
}

#define CPU_LIMIT_US 100000

static void make_pipe(int fds[2])
{
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
}

static void expect_output(int fd, const char *text)
{
	char buf[256] = {0};

	slurp(fd, buf, sizeof(buf) - 1);
	assert_string_equal(buf, text);
}

static void tty_works_with_null_stdin_and_a_pipe(void **state)
{
	int in = open("/dev/null", O_RDONLY | O_CLOEXEC), out[2];

	make_pipe(out);
	assert_true(run_tty(in, out[1], false) < CPU_LIMIT_US);
	expect_output(out[0], "hello");
	/* The launcher's end still blocks. */
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	close(in);
	close(out[0]);
	close(out[1]);
}

static void tty_works_with_closed_stdin_and_stdout(void **state)
{
	int out[2];

	make_pipe(out);
	assert_true(run_tty(-1, out[1], false) < CPU_LIMIT_US);
	expect_output(out[0], "hello");
	assert_true(run_tty(-1, -1, false) < CPU_LIMIT_US);
	close(out[0]);
	close(out[1]);
}

static void tty_reads_a_pipe_to_its_end_without_spinning(void **state)
{
	int in[2], out[2];

	make_pipe(in);
	make_pipe(out);
	assert_int_equal(write(in[1], "script", 6), 6);
	close(in[1]);
	assert_true(run_tty(in[0], out[1], false) < CPU_LIMIT_US);
	expect_output(out[0], "helloscript");
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

static void tty_reads_a_file_on_stdin(void **state)
{
	struct fixture *f = *state;
	int in = open(f->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600), out[2];

	make_pipe(out);
	assert_int_equal(write(in, "file", 4), 4);
	lseek(in, 0, SEEK_SET);
	assert_true(run_tty(in, out[1], false) < CPU_LIMIT_US);
	expect_output(out[0], "hellofile");
	close(in);
	close(out[0]);
	close(out[1]);
}

static void tty_appends_to_a_file_on_stdout(void **state)
{
	struct fixture *f = *state;
	int out = open(f->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	char buf[64] = {0};

	assert_int_equal(write(out, "launcher: ", 10), 10);
	run_tty(-1, out, false);
	assert_int_equal(write(out, "!", 1), 1);
	assert_int_equal(pread(out, buf, sizeof(buf), 0), 16);
	assert_string_equal(buf, "launcher: hello!");
	close(out);
}

static void tty_works_on_a_socket_without_touching_its_flags(void **state)
{
	int pair[2];
	char buf[64] = {0};

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[0], "net", 3), 3);
	assert_true(run_tty(pair[1], pair[1], false) < CPU_LIMIT_US);
	assert_int_equal(fcntl(pair[1], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(slurp(pair[0], buf, sizeof(buf)), 8);
	assert_string_equal(buf, "hellonet");
	close(pair[0]);
	close(pair[1]);
}

static void tty_does_not_block_on_a_full_pipe(void **state)
{
	int out[2];
	char block[4096];

	make_pipe(out);
	memset(block, 'x', sizeof(block));
	fd_set_nonblock(out[1], true);
	while (write(out[1], block, sizeof(block)) > 0)
		;
	fd_set_nonblock(out[1], false);
	assert_true(run_tty(-1, out[1], false) < CPU_LIMIT_US);
	close(out[0]);
	close(out[1]);
}

static int new_pty(int *ret_slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_true(master >= 0);
	assert_int_equal(grantpt(master) | unlockpt(master), 0);
	*ret_slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*ret_slave >= 0);
	return master;
}

static void tty_makes_a_terminal_raw_and_puts_it_back(void **state)
{
	int slave, master = new_pty(&slave);
	char buf[64] = {0};

	assert_true(run_tty(slave, slave, true) < CPU_LIMIT_US);
	assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
	assert_true(slurp(master, buf, sizeof(buf)) >= 5);
	assert_non_null(strstr(buf, "hello"));
	close(slave);
	close(master);
}

static void tty_writes_to_a_pty_master_as_it_is(void **state)
{
	int slave, master = new_pty(&slave), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct termios raw;
	char buf[64] = {0};

	/* The launcher gave us the master and reads the other end. */
	tcgetattr(slave, &raw);
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	assert_true(run_tty(null, master, false) < CPU_LIMIT_US);
	assert_int_equal(slurp(slave, buf, sizeof(buf)), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(fcntl(master, F_GETFL) & O_NONBLOCK, 0);
	close(slave);
	close(master);
	close(null);
}

static void descriptors_are_given_back(void **state)
{
	struct fixture *f = *state;
	static const enum chardev_mode modes[] = {CHARDEV_NULL, CHARDEV_PTY, CHARDEV_FILE,
						  CHARDEV_SOCKET, CHARDEV_TTY};
	int before = 0, after;

	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
			const struct chardev_params params = {.mode = modes[i], .path = f->path};

			assert_int_equal(chardev_new(f->loop, &params, &f->dev, NULL), 0);
			if (modes[i] == CHARDEV_SOCKET) {
				int fd = dial(f->path);

				run_loop(f, 1);
				close(fd);
			}
			chardev_free(TAKE(f->dev));
			unlink(f->path);
		}
		run_loop(f, 1);
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
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
		T(tty_works_with_null_stdin_and_a_pipe),
		T(tty_works_with_closed_stdin_and_stdout),
		T(tty_reads_a_pipe_to_its_end_without_spinning),
		T(tty_reads_a_file_on_stdin),
		T(tty_appends_to_a_file_on_stdout),
		T(tty_works_on_a_socket_without_touching_its_flags),
		T(tty_does_not_block_on_a_full_pipe),
		T(tty_makes_a_terminal_raw_and_puts_it_back),
		T(tty_writes_to_a_pty_master_as_it_is),
		T(descriptors_are_given_back),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
