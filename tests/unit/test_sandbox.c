/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"
#include "shim/sandbox.h"

#include "base/log.h"
#include "shim/sandbox_rules.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <poll.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define OUTPUT_MAX 4096

/* The sanitizers' own calls are on no list: what tests the filters themselves cannot run with them.
 */
#ifdef SANITIZED
static const bool filters_can_be_tested = false;
#else
static const bool filters_can_be_tested = true;
#endif

/* Runs fn in a process of its own, since a filter cannot be taken off. Returns its wait status;
 * `output` gets what it wrote to stderr. */
static int in_child(void (*fn)(void), char output[OUTPUT_MAX])
{
	struct rlimit no_core = {0};
	int pipe_fds[2];
	int status = -1;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		dup2(pipe_fds[1], STDERR_FILENO);
		fn();
		_exit(0);
	}
	close(pipe_fds[1]);
	while ((n = read(pipe_fds[0], output + len, OUTPUT_MAX - 1 - len)) > 0)
		len += (size_t)n;
	output[len] = '\0';
	close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void must(bool ok)
{
	if (!ok)
		_exit(99);
}

static void assert_exit(int status, int code)
{
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

static void *call_socket(void *arg)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*(int *)arg = fd < 0 ? -errno : fd;
	return NULL;
}

static void violate_in_disk_thread(void)
{
	struct thread t = {0};
	int result = 0;

	must(sandbox_init(SANDBOX_TRAP, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	must(thread_start(&t, "_disk0", THREAD_DISK, call_socket, &result) == 0);
	thread_join(&t);
}

static void violation_says_call_and_thread_and_dies_of_sigsys(void **state)
{
	char output[OUTPUT_MAX];
	char number[32];
	int status = in_child(violate_in_disk_thread, output);

	snprintf(number, sizeof(number), "system call %d", SYS_socket);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
	assert_non_null(strstr(output, number));
	assert_non_null(strstr(output, "on thread _disk0"));
}

static void violate_by_ioctl(void)
{
	must(sandbox_init(SANDBOX_TRAP, NULL) == 0);
	must(sandbox_enter(THREAD_NET) == 0);
	ioctl(0, TIOCSTI, "x");
}

static void forbidden_ioctl_is_named_by_its_request(void **state)
{
	char output[OUTPUT_MAX];
	int status = in_child(violate_by_ioctl, output);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
	assert_non_null(strstr(output, "request 0x5412"));
}

static void errno_in_thread(void)
{
	struct thread t = {0};
	int result = 0;

	must(sandbox_init(SANDBOX_ERRNO, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	must(thread_start(&t, "_net0", THREAD_NET, call_socket, &result) == 0);
	thread_join(&t);
	must(result == -EPERM);
}

static void errno_mode_fails_the_call_with_eperm(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(errno_in_thread, output), 0);
}

static void nothing_installed(void)
{
	struct thread t = {0};
	int result = -1;

	must(sandbox_init(SANDBOX_OFF, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	must(thread_start(&t, "_net0", THREAD_NET, call_socket, &result) == 0);
	thread_join(&t);
	must(result >= 0);
	must(prctl(PR_GET_SECCOMP) == 0);
}

static void false_installs_no_filter(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(nothing_installed, output), 0);
}

static void try_to_execute(void)
{
	char *const argv[] = {(char[]){"true"}, NULL};

	must(sandbox_init(SANDBOX_ERRNO, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	must(execv("/bin/true", argv) < 0 && errno == EPERM);
	must(fork() < 0 && errno == EPERM);
	must(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0) == MAP_FAILED);
	must(kill(getppid(), 0) < 0 && errno == EPERM);
	must(syscall(SYS_tgkill, getppid(), getppid(), 0) < 0 && errno == EPERM);
	must(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
	must(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

static void even_main_starts_no_program_and_maps_no_code(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(try_to_execute, output), 0);
}

static void *return_null(void *arg)
{
	return NULL;
}

static void start_all_roles(void)
{
	must(sandbox_init(SANDBOX_TRAP, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	for (int role = 0; role < THREAD_ROLES_; role++) {
		struct thread t = {0};

		must(thread_start(&t, "role", (enum thread_role)role, return_null, NULL) == 0);
		thread_join(&t);
	}
	sandbox_fini();
}

static void threads_of_every_role_start_and_end_under_their_filter(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(start_all_roles, output), 0);
	assert_string_equal(output, "");
}

/* More than malloc keeps at the top of a thread's arena by default. */
static void *use_memory(void *arg)
{
	static void *blocks[64];

	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
		blocks[i] = malloc(32 << 10);
		if (!blocks[i])
			return NULL;
	}
	for (size_t i = ARRAY_SIZE(blocks); i-- > 0;)
		free(blocks[i]);
	*(bool *)arg = true;
	return NULL;
}

static void use_memory_in_disk_thread(void)
{
	struct thread t = {0};
	bool done = false;

	must(sandbox_init(SANDBOX_TRAP, NULL) == 0);
	must(thread_start(&t, "_disk0", THREAD_DISK, use_memory, &done) == 0);
	thread_join(&t);
	must(done);
}

static void device_thread_may_free_all_that_it_allocated(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(use_memory_in_disk_thread, output), 0);
	assert_string_equal(output, "");
}

static void *enter_no_guest(void *arg)
{
	*(int *)arg = ioctl(-1, KVM_RUN, 0) < 0 ? -errno : 0;
	return NULL;
}

static void *start_vcpu_thread(void *arg)
{
	struct thread t = {0};

	if (thread_start(&t, "vcpu0", THREAD_VCPU, enter_no_guest, arg) == 0)
		thread_join(&t);
	return NULL;
}

static void run_vcpu_from_worker(void)
{
	struct thread t = {0};
	int result = 0;

	must(sandbox_init(SANDBOX_TRAP, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	must(thread_start(&t, "boot", THREAD_WORKER, start_vcpu_thread, &result) == 0);
	thread_join(&t);
	must(result == -EBADF);
}

static void a_vcpu_that_a_worker_started_may_enter_the_guest(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(run_vcpu_from_worker, output), 0);
}

static void *start_disk_thread(void *arg)
{
	struct thread t = {0};

	*(int *)arg = thread_start(&t, "_disk0", THREAD_DISK, return_null, NULL);
	thread_join(&t);
	return NULL;
}

static void start_from_worker(void)
{
	struct thread t = {0};
	int result = -1;

	must(sandbox_init(SANDBOX_TRAP, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	must(thread_start(&t, "boot", THREAD_WORKER, start_disk_thread, &result) == 0);
	thread_join(&t);
	must(result == 0);
}

static void a_worker_can_start_a_device_thread(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(start_from_worker, output), 0);
}

struct caps {
	unsigned long long inheritable, permitted, effective, bounding, ambient;
};

static struct caps read_capabilities(void)
{
	struct caps c = {0};
	char line[128];
	FILE *f = fopen("/proc/thread-self/status", "r");

	must(f);
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "CapInh: %llx", &c.inheritable);
		sscanf(line, "CapPrm: %llx", &c.permitted);
		sscanf(line, "CapEff: %llx", &c.effective);
		sscanf(line, "CapBnd: %llx", &c.bounding);
		sscanf(line, "CapAmb: %llx", &c.ambient);
	}
	fclose(f);
	return c;
}

static bool has_capabilities(void)
{
	struct caps c = read_capabilities();

	return c.effective || c.permitted || c.inheritable || c.ambient;
}

static unsigned long long cap_bit(int capability)
{
	return 1ull << capability;
}

/* As those are that a service manager has made ambient for a process. */
static void make_ambient(int capability)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct half[_LINUX_CAPABILITY_U32S_3];

	must(syscall(SYS_capget, &header, half) == 0);
	half[0].inheritable |= 1u << capability;
	must(syscall(SYS_capset, &header, half) == 0);
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0);
}

static void limit(void)
{
	const unsigned long long kept = cap_bit(CAP_NET_ADMIN) | cap_bit(CAP_DAC_OVERRIDE) |
					cap_bit(CAP_DAC_READ_SEARCH) | cap_bit(CAP_SYS_RESOURCE) |
					cap_bit(CAP_IPC_LOCK) | cap_bit(CAP_SYS_NICE);
	struct caps before = read_capabilities();
	struct caps after;

	if (before.effective & cap_bit(CAP_NET_ADMIN))
		make_ambient(CAP_NET_ADMIN);
	must(sandbox_limit_capabilities(NULL) == 0);
	after = read_capabilities();
	must(after.effective == (before.effective & kept));
	must(after.permitted == after.effective);
	must(after.inheritable == 0 && after.ambient == 0);
	must(after.bounding == (before.effective & cap_bit(CAP_SETPCAP) ? 0 : before.bounding));
}

static void only_what_opening_devices_needs_is_kept(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(limit, output), 0);
}

static void drop_twice(void)
{
	must(sandbox_limit_capabilities(NULL) == 0);
	must(sandbox_drop_capabilities() == 0);
	must(!has_capabilities());
	must(sandbox_drop_capabilities() == 0);
}

static void capabilities_are_gone_after_dropping(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(drop_twice, output), 0);
}

static void drop_under_filter(void)
{
	must(sandbox_limit_capabilities(NULL) == 0);
	must(sandbox_init(SANDBOX_TRAP, NULL) == 0);
	must(sandbox_enter(THREAD_MAIN) == 0);
	must(sandbox_drop_capabilities() == 0);
	must(!has_capabilities());
}

static void capabilities_can_be_dropped_inside_the_sandbox(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(drop_under_filter, output), 0);
	assert_string_equal(output, "");
}

static void *look_for_capabilities(void *arg)
{
	*(bool *)arg = has_capabilities();
	return NULL;
}

static void device_thread_without_capabilities(void)
{
	struct thread t = {0};
	bool has = true;

	must(sandbox_init(SANDBOX_OFF, NULL) == 0);
	must(thread_start(&t, "vcpu0", THREAD_VCPU, look_for_capabilities, &has) == 0);
	thread_join(&t);
	must(!has);
}

static void vcpu_threads_hold_no_capabilities(void **state)
{
	char output[OUTPUT_MAX];

	assert_exit(in_child(device_thread_without_capabilities, output), 0);
}

static void mode_names_are_the_documented_ones(void **state)
{
	enum sandbox_mode mode;

	assert_int_equal(sandbox_mode_parse("true", &mode), 0);
	assert_int_equal(mode, SANDBOX_TRAP);
	assert_int_equal(sandbox_mode_parse("false", &mode), 0);
	assert_int_equal(mode, SANDBOX_OFF);
	assert_int_equal(sandbox_mode_parse("log", &mode), 0);
	assert_int_equal(mode, SANDBOX_LOG);
	assert_int_equal(sandbox_mode_parse("errno", &mode), 0);
	assert_int_equal(mode, SANDBOX_ERRNO);
	assert_int_equal(sandbox_mode_parse("", &mode), -EINVAL);
	assert_int_equal(sandbox_mode_parse("TRUE", &mode), -EINVAL);
}

/* A call that one rule allows as it is and another only with some argument would be allowed. */
static void no_rule_undoes_the_condition_of_another(void **state)
{
	for (size_t i = 0; i < sandbox_num_rules; i++) {
		assert_non_null(sandbox_rules[i].reason);
		for (size_t j = i + 1; j < sandbox_num_rules; j++) {
			if (sandbox_rules[i].nr != sandbox_rules[j].nr)
				continue;
			assert_int_not_equal(sandbox_rules[i].match, MATCH_ANY);
			assert_int_not_equal(sandbox_rules[j].match, MATCH_ANY);
		}
	}
}

static void data_path_roles_open_no_files_and_no_sockets(void **state)
{
	static const int forbidden[] = {SCMP_SYS(open),	   SCMP_SYS(openat), SCMP_SYS(socket),
					SCMP_SYS(connect), SCMP_SYS(clone),  SCMP_SYS(unlink)};

	for (size_t i = 0; i < sandbox_num_rules; i++) {
		for (size_t j = 0; j < ARRAY_SIZE(forbidden); j++) {
			if (sandbox_rules[i].nr == forbidden[j])
				assert_int_equal(sandbox_rules[i].roles & ROLES_GUEST, 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest rules[] = {
		cmocka_unit_test(mode_names_are_the_documented_ones),
		cmocka_unit_test(no_rule_undoes_the_condition_of_another),
		cmocka_unit_test(data_path_roles_open_no_files_and_no_sockets),
		cmocka_unit_test(only_what_opening_devices_needs_is_kept),
		cmocka_unit_test(capabilities_are_gone_after_dropping),
		cmocka_unit_test(vcpu_threads_hold_no_capabilities),
		cmocka_unit_test(false_installs_no_filter),
	};
	const struct CMUnitTest filters[] = {
		cmocka_unit_test(violation_says_call_and_thread_and_dies_of_sigsys),
		cmocka_unit_test(forbidden_ioctl_is_named_by_its_request),
		cmocka_unit_test(errno_mode_fails_the_call_with_eperm),
		cmocka_unit_test(even_main_starts_no_program_and_maps_no_code),
		cmocka_unit_test(threads_of_every_role_start_and_end_under_their_filter),
		cmocka_unit_test(device_thread_may_free_all_that_it_allocated),
		cmocka_unit_test(a_worker_can_start_a_device_thread),
		cmocka_unit_test(a_vcpu_that_a_worker_started_may_enter_the_guest),
		cmocka_unit_test(capabilities_can_be_dropped_inside_the_sandbox),
	};
	int failed = cmocka_run_group_tests(rules, NULL, NULL);

	if (filters_can_be_tested)
		failed += cmocka_run_group_tests(filters, NULL, NULL);
	return failed;
}
