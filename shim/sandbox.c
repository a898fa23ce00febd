/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox.h"

#include "shim/exit_code.h"
#include "shim/sandbox_filters.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Written by sandbox_init() while there is one thread; read by every thread on entry. */
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

/* --- filters -------------------------------------------------------------------------------- */

static uint32_t default_action(enum sandbox_mode mode)
{
	switch (mode) {
	case SANDBOX_LOG: return SECCOMP_RET_LOG;
	case SANDBOX_ERRNO: return SECCOMP_RET_ERRNO | EPERM;
	default: return SECCOMP_RET_TRAP;
	}
}

void sandbox_program(enum thread_role role, enum sandbox_mode mode, uint32_t pid,
		     struct sandbox_program *ret_program)
{
	const struct sandbox_filter *filter = &sandbox_filters[role];

	ret_program->len = filter->len;
	for (size_t i = 0; i < filter->len; i++) {
		struct sock_filter *insn = &ret_program->insns[i];

		*insn = filter->insns[i];
		if (BPF_CLASS(insn->code) == BPF_RET && insn->k == SECCOMP_RET_TRAP)
			insn->k = default_action(mode);
		else if (BPF_CLASS(insn->code) == BPF_JMP && insn->k == SANDBOX_ANY_PID)
			insn->k = pid;
	}
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
	/* One arena for all threads: each of its own would hold on to memory that no other can use,
	 * and before glibc shrinks such a one for the first time it reads
	 * /proc/sys/vm/overcommit_memory, while files by name are not for threads that serve the
	 * guest. These allocate too seldom to wait for each other. */
	mallopt(M_ARENA_MAX, 1);
	if (mode != SANDBOX_OFF && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set_errno(err, -errno, "no_new_privs cannot be set");
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
	struct sandbox_program program;
	struct sock_fprog prog = {.filter = program.insns};

	if (active_mode == SANDBOX_OFF)
		return 0;
	sandbox_program(role, active_mode, (uint32_t)getpid(), &program);
	prog.len = program.len;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return -errno;
	return 0;
}

void sandbox_fini(void)
{
	thread_set_enter_hook(NULL);
	active_mode = SANDBOX_OFF;
}
