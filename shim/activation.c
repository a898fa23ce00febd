/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/activation.h"

#include "base/fd.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define FIRST_FD 3

/* What leaves room for as many descriptors behind the first. */
#define NUMBER_MAX (INT_MAX - FIRST_FD)

int activation_count(void)
{
	const char *pid_text = getenv("LISTEN_PID");
	const char *count = getenv("LISTEN_FDS");
	int pid;

	if (!pid_text || !count)
		return 0;
	pid = fd_parse_number(pid_text, NUMBER_MAX);
	if (pid < 0)
		return pid;
	return pid == getpid() ? fd_parse_number(count, NUMBER_MAX) : 0;
}

static void forget(int n)
{
	/* One that is not open is found out by whoever uses it; after it, none is believed in. */
	for (int i = 0; i < n && fd_set_cloexec(FIRST_FD + i) == 0; i++)
		;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

/* Index of the one socket that is called `name`. `names` are n, with colons between them. */
static int find_name(const char *names, int n, const char *name, struct err *err)
{
	int found = -1;
	int i = 0;

	for (const char *p = names; p; i++) {
		const char *colon = strchr(p, ':');
		size_t len = colon ? (size_t)(colon - p) : strlen(p);

		if (len == strlen(name) && memcmp(p, name, len) == 0) {
			if (found >= 0)
				return err_set(err, -EINVAL,
					       "more than one socket named %s was passed by "
					       "activation",
					       name);
			found = i;
		}
		p = colon ? colon + 1 : NULL;
	}
	if (names && i != n)
		return err_set(err, -EINVAL, "LISTEN_FDNAMES has %d names for %d sockets", i, n);
	if (found < 0)
		return err_set(err, -ENOENT, "no socket named %s was passed by activation", name);
	return found;
}

int activation_take(const char *name, struct err *err)
{
	int n = activation_count();
	int i = 0;

	if (n < 0)
		return err_set(err, n, "LISTEN_PID and LISTEN_FDS are not both numbers");
	if (n == 0)
		return err_set(err, -ENOENT,
			       "no socket was passed by activation (LISTEN_PID and LISTEN_FDS are "
			       "not set for this process)");
	if (name)
		i = find_name(getenv("LISTEN_FDNAMES"), n, name, err);
	else if (n > 1)
		i = err_set(err, -EINVAL,
			    "%d sockets were passed by activation: say which with "
			    "fd=activation:NAME (FileDescriptorName= of the socket unit)",
			    n);
	forget(n);
	return i < 0 ? i : FIRST_FD + i;
}
