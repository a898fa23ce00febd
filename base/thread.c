/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_ 16 /* terminator included: TASK_COMM_LEN */

/* Instrumented frames are several times as large. */
#ifdef SANITIZED
#define STACK_BYTES (2 * MIB)
#else
#define STACK_BYTES (128 * KIB)
#endif

static int (*enter_hook)(enum thread_role role);

/* Lives on the starter's stack: the new thread must not touch it after it has posted `ready`. */
struct start {
	char name[NAME_MAX_];
	enum thread_role role;
	void *(*fn)(void *arg);
	void *arg;
	int result;
	sem_t ready;
};

void thread_set_enter_hook(int (*enter)(enum thread_role role))
{
	enter_hook = enter;
}

static void *enter_thread(void *opaque)
{
	struct start *start = opaque;
	void *(*fn)(void *arg) = start->fn;
	void *arg = start->arg;
	int result = 0;

	/* Before the hook: afterwards the role's filter may not allow it. */
	pthread_setname_np(pthread_self(), start->name);
	log_set_thread_name(start->name);
	if (enter_hook)
		result = enter_hook(start->role);
	start->result = result;
	sem_post(&start->ready);
	return result < 0 ? NULL : fn(arg);
}

/* All but those that the thread's own instructions raise: the kernel kills a process that blocks
 * these instead of calling its handler. */
static void signals_to_block(sigset_t *set)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

	sigfillset(set);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(set, faults[i]);
}

/* pthread_create() with a small stack and signals blocked from the first instruction on. */
static int create(pthread_t *ret_id, struct start *start)
{
	size_t stack = MAX((size_t)STACK_BYTES, (size_t)PTHREAD_STACK_MIN);
	pthread_attr_t attr;
	sigset_t block;
	int rc;

	rc = -pthread_attr_init(&attr);
	if (rc < 0)
		return rc;
	signals_to_block(&block);
	rc = -pthread_attr_setstacksize(&attr, stack);
	if (rc == 0)
		rc = -pthread_attr_setsigmask_np(&attr, &block);
	if (rc == 0)
		rc = -pthread_create(ret_id, &attr, enter_thread, start);
	pthread_attr_destroy(&attr);
	return rc;
}

int thread_start(struct thread *t, const char *name, enum thread_role role, void *(*fn)(void *arg),
		 void *arg)
{
	struct start start = {.role = role, .fn = fn, .arg = arg};
	int rc;

	snprintf(start.name, sizeof(start.name), "%s", name);
	if (sem_init(&start.ready, 0, 0) < 0)
		return -errno;
	t->started = false;
	rc = create(&t->id, &start);
	if (rc == 0) {
		while (sem_wait(&start.ready) < 0 && errno == EINTR)
			;
		rc = MIN(start.result, 0);
		if (rc < 0)
			pthread_join(t->id, NULL);
		else
			t->started = true;
	}
	sem_destroy(&start.ready);
	return rc;
}

void thread_join(struct thread *t)
{
	if (!t->started)
		return;
	pthread_join(t->id, NULL);
	t->started = false;
}
