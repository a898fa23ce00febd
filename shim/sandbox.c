/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox.h"

#include "base/fd.h"
#include "shim/exit_code.h"
#include "shim/sandbox_rules.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define U32 0xffffffffull

/* Written by sandbox_init() while there is one thread; read by every thread on entry. */
static struct sock_fprog programs[THREAD_ROLES_];
static enum sandbox_mode active_mode = SANDBOX_OFF;

static const char *const mode_names[] = {
	[SANDBOX_TRAP] = "true",
	[SANDBOX_OFF] = "false",
	[SANDBOX_LOG] = "log",
	[SANDBOX_ERRNO] = "errno",
};

int sandbox_mode_parse(const char *text, enum sandbox_mode *ret_mode)
{
	for (size_t i = 0; i < ARRAY_SIZE(mode_names); i++) {
		if (strcmp(text, mode_names[i]) == 0) {
			*ret_mode = (enum sandbox_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* --- compiling ------------------------------------------------------------------------------ */

static uint32_t default_action(enum sandbox_mode mode)
{
	switch (mode) {
	case SANDBOX_LOG: return SCMP_ACT_LOG;
	case SANDBOX_ERRNO: return SCMP_ACT_ERRNO(EPERM);
	default: return SCMP_ACT_TRAP;
	}
}

/* A thread inherits the filters of the one that starts it: main starts all roles, and a worker
 * those of the machine that it builds. */
static bool role_has(enum thread_role role, unsigned roles)
{
	if (role == THREAD_MAIN)
		return true;
	return roles & (role == THREAD_WORKER ? ROLES_ALL : ROLE(role));
}

static int add_rule(scmp_filter_ctx ctx, const struct sandbox_rule *rule)
{
	uint64_t mask = rule->match == MATCH_SELF ? U32 : rule->mask;
	uint64_t value = rule->match == MATCH_SELF ? (uint64_t)getpid() : rule->value;
	struct scmp_arg_cmp cmp = SCMP_CMP64(rule->arg, SCMP_CMP_MASKED_EQ, mask, value);

	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rule->nr, rule->match != MATCH_ANY,
				      &cmp);
}

static int add_rules(scmp_filter_ctx ctx, enum thread_role role)
{
	int rc;

	for (size_t i = 0; i < sandbox_num_rules; i++) {
		rc = role_has(role, sandbox_rules[i].roles) ? add_rule(ctx, &sandbox_rules[i]) : 0;
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < sandbox_num_ioctls; i++) {
		struct scmp_arg_cmp cmp =
			SCMP_CMP64(1, SCMP_CMP_MASKED_EQ, U32, (uint64_t)sandbox_ioctls[i].request);

		if (!role_has(role, sandbox_ioctls[i].roles))
			continue;
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, &cmp);
		if (rc < 0)
			return rc;
	}
	/* Its flags are behind a pointer, where no filter can see them: say that there is no such
	 * call, and the C library falls back to clone(2). */
	rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Two calls a filter step early: KVM_RUN and the ring are the hot ones. */
	seccomp_syscall_priority(ctx, SCMP_SYS(ioctl), 255);
	seccomp_syscall_priority(ctx, SCMP_SYS(io_uring_enter), 254);
	return rc;
}

/* This version of the library exports to descriptors only. */
static int export_program(scmp_filter_ctx ctx, struct sock_fprog *ret_prog)
{
	AUTO_FD int fd = memfd_create("seccomp", MFD_CLOEXEC);
	AUTO_FREE struct sock_filter *filter = NULL;
	struct stat st;
	int rc;

	if (fd < 0)
		return -errno;
	rc = seccomp_export_bpf(ctx, fd);
	if (rc < 0)
		return rc;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || (size_t)st.st_size > BPF_MAXINSNS * sizeof(*filter))
		return -E2BIG;
	filter = malloc((size_t)st.st_size);
	if (!filter)
		return -ENOMEM;
	rc = fd_pread_all(fd, filter, (size_t)st.st_size, 0);
	if (rc < 0)
		return rc;
	ret_prog->len = (unsigned short)((size_t)st.st_size / sizeof(*filter));
	ret_prog->filter = TAKE(filter);
	return 0;
}

static int compile(enum sandbox_mode mode, enum thread_role role, struct sock_fprog *ret_prog)
{
	scmp_filter_ctx ctx = seccomp_init(default_action(mode));
	int rc;

	if (!ctx)
		return -ENOMEM;
	rc = add_rules(ctx, role);
	if (rc == 0)
		rc = export_program(ctx, ret_prog);
	seccomp_release(ctx);
	return rc;
}

/* --- dying ---------------------------------------------------------------------------------- */

static char *put_text(char *p, char *end, const char *text)
{
	while (*text && p < end)
		*p++ = *text++;
	return p;
}

static char *put_number(char *p, char *end, uint64_t v, unsigned base)
{
	char digits[24];
	size_t n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n && p < end)
		*p++ = digits[--n];
	return p;
}

/*
 * Says what the thread did and dies of the same signal, for whoever waits for the process and for
 * the core dump. Only async-signal-safe calls, and only such as every role's filter allows.
 */
static void on_violation(int sig, siginfo_t *info, void *opaque)
{
	const ucontext_t *uc = opaque;
	char name[17] = "?";
	char line[192];
	char *p = line;
	char *end = line + sizeof(line) - 1;

	p = put_text(p, end, "coracle: ERRO: the sandbox forbids system call ");
	p = put_number(p, end, (uint64_t)info->si_syscall, 10);
	if (info->si_syscall == SYS_ioctl) {
		p = put_text(p, end, " (ioctl, request 0x");
		p = put_number(p, end, (uint32_t)uc->uc_mcontext.gregs[REG_RSI], 16);
		p = put_text(p, end, ")");
	}
	p = put_text(p, end, ", arch 0x");
	p = put_number(p, end, info->si_arch, 16);
	p = put_text(p, end, ", on thread ");
	prctl(PR_GET_NAME, name);
	p = put_text(p, end, name);
	*p++ = '\n';
	if (write(STDERR_FILENO, line, (size_t)(p - line)) < 0) {
		/* nowhere to say it */
	}
	/* SA_RESETHAND has put the default back: this one ends the process. */
	syscall(SYS_tgkill, getpid(), gettid(), sig);
	_exit(EXIT_CODE_ERROR);
}

static int catch_violations(void)
{
	struct sigaction sa = {
		.sa_sigaction = on_violation,
		.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER,
	};

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGSYS, &sa, NULL) < 0 ? -errno : 0;
}

/* --- installing ----------------------------------------------------------------------------- */

static int enter_thread(enum thread_role role)
{
	if (role != THREAD_MAIN && role != THREAD_WORKER) {
		int rc = sandbox_drop_capabilities();

		if (rc < 0)
			return rc;
	}
	return sandbox_enter(role);
}

int sandbox_init(enum sandbox_mode mode, struct err *err)
{
	int rc;

	active_mode = mode;
	if (mode != SANDBOX_OFF) {
		/* Before it shrinks a thread's arena for the first time, glibc reads
		 * /proc/sys/vm/overcommit_memory: files by name are not for threads that serve the
		 * guest. What large blocks took goes back by munmap() all the same. */
		mallopt(M_TRIM_THRESHOLD, INT_MAX);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return err_set_errno(err, -errno, "no_new_privs cannot be set");
		for (size_t role = 0; role < THREAD_ROLES_; role++) {
			rc = compile(mode, (enum thread_role)role, &programs[role]);
			if (rc < 0)
				return err_set_errno(
					err, rc,
					"The system call filter of role %zu cannot be built", role);
		}
	}
	if (mode == SANDBOX_TRAP) {
		rc = catch_violations();
		if (rc < 0)
			return err_set_errno(err, rc, "SIGSYS cannot be caught");
	}
	thread_set_enter_hook(enter_thread);
	return 0;
}

int sandbox_enter(enum thread_role role)
{
	if (active_mode == SANDBOX_OFF)
		return 0;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &programs[role]) < 0)
		return -errno;
	return 0;
}

void sandbox_fini(void)
{
	thread_set_enter_hook(NULL);
	for (size_t role = 0; role < THREAD_ROLES_; role++) {
		free(programs[role].filter);
		programs[role] = (struct sock_fprog){0};
	}
	active_mode = SANDBOX_OFF;
}
