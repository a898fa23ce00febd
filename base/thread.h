/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads: every one has a name (part of the interface: orchestrators parse `vcpuN`, `_diskN`), a
 * role (which system calls it may make), a small stack and all signals blocked but those it asks
 * for and those that its own instructions raise (SIGSEGV, SIGBUS, SIGSYS, ...).
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include "base/util.h"

#include <pthread.h>

enum thread_role {
	THREAD_MAIN,   /* the API, the events, the machine's state */
	THREAD_VCPU,   /* KVM_RUN and what a guest exit needs */
	THREAD_DISK,   /* data path of a block device */
	THREAD_NET,    /* data path of a network device */
	THREAD_VIRTIO, /* data path of the other virtio devices */
	THREAD_WORKER, /* a job: boot, shutdown */
	THREAD_ROLES_,
};

/*
 * Called once before the first thread: `enter` runs at the start of every new thread with its role,
 * before its own function; a negative return is reported by thread_start(). The process uses it to
 * install the role's seccomp filter. NULL = nothing.
 */
void thread_set_enter_hook(int (*enter)(enum thread_role role));

struct thread {
	pthread_t id;
	bool started;
};

/*
 * Starts fn(arg) on a new thread. `name`: copied, cut after 15 bytes. Returns 0, -ENOMEM, -EAGAIN,
 * or what the enter hook said (the thread is gone then and fn has not run). The caller owes a
 * thread_join().
 */
int thread_start(struct thread *t, const char *name, enum thread_role role, void *(*fn)(void *arg),
		 void *arg);

/* Waits for the thread's end. Does nothing for one that was not started (zeroed struct) or is
 * joined. */
void thread_join(struct thread *t);

#endif
