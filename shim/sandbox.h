/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process may do: a system call filter per thread role, and capabilities that are given
 * up as soon as the devices are open.
 *
 * Theory of operation
 *
 * One BPF program per role is compiled when coracle is built (sandbox_filters.h). sandbox_init()
 * sets no_new_privs and makes itself the enter hook of base/thread.h, so that each thread that is
 * started afterwards installs the program of its role before it runs its own code. A filter cannot
 * be taken off again and is inherited by the threads that its owner starts. Main's and the workers'
 * therefore allow what any role needs, plus installing a filter; those of the guest's threads are
 * narrower and stack on top. Main installs its own last (sandbox_enter(THREAD_MAIN)), when
 * everything that start-up alone needs is done.
 *
 * Capabilities are per thread in Linux. Main and workers keep the few that setting up devices may
 * take until sandbox_drop_capabilities(); threads of the data path and vCPUs give them up on entry.
 */
#ifndef SHIM_SANDBOX_H
#define SHIM_SANDBOX_H

#include "base/err.h"
#include "base/thread.h"

/* What happens on a system call that the role's list does not have. */
enum sandbox_mode {
	SANDBOX_TRAP,  /* `true`: say which call on which thread, then die of SIGSYS */
	SANDBOX_OFF,   /* `false`: no filters */
	SANDBOX_LOG,   /* `log`: allowed, and a line in the kernel's audit log */
	SANDBOX_ERRNO, /* `errno`: the call fails with EPERM */
};

/* Reads true, false, log or errno. Returns 0 or -EINVAL. */
int sandbox_mode_parse(const char *text, enum sandbox_mode *ret_mode);

/*
 * Registers the thread enter hook; call once, on the main thread, before any other thread exists.
 * With SANDBOX_OFF no filters are installed, yet the hook still drops capabilities. Returns 0 or
 * negative errno with err.
 */
int sandbox_init(enum sandbox_mode mode, struct err *err);

/* Installs the filter of `role` on the calling thread. Returns 0 or negative errno. */
int sandbox_enter(enum thread_role role);

/* Takes the hook away; installed filters stay. After all other threads have ended. */
void sandbox_fini(void);

/*
 * Keeps, of the capabilities that the process was started with, only those that opening devices may
 * need. Main thread, before others exist. A process without capabilities stays as it is. Returns 0
 * or negative errno with err.
 */
int sandbox_limit_capabilities(struct err *err);

/* Gives up all capabilities of the calling thread for good. Called again it does nothing. Returns 0
 * or negative errno. */
int sandbox_drop_capabilities(void);

#endif
