/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop (libuv inside). One loop belongs to one thread: the one that calls loop_run().
 * Everything here is to be called on that thread (or before it runs), but for loop_post() and
 * loop_stop(), which any thread may call.
 *
 * Handles (loop_fd, loop_timer) are heap objects of the loop. *_free() takes NULL, stops the handle
 * at once: its callback does not run again, also not in the current iteration; and the caller may
 * close the fd right after. A callback may free its own handle.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/list.h"
#include "base/util.h"

struct loop;

/* A new loop, owned by the caller. Returns 0, or -ENOMEM/-EMFILE and the like. */
int loop_new(struct loop **ret_loop);

/* Ends the loop's handles and frees it. Posted tasks that have not run are dropped. Not while it
 * runs. NULL is fine. */
void loop_free(struct loop *loop);

/* Runs callbacks until loop_stop(). */
void loop_run(struct loop *loop);

/* Makes loop_run() return after the current callback; kept when it comes before loop_run(). Any
 * thread. */
void loop_stop(struct loop *loop);

/* Monotonic clock, nanoseconds. Any thread. */
uint64_t loop_now_ns(void);

/*
 * A piece of work for another thread's loop. The owner embeds it, sets fn (and arg), and must keep
 * it alive until fn has run or loop_task_cancel() returned. Zero-initialise before the first use.
 */
struct loop_task {
	struct list node; /* loop's */
	bool queued;	  /* loop's, under its lock */
	void (*fn)(struct loop_task *task);
	void *arg;
};

/*
 * Runs task->fn once on the loop's thread, in the order of posting. Never allocates, never fails,
 * never blocks. A task that is queued already is not queued twice. Everything written before the
 * post is visible to fn. Any thread.
 */
void loop_post(struct loop *loop, struct loop_task *task);

/* Takes back a task that has not run. Loop's thread (or after it ended). */
void loop_task_cancel(struct loop *loop, struct loop_task *task);

enum loop_event { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 };

struct loop_fd;

/*
 * Watches `fd` (borrowed, one handle per fd, made O_NONBLOCK) for `events`: LOOP_READ | LOOP_WRITE
 * | LOOP_HANGUP, 0 = none for now. cb gets what is ready. An error or a hang-up makes the fd ready
 * for what is watched, and the next read(2) or write(2) tells; an error is reported as LOOP_HANGUP
 * besides. Who asks for LOOP_HANGUP also hears of a peer that has shut down its writing side, and
 * of one that is gone while nothing else is watched. Level triggered. Returns 0 or negative errno
 * (-EPERM: a file that cannot be polled).
 */
int loop_fd_new(struct loop *loop, int fd, unsigned events,
		void (*cb)(struct loop_fd *h, unsigned events, void *arg), void *arg,
		struct loop_fd **ret_handle);

/* Changes what is watched; where the system is short of what that takes, a moment later. Returns 0
 * or negative errno. */
int loop_fd_set(struct loop_fd *h, unsigned events);

void loop_fd_free(struct loop_fd *h);

struct loop_timer;

/* A timer, not armed. Returns 0 or -ENOMEM. */
int loop_timer_new(struct loop *loop, void (*cb)(struct loop_timer *t, void *arg), void *arg,
		   struct loop_timer **ret_timer);

/* Fires once `delay_ms` from now, then every `repeat_ms` unless that is 0. Re-arms if armed. */
void loop_timer_start(struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms);

void loop_timer_stop(struct loop_timer *t);

void loop_timer_free(struct loop_timer *t);

#endif
