/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void close_sets_minus_one_and_keeps_errno(void **state)
{
	int fd = eventfd_new();
	int old = fd;

	assert_true(fd >= 0);
	errno = EXDEV;
	fd_close(&fd);
	assert_int_equal(fd, -1);
	assert_false(is_open(old));
	errno = EXDEV;
	fd_close(&fd);
	assert_int_equal(errno, EXDEV);
}

static void auto_fd_closes_and_take_hands_on(void **state)
{
	int closed, kept;

	{
		AUTO_FD int a = eventfd_new();
		AUTO_FD int b = eventfd_new();

		closed = a;
		kept = TAKE_FD(b);
		assert_int_equal(b, -1);
	}
	assert_false(is_open(closed));
	assert_true(is_open(kept));
	fd_close(&kept);
}

static void dup_is_cloexec_and_not_a_standard_stream(void **state)
{
	AUTO_FD int fd = fd_dup(1);

	assert_true(fd >= 3);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fd_dup(-1), -EBADF);
}

static void nonblock_and_cloexec_can_be_set(void **state)
{
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(fd_set_nonblock(p[0], true), 0);
	assert_true(fcntl(p[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_nonblock(p[0], false), 0);
	assert_false(fcntl(p[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(fd_set_cloexec(p[0]), 0);
	assert_int_equal(fcntl(p[0], F_GETFD), FD_CLOEXEC);
	close(p[0]);
	close(p[1]);
	assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
	assert_int_equal(fd_set_cloexec(-1), -EBADF);
}

static void *drain_slowly(void *arg)
{
	size_t total = 0;
	char buf[8192];
	ssize_t n;

	while ((n = read(*(int *)arg, buf, sizeof(buf))) > 0)
		total += (size_t)n;
	return (void *)(uintptr_t)total;
}

static void write_all_waits_out_a_full_non_blocking_pipe(void **state)
{
	const size_t len = 1 << 20;
	AUTO_FREE char *data = calloc(1, len);
	pthread_t reader;
	void *total;
	int p[2];

	assert_non_null(data);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(fd_set_nonblock(p[1], true), 0);
	assert_int_equal(pthread_create(&reader, NULL, drain_slowly, &p[0]), 0);
	assert_int_equal(fd_write_all(p[1], data, len), 0);
	close(p[1]);
	pthread_join(reader, &total);
	assert_int_equal((uintptr_t)total, len);
	close(p[0]);
}

static void write_all_reports_a_closed_reader(void **state)
{
	int p[2];

	assert_int_equal(pipe(p), 0);
	close(p[0]);
	assert_int_equal(fd_write_all(p[1], "x", 1), -EPIPE);
	close(p[1]);
}

static void pread_all_tells_a_short_file(void **state)
{
	AUTO_FD int fd = memfd_create("t", MFD_CLOEXEC);
	char buf[8];

	assert_int_equal(fd_write_all(fd, "0123456789", 10), 0);
	assert_int_equal(fd_pread_all(fd, buf, 8, 2), 0);
	assert_memory_equal(buf, "23456789", 8);
	assert_int_equal(fd_pread_all(fd, buf, 8, 3), -ENODATA);
	assert_int_equal(fd_pread_all(fd, buf, 8, -1), -EINVAL);
	assert_int_equal(fd_pread_all(-1, buf, 8, 0), -EBADF);
	assert_int_equal(fd_pread_all(fd, buf, 0, 100), 0);
}

static void eventfd_counts_and_never_blocks(void **state)
{
	AUTO_FD int fd = eventfd_new();
	uint64_t nearly_full = UINT64_MAX - 1;

	assert_int_equal(eventfd_drain(fd), 0);
	eventfd_signal(fd);
	eventfd_signal(fd);
	assert_int_equal(eventfd_drain(fd), 2);
	assert_int_equal(write(fd, &nearly_full, 8), 8);
	eventfd_signal(fd);
	assert_true(eventfd_drain(fd) == nearly_full);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void number_is_digits_alone_and_bounded(void **state)
{
	static const char *const bad[] = {"",	" 1",  "+1", "-1",
					  "1 ", "0x1", "8",  "99999999999999999999"};

	assert_int_equal(fd_parse_number("0", 7), 0);
	assert_int_equal(fd_parse_number("7", 7), 7);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(fd_parse_number(bad[i], 7), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(number_is_digits_alone_and_bounded),
		cmocka_unit_test(close_sets_minus_one_and_keeps_errno),
		cmocka_unit_test(auto_fd_closes_and_take_hands_on),
		cmocka_unit_test(dup_is_cloexec_and_not_a_standard_stream),
		cmocka_unit_test(nonblock_and_cloexec_can_be_set),
		cmocka_unit_test(write_all_waits_out_a_full_non_blocking_pipe),
		cmocka_unit_test(write_all_reports_a_closed_reader),
		cmocka_unit_test(pread_all_tells_a_short_file),
		cmocka_unit_test(eventfd_counts_and_never_blocks),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
