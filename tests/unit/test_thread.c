/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct seen {
	bool ran;
	char name[32];
	sigset_t blocked;
	size_t stack_bytes;
};

static char name_in_hook[32];
static enum thread_role role_in_hook;
static int hook_result;

static int hook(enum thread_role role)
{
	role_in_hook = role;
	pthread_getname_np(pthread_self(), name_in_hook, sizeof(name_in_hook));
	return hook_result;
}

static void *look_around(void *arg)
{
	struct seen *seen = arg;
	pthread_attr_t attr;

	seen->ran = true;
	pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
	pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstacksize(&attr, &seen->stack_bytes);
	pthread_attr_destroy(&attr);
	return NULL;
}

static struct seen run(const char *name)
{
	struct seen seen = {0};
	struct thread t = {0};

	assert_int_equal(thread_start(&t, name, THREAD_DISK, look_around, &seen), 0);
	assert_true(t.started);
	thread_join(&t);
	assert_false(t.started);
	assert_true(seen.ran);
	return seen;
}

static void thread_has_the_name_it_was_given(void **state)
{
	assert_string_equal(run("vcpu12").name, "vcpu12");
}

static void long_name_is_cut(void **state)
{
	assert_string_equal(run("_disk0123456789abcdef").name, "_disk0123456789");
}

static void asynchronous_signals_are_blocked(void **state)
{
	struct seen seen = run("x");

	assert_true(sigismember(&seen.blocked, SIGTERM));
	assert_true(sigismember(&seen.blocked, SIGINT));
	assert_true(sigismember(&seen.blocked, SIGPIPE));
	assert_true(sigismember(&seen.blocked, SIGRTMIN));
	assert_true(sigismember(&seen.blocked, SIGRTMAX));
}

static void faults_are_not_blocked(void **state)
{
	struct seen seen = run("x");

	assert_false(sigismember(&seen.blocked, SIGSYS));
	assert_false(sigismember(&seen.blocked, SIGBUS));
	assert_false(sigismember(&seen.blocked, SIGSEGV));
}

static void starter_keeps_its_own_signal_mask(void **state)
{
	sigset_t before, after;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	run("x");
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
}

static void stack_is_small(void **state)
{
	assert_true(run("x").stack_bytes <= 2 * MIB + 64 * KIB);
}

static void hook_runs_first_with_role_and_name(void **state)
{
	thread_set_enter_hook(hook);
	hook_result = 0;
	run("_disk0");
	assert_int_equal(role_in_hook, THREAD_DISK);
	assert_string_equal(name_in_hook, "_disk0");
	thread_set_enter_hook(NULL);
}

static void failing_hook_is_reported_and_fn_does_not_run(void **state)
{
	struct seen seen = {0};
	struct thread t = {0};

	thread_set_enter_hook(hook);
	hook_result = -EPERM;
	assert_int_equal(thread_start(&t, "x", THREAD_VCPU, look_around, &seen), -EPERM);
	thread_set_enter_hook(NULL);
	assert_false(t.started);
	assert_false(seen.ran);
	thread_join(&t);
}

static void joining_what_never_ran_or_twice_does_nothing(void **state)
{
	struct thread t = {0};

	thread_join(&t);
	thread_join(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thread_has_the_name_it_was_given),
		cmocka_unit_test(long_name_is_cut),
		cmocka_unit_test(asynchronous_signals_are_blocked),
		cmocka_unit_test(faults_are_not_blocked),
		cmocka_unit_test(starter_keeps_its_own_signal_mask),
		cmocka_unit_test(stack_is_small),
		cmocka_unit_test(hook_runs_first_with_role_and_name),
		cmocka_unit_test(failing_hook_is_reported_and_fn_does_not_run),
		cmocka_unit_test(joining_what_never_ran_or_twice_does_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
