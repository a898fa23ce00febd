/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/notify.h"

#include "base/fd.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* A service manager's socket of that name; a leading @ stands for the abstract namespace. */
static int manager(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	memcpy(addr.sun_path, name, len);
	if (*name == '@')
		addr.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
			 0);
	return fd;
}

static void assert_hears(int fd, const char *what)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char text[64] = "";

	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(recv(fd, text, sizeof(text) - 1, 0), strlen(what));
	assert_string_equal(text, what);
}

static void check(const char *name)
{
	AUTO_FD int fd = manager(name);

	setenv("NOTIFY_SOCKET", name, 1);
	notify_ready();
	assert_hears(fd, "READY=1");
	notify_stopping();
	assert_hears(fd, "STOPPING=1");
	unsetenv("NOTIFY_SOCKET");
}

static void a_manager_at_a_path_hears_ready_and_stopping(void **state)
{
	char dir[] = "/tmp/test_notify.XXXXXX";
	char path[64];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/notify", dir);
	check(path);
	unlink(path);
	rmdir(dir);
}

static void a_manager_in_the_abstract_namespace_hears_ready_and_stopping(void **state)
{
	char name[64];

	snprintf(name, sizeof(name), "@test_notify/%d", getpid());
	check(name);
}

/* No room is left for a terminator. */
static void the_longest_name_that_an_address_holds_is_reached(void **state)
{
	char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	int n;

	memset(name, 'x', sizeof(name));
	n = snprintf(name, sizeof(name), "@test_notify/%d", getpid());
	name[n] = 'x';
	name[sizeof(name) - 1] = '\0';
	check(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_manager_at_a_path_hears_ready_and_stopping),
		cmocka_unit_test(a_manager_in_the_abstract_namespace_hears_ready_and_stopping),
		cmocka_unit_test(the_longest_name_that_an_address_holds_is_reached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
