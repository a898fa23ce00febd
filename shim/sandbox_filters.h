/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system call filters, from the lists of sandbox_rules.c to what the kernel takes.
 *
 * Theory of operation
 *
 * libseccomp takes milliseconds and a library's worth of memory to compile them, and they are the
 * same at every start but for two things. So it is done when the program is built:
 * sandbox_generate.c writes them down as C (sandbox_filters[]), compiled for the mode `true` and
 * for a pid that no process has. sandbox_program() puts in what the mode and the process ask for.
 */
#ifndef SHIM_SANDBOX_FILTERS_H
#define SHIM_SANDBOX_FILTERS_H

#include "base/thread.h"
#include "shim/sandbox.h"

#include <linux/filter.h>

/* No filter is longer. */
#define SANDBOX_FILTER_MAX 512

/* Stands for our pid in what is generated. The kernel gives no pid above 2^22. */
#define SANDBOX_ANY_PID 0x50494400u

struct sandbox_filter {
	unsigned short len;
	const struct sock_filter *insns;
};

/* Generated, by role. */
extern const struct sandbox_filter sandbox_filters[THREAD_ROLES_];

struct sandbox_program {
	unsigned short len;
	struct sock_filter insns[SANDBOX_FILTER_MAX];
};

/* The filter of `role` in `mode`, for the process `pid`. Any thread. */
void sandbox_program(enum thread_role role, enum sandbox_mode mode, uint32_t pid,
		     struct sandbox_program *ret_program);

/*
 * The same, by libseccomp and the lists of sandbox_rules.c. Not part of the program: it is what the
 * filters are generated and tested with. Returns 0 or negative errno.
 */
int sandbox_compile(enum thread_role role, enum sandbox_mode mode, uint32_t pid,
		    struct sandbox_program *ret_program);

#endif
