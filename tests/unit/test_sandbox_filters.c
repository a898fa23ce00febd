/* SPDX-License-Identifier: Apache-2.0 */
/* The filters themselves: what is built in is what the lists say, call by call. */
#include "shim/sandbox_filters.h"

#include "shim/sandbox_rules.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#define PID	    4711
#define CALLS	    1024
#define X32_BIT	    0x40000000
#define FREE_CHOICE 0xdeadbeef12345678ull

/* --- what a filter decides, as the kernel runs it ------------------------------------------- */

static bool holds(const struct sock_filter *insn, uint32_t a)
{
	switch (BPF_OP(insn->code)) {
	case BPF_JEQ: return a == insn->k;
	case BPF_JGT: return a > insn->k;
	case BPF_JGE: return a >= insn->k;
	case BPF_JSET: return a & insn->k;
	default: fail_msg("jump 0x%x", insn->code); return false;
	}
}

/* The value that the filter returns; *ret_steps: after how many instructions. */
static uint32_t run(const struct sandbox_program *program, const struct seccomp_data *data,
		    unsigned *ret_steps)
{
	uint32_t a = 0;

	*ret_steps = 0;
	for (size_t pc = 0; pc < program->len; pc++) {
		const struct sock_filter *insn = &program->insns[pc];

		++*ret_steps;
		if (insn->code == (BPF_RET | BPF_K))
			return insn->k;
		if (insn->code == (BPF_LD | BPF_W | BPF_ABS)) {
			assert_true(insn->k <= sizeof(*data) - sizeof(a));
			memcpy(&a, (const uint8_t *)data + insn->k, sizeof(a));
		} else if (insn->code == (BPF_ALU | BPF_AND | BPF_K)) {
			a &= insn->k;
		} else if (insn->code == (BPF_JMP | BPF_JA)) {
			pc += insn->k;
		} else {
			assert_int_equal(BPF_CLASS(insn->code), BPF_JMP);
			pc += holds(insn, a) ? insn->jt : insn->jf;
		}
	}
	fail_msg("the filter has no end");
	return 0;
}

/* --- what the lists say --------------------------------------------------------------------- */

static bool role_has(enum thread_role role, unsigned roles)
{
	if (role == THREAD_MAIN)
		return true;
	return roles & (role == THREAD_WORKER ? ROLES_ALL : ROLE(role));
}

static bool rule_matches(const struct sandbox_rule *rule, const struct seccomp_data *data)
{
	switch (rule->match) {
	case MATCH_ARG: return (data->args[rule->arg] & rule->mask) == rule->value;
	case MATCH_SELF: return (uint32_t)data->args[rule->arg] == PID;
	default: return true;
	}
}

static bool is_listed(enum thread_role role, const struct seccomp_data *data)
{
	for (size_t i = 0; i < sandbox_num_rules; i++) {
		if (sandbox_rules[i].nr == data->nr && role_has(role, sandbox_rules[i].roles) &&
		    rule_matches(&sandbox_rules[i], data))
			return true;
	}
	for (size_t i = 0; i < sandbox_num_ioctls && data->nr == SYS_ioctl; i++) {
		if ((uint32_t)data->args[1] == sandbox_ioctls[i].request &&
		    role_has(role, sandbox_ioctls[i].roles))
			return true;
	}
	return false;
}

static uint32_t expected(enum thread_role role, const struct seccomp_data *data)
{
	if (data->nr == SYS_clone3)
		return SECCOMP_RET_ERRNO | ENOSYS;
	return is_listed(role, data) ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP;
}

/* --- both compared -------------------------------------------------------------------------- */

static struct seccomp_data call(int nr)
{
	return (struct seccomp_data){.nr = nr, .arch = AUDIT_ARCH_X86_64};
}

/* All roles. */
static void assert_as_listed(const struct seccomp_data *data)
{
	for (int role = 0; role < THREAD_ROLES_; role++) {
		struct sandbox_program program;
		unsigned steps;

		sandbox_program(role, SANDBOX_TRAP, PID, &program);
		assert_int_equal(run(&program, data, &steps), expected(role, data));
	}
}

static void every_call_is_allowed_to_the_roles_that_the_list_names(void **state)
{
	static const uint64_t values[] = {0, 1, PID, FREE_CHOICE, UINT64_MAX};

	for (int nr = 0; nr < CALLS; nr++) {
		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			struct seccomp_data data = call(nr);

			for (size_t arg = 0; arg < ARRAY_SIZE(data.args); arg++)
				data.args[arg] = values[i];
			assert_as_listed(&data);
		}
	}
}

static void conditions_hold_to_the_bit(void **state)
{
	for (size_t i = 0; i < sandbox_num_rules; i++) {
		const struct sandbox_rule *rule = &sandbox_rules[i];
		struct seccomp_data data = call(rule->nr);
		uint64_t fits = rule->match == MATCH_SELF ? PID : rule->value;
		uint64_t mask = rule->match == MATCH_SELF ? 0xffffffff : rule->mask;

		if (rule->match == MATCH_ANY)
			continue;
		/* What the mask leaves out is free. */
		fits |= FREE_CHOICE & ~mask;
		data.args[rule->arg] = fits;
		assert_as_listed(&data);
		for (unsigned bit = 0; bit < 64; bit++) {
			data.args[rule->arg] = fits ^ 1ull << bit;
			assert_as_listed(&data);
		}
	}
}

static void ioctls_are_compared_as_the_32_bits_that_the_kernel_sees(void **state)
{
	for (size_t i = 0; i < sandbox_num_ioctls; i++) {
		struct seccomp_data data = call(SYS_ioctl);

		data.args[1] = sandbox_ioctls[i].request;
		assert_as_listed(&data);
		for (unsigned bit = 0; bit < 64; bit++) {
			data.args[1] = sandbox_ioctls[i].request ^ 1ull << bit;
			assert_as_listed(&data);
		}
	}
}

static void calls_of_other_architectures_are_allowed_to_nobody(void **state)
{
	for (int role = 0; role < THREAD_ROLES_; role++) {
		struct sandbox_program program;

		sandbox_program(role, SANDBOX_LOG, PID, &program);
		for (int nr = 0; nr < CALLS; nr++) {
			struct seccomp_data data = call(nr);
			unsigned steps;

			data.arch = AUDIT_ARCH_I386;
			assert_int_not_equal(run(&program, &data, &steps), SECCOMP_RET_ALLOW);
			data.arch = AUDIT_ARCH_X86_64;
			data.nr |= X32_BIT;
			assert_int_not_equal(run(&program, &data, &steps), SECCOMP_RET_ALLOW);
		}
	}
}

/* The threads that start a vCPU's have their filters over it as well. */
static void entering_the_guest_is_found_in_a_few_steps(void **state)
{
	static const enum thread_role roles[] = {THREAD_MAIN, THREAD_WORKER, THREAD_VCPU};
	struct seccomp_data data = call(SYS_ioctl);

	data.args[1] = KVM_RUN;
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		struct sandbox_program program;
		unsigned steps;

		sandbox_program(roles[i], SANDBOX_TRAP, PID, &program);
		assert_int_equal(run(&program, &data, &steps), SECCOMP_RET_ALLOW);
		assert_in_range(steps, 1, 24);
	}
}

/* What libseccomp makes of the lists here and now. */
static void built_in_filters_are_those_of_the_lists_in_every_mode(void **state)
{
	static const enum sandbox_mode modes[] = {SANDBOX_TRAP, SANDBOX_LOG, SANDBOX_ERRNO};
	static const uint32_t pids[] = {1, 4711, 1U << 22};

	for (int role = 0; role < THREAD_ROLES_; role++) {
		for (size_t i = 0; i < ARRAY_SIZE(modes) * ARRAY_SIZE(pids); i++) {
			enum sandbox_mode mode = modes[i % ARRAY_SIZE(modes)];
			uint32_t pid = pids[i / ARRAY_SIZE(modes)];
			struct sandbox_program built_in, compiled;

			assert_int_equal(sandbox_compile(role, mode, pid, &compiled), 0);
			sandbox_program(role, mode, pid, &built_in);
			assert_true(compiled.len > 0);
			assert_int_equal(built_in.len, compiled.len);
			assert_memory_equal(built_in.insns, compiled.insns,
					    compiled.len * sizeof(compiled.insns[0]));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_is_allowed_to_the_roles_that_the_list_names),
		cmocka_unit_test(conditions_hold_to_the_bit),
		cmocka_unit_test(ioctls_are_compared_as_the_32_bits_that_the_kernel_sees),
		cmocka_unit_test(calls_of_other_architectures_are_allowed_to_nobody),
		cmocka_unit_test(entering_the_guest_is_found_in_a_few_steps),
		cmocka_unit_test(built_in_filters_are_those_of_the_lists_in_every_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
