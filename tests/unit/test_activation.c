/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void set_or_unset(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

/* pid "self": ours. NULL: the variable is not set. */
static void pass(const char *pid, const char *count, const char *names)
{
	char self[16];

	snprintf(self, sizeof(self), "%d", getpid());
	set_or_unset("LISTEN_PID", pid && strcmp(pid, "self") == 0 ? self : pid);
	set_or_unset("LISTEN_FDS", count);
	set_or_unset("LISTEN_FDNAMES", names);
}

static void assert_taken(const char *name, int fd)
{
	struct err err = ERR_INIT;

	assert_int_equal(activation_take(name, &err), fd);
}

static void assert_refused(const char *name, int rc, const char *what)
{
	struct err err = ERR_INIT;
	char text[ERR_TEXT_MAX];

	assert_int_equal(activation_take(name, &err), rc);
	assert_non_null(strstr(err_format(&err, text, sizeof(text)), what));
}

static void without_the_variables_there_are_no_sockets(void **state)
{
	static const char *const half[][2] = {{NULL, NULL}, {"self", NULL}, {NULL, "1"}};

	for (size_t i = 0; i < ARRAY_SIZE(half); i++) {
		pass(half[i][0], half[i][1], NULL);
		assert_int_equal(activation_count(), 0);
		assert_refused(NULL, -ENOENT, "LISTEN_FDS");
	}
}

static void sockets_of_another_process_are_not_ours(void **state)
{
	pass("1", "1", "api");
	assert_int_equal(activation_count(), 0);
	assert_refused(NULL, -ENOENT, "not set for this process");
	assert_non_null(getenv("LISTEN_FDS"));
}

static void nonsense_is_refused(void **state)
{
	static const char *const texts[] = {
		"", "-1", "x", "1x", " 1", "2147483647", "99999999999999999999"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		pass("self", texts[i], NULL);
		assert_int_equal(activation_count(), -EINVAL);
		assert_refused(NULL, -EINVAL, "not both numbers");
		pass(texts[i], "1", NULL);
		assert_true(activation_count() <= 0);
	}
}

static void the_only_socket_needs_no_name(void **state)
{
	pass("self", "1", NULL);
	assert_int_equal(activation_count(), 1);
	assert_taken(NULL, 3);
	pass("self", "1", "whatever");
	assert_taken(NULL, 3);
}

static void a_name_picks_one_of_several(void **state)
{
	pass("self", "3", "metrics:api:");
	assert_taken("api", 4);
	pass("self", "3", "metrics:api:");
	assert_taken("", 5);
	pass("self", "2", "ap:api");
	assert_taken("api", 4);
}

static void what_cannot_be_told_apart_is_refused(void **state)
{
	pass("self", "2", "a:b");
	assert_refused(NULL, -EINVAL, "fd=activation:NAME");
	pass("self", "2", "a:b");
	assert_refused("c", -ENOENT, "named c");
	pass("self", "2", "a:a");
	assert_refused("a", -EINVAL, "more than one");
	pass("self", "2", NULL);
	assert_refused("a", -ENOENT, "named a");
	pass("self", "2", "a");
	assert_refused("a", -EINVAL, "1 names for 2 sockets");
}

static void taken_sockets_are_closed_in_programs_and_told_of_once(void **state)
{
	int fds[] = {dup2(0, 3), dup2(0, 4)};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		assert_int_equal(fds[i], 3 + (int)i);
	pass("self", "2147483000", NULL);
	assert_refused(NULL, -EINVAL, "2147483000 sockets");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		close(fds[i]);
	}
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
	assert_int_equal(activation_count(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_the_variables_there_are_no_sockets),
		cmocka_unit_test(sockets_of_another_process_are_not_ours),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(the_only_socket_needs_no_name),
		cmocka_unit_test(a_name_picks_one_of_several),
		cmocka_unit_test(what_cannot_be_told_apart_is_refused),
		cmocka_unit_test(taken_sockets_are_closed_in_programs_and_told_of_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
