/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/listen.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char dir[64];
	char path[96];
	char lock[112];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "/tmp/test_listen.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/api.sock", f->dir);
	snprintf(f->lock, sizeof(f->lock), "%s.lock", f->path);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	unlink(f->lock);
	rmdir(f->dir);
	free(f);
	return 0;
}

static int bound_socket(const char *path, bool listening)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (listening)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void assert_mentions(const struct err *err, const char *what)
{
	char text[ERR_TEXT_MAX];

	assert_non_null(strstr(err_format(err, text, sizeof(text)), what));
}

static void path_is_bound_with_mode_0600_and_removed_at_the_end(void **state)
{
	struct fixture *f = *state;
	struct listen_socket s;
	struct err err = ERR_INIT;
	struct stat st;
	int value = 0;
	socklen_t len = sizeof(value);

	assert_int_equal(listen_open_path(&s, f->path, &err), 0);
	assert_int_equal(lstat(f->path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	assert_int_equal(fcntl(s.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(getsockopt(s.fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len), 0);
	assert_int_equal(value, 1);
	listen_close(&s);
	assert_false(exists(f->path));
	assert_false(exists(f->lock));
	assert_int_equal(s.fd, -1);
	listen_close(&s);
}

static void stale_socket_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct listen_socket s;
	struct err err = ERR_INIT;

	close(bound_socket(f->path, true));
	assert_true(exists(f->path));
	assert_int_equal(listen_open_path(&s, f->path, &err), 0);
	listen_close(&s);
}

static void socket_that_someone_listens_on_is_left_alone(void **state)
{
	struct fixture *f = *state;
	struct listen_socket s;
	struct err err = ERR_INIT;
	int other = bound_socket(f->path, true);

	assert_int_equal(listen_open_path(&s, f->path, &err), -EADDRINUSE);
	assert_mentions(&err, f->path);
	assert_true(exists(f->path));
	assert_false(exists(f->lock));
	assert_int_equal(s.fd, -1);
	close(other);
}

static void path_that_is_locked_is_refused(void **state)
{
	struct fixture *f = *state;
	struct listen_socket first, second;
	struct err err = ERR_INIT;

	assert_int_equal(listen_open_path(&first, f->path, &err), 0);
	assert_int_equal(listen_open_path(&second, f->path, &err), -EADDRINUSE);
	assert_mentions(&err, "locked by another process");
	assert_true(exists(f->path));
	assert_true(exists(f->lock));
	listen_close(&first);
	assert_int_equal(listen_open_path(&second, f->path, &err), 0);
	listen_close(&second);
}

static void file_that_is_no_socket_is_never_removed(void **state)
{
	struct fixture *f = *state;
	struct listen_socket s;
	struct err err = ERR_INIT;

	close(open(f->path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(listen_open_path(&s, f->path, &err), -EEXIST);
	assert_mentions(&err, "not a socket");
	assert_true(exists(f->path));
}

static void symbolic_link_is_never_followed(void **state)
{
	struct fixture *f = *state;
	struct listen_socket s;
	struct err err = ERR_INIT;

	assert_int_equal(symlink("/nonexistent", f->path), 0);
	assert_int_equal(listen_open_path(&s, f->path, &err), -EEXIST);
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(symlink("/nonexistent", f->lock), 0);
	assert_int_equal(listen_open_path(&s, f->path, &err), -ELOOP);
}

static void another_socket_at_the_path_survives_our_end(void **state)
{
	struct fixture *f = *state;
	struct listen_socket s;
	struct err err = ERR_INIT;
	int other;

	assert_int_equal(listen_open_path(&s, f->path, &err), 0);
	assert_int_equal(unlink(f->path), 0);
	other = bound_socket(f->path, true);
	listen_close(&s);
	assert_true(exists(f->path));
	close(other);
}

static void path_of_108_bytes_is_too_long(void **state)
{
	struct listen_socket s;
	struct err err = ERR_INIT;
	char path[109];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(listen_open_path(&s, path, &err), -ENAMETOOLONG);
	assert_mentions(&err, "107");
	assert_int_equal(listen_open_path(&s, "", &err), -EINVAL);
}

static void inherited_listener_is_used_and_its_path_stays(void **state)
{
	struct fixture *f = *state;
	struct listen_socket s;
	struct err err = ERR_INIT;
	int fd = bound_socket(f->path, true);
	char text[16];

	snprintf(text, sizeof(text), "%d", fd);
	assert_int_equal(listen_open_fd(&s, text, &err), 0);
	assert_int_equal(s.fd, fd);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	listen_close(&s);
	assert_true(exists(f->path));
}

static void expect_refused(int fd, int code, const char *words)
{
	struct listen_socket s;
	struct err err = ERR_INIT;
	char text[16];

	snprintf(text, sizeof(text), "%d", fd);
	assert_int_equal(listen_open_fd(&s, text, &err), code);
	assert_mentions(&err, words);
	assert_int_equal(s.fd, -1);
}

static void descriptors_that_are_no_unix_stream_listener_are_refused(void **state)
{
	struct fixture *f = *state;
	int file = open("/dev/null", O_RDONLY);
	int idle = bound_socket(f->path, false);
	int inet = socket(AF_INET, SOCK_STREAM, 0);
	int dgram = socket(AF_UNIX, SOCK_DGRAM, 0);

	expect_refused(file, -ENOTSOCK, "not a socket");
	expect_refused(idle, -EOPNOTSUPP, "not listening");
	expect_refused(dgram, -EOPNOTSUPP, "not a stream socket");
	if (inet >= 0)
		expect_refused(inet, -EOPNOTSUPP, "AF_UNIX");
	expect_refused(1000, -EBADF, "not open");
	/* Refusing does not close what was not ours. */
	assert_true(fcntl(file, F_GETFD) >= 0);
	close(file);
	close(idle);
	close(dgram);
	if (inet >= 0)
		close(inet);
}

static void nonsense_instead_of_a_number_is_refused(void **state)
{
	static const char *const texts[] = {
		"", "x", "-1", "3x", "99999999999999999999", "0x3", " 3", "acti", "activationx"};
	struct listen_socket s;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(listen_open_fd(&s, texts[i], &err), -EINVAL);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(path_is_bound_with_mode_0600_and_removed_at_the_end),
		TEST(stale_socket_is_replaced),
		TEST(socket_that_someone_listens_on_is_left_alone),
		TEST(path_that_is_locked_is_refused),
		TEST(file_that_is_no_socket_is_never_removed),
		TEST(symbolic_link_is_never_followed),
		TEST(another_socket_at_the_path_survives_our_end),
		TEST(path_of_108_bytes_is_too_long),
		TEST(inherited_listener_is_used_and_its_path_stays),
		TEST(descriptors_that_are_no_unix_stream_listener_are_refused),
		TEST(nonsense_instead_of_a_number_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
