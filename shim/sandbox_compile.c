/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox_filters.h"
#include "shim/sandbox_rules.h"

#include <errno.h>
#include <linux/kvm.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#define U32 0xffffffffull

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

static int add_rule(scmp_filter_ctx ctx, const struct sandbox_rule *rule, uint32_t pid)
{
	uint64_t mask = rule->match == MATCH_SELF ? U32 : rule->mask;
	uint64_t value = rule->match == MATCH_SELF ? pid : rule->value;
	struct scmp_arg_cmp cmp = SCMP_CMP64(rule->arg, SCMP_CMP_MASKED_EQ, mask, value);

	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rule->nr, rule->match != MATCH_ANY,
				      &cmp);
}

static int add_rules(scmp_filter_ctx ctx, enum thread_role role, uint32_t pid)
{
	int rc;

	for (size_t i = 0; i < sandbox_num_rules; i++) {
		rc = role_has(role, sandbox_rules[i].roles) ? add_rule(ctx, &sandbox_rules[i], pid)
							    : 0;
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
	return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

/* This version of the library exports to descriptors only. */
static int export_program(scmp_filter_ctx ctx, struct sandbox_program *ret_program)
{
	const size_t insn = sizeof(ret_program->insns[0]);
	int fd = memfd_create("seccomp", MFD_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = seccomp_export_bpf(ctx, fd);
	if (rc == 0) {
		off_t size = lseek(fd, 0, SEEK_END);

		if (size <= 0 || (size_t)size > sizeof(ret_program->insns) || size % insn)
			rc = -E2BIG;
		else if (pread(fd, ret_program->insns, (size_t)size, 0) != size)
			rc = -EIO;
		else
			ret_program->len = (unsigned short)((size_t)size / insn);
	}
	close(fd);
	return rc;
}

/* One of a row of comparisons in which each that holds jumps ahead. */
static bool in_row(const struct sock_filter *insn)
{
	return insn->code == (BPF_JMP | BPF_JEQ | BPF_K) && insn->jf == 0;
}

/*
 * Puts the comparison with `value` at the head of its row. libseccomp sorts a row by value, the
 * largest first, so that each entry to the guest would be compared with seventy other requests.
 */
static void compare_first(struct sandbox_program *program, uint32_t value)
{
	for (size_t i = 0; i < program->len; i++) {
		struct sock_filter *found = &program->insns[i];
		struct sock_filter *head = found;
		struct sock_filter first;
		unsigned distance;

		if (!in_row(found) || found->k != value)
			continue;
		while (head > program->insns && in_row(head - 1))
			head--;
		distance = (unsigned)(found - head);
		if (found->jt + distance > UINT8_MAX || head->jt < distance)
			continue;
		first = *head;
		*head = *found;
		head->jt = (uint8_t)(found->jt + distance);
		*found = first;
		found->jt = (uint8_t)(first.jt - distance);
	}
}

int sandbox_compile(enum thread_role role, enum sandbox_mode mode, uint32_t pid,
		    struct sandbox_program *ret_program)
{
	scmp_filter_ctx ctx = seccomp_init(default_action(mode));
	int rc;

	if (!ctx)
		return -ENOMEM;
	/* A tree of system calls instead of a list: the kernel tries every call when a filter is
	 * installed, which is at the start of each thread. */
	rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (rc == 0)
		rc = add_rules(ctx, role, pid);
	if (rc == 0)
		rc = export_program(ctx, ret_program);
	seccomp_release(ctx);
	if (rc == 0)
		compare_first(ret_program, (uint32_t)KVM_RUN);
	return rc;
}
