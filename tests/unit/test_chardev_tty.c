/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/chardev_rig.h"

#include "base/fd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

/* A child whose stdin and stdout are the given fds (-1: closed) runs a tty for 150 ms, which says
 * "hello" and echoes what it gets. Returns its CPU time in microseconds, negative if it failed. */
static long run_tty(int in, int out, bool expect_raw)
{
	struct rusage usage;
	struct chardev_rig f = {0};
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
		chardev_attach(f.dev, &chardev_rig_client, &f.front);
		chardev_write(f.dev, "hello", 5);
		for (unsigned i = 0; i < 15; i++) {
			struct loop_timer *timer;

			if (loop_timer_new(f.loop, chardev_rig_stop, f.loop, &timer) < 0)
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

	chardev_rig_slurp(fd, buf, sizeof(buf) - 1);
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
	struct chardev_rig *f = *state;
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
	struct chardev_rig *f = *state;
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
	assert_int_equal(chardev_rig_slurp(pair[0], buf, sizeof(buf)), 8);
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
	assert_true(chardev_rig_slurp(master, buf, sizeof(buf)) >= 5);
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
	assert_int_equal(chardev_rig_slurp(slave, buf, sizeof(buf)), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(fcntl(master, F_GETFL) & O_NONBLOCK, 0);
	close(slave);
	close(master);
	close(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, chardev_rig_setup, chardev_rig_teardown)
		T(tty_works_with_null_stdin_and_a_pipe),
		T(tty_works_with_closed_stdin_and_stdout),
		T(tty_reads_a_pipe_to_its_end_without_spinning),
		T(tty_reads_a_file_on_stdin),
		T(tty_appends_to_a_file_on_stdout),
		T(tty_works_on_a_socket_without_touching_its_flags),
		T(tty_does_not_block_on_a_full_pipe),
		T(tty_makes_a_terminal_raw_and_puts_it_back),
		T(tty_writes_to_a_pty_master_as_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
