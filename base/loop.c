/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * libuv frees nothing at once: a handle's memory must stay until its close callback, which runs in
 * a later turn of the loop. That is hidden here. Our handles are heap objects that embed libuv's;
 * *_free() stops the handle, which takes it out of the current batch of events and the fd out of
 * epoll, and starts the close; the close callback, or loop_free(), frees the memory.
 *
 * Other threads reach the loop through one list of tasks and one eventfd. `lock` guards the list,
 * its length and every task's node and queued. The lock is held for a few instructions and never
 * while a task runs. One turn runs as many tasks as were queued when it began, so that tasks that
 * post themselves again leave room for I/O. Whoever makes the list non-empty signals the eventfd,
 * and so does a turn that leaves tasks behind. It is not a uv_async_t, because libuv's loop spins
 * until the sender has left uv_async_send(): on a busy CPU that is a time slice of the scheduler.
 *
 * loop_stop() sets a flag; every trampoline looks at it first, so that no callback runs between
 * loop_stop() and the return of loop_run(). What was skipped is reported in the next loop_run():
 * fds are level triggered, tasks stay queued, and a timer is armed again.
 *
 * An fd that was watched for nothing has left epoll, and what it takes to enter again may be short.
 * Its owner could only try again later: so the loop does that, by `retry`, for those in `waiting`.
 */
#include "base/loop.h"

#include "base/fd.h"
#include "base/loop_uv.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MS 10

struct loop {
	uv_loop_t uv;
	uv_poll_t wake; /* watches wake_fd */
	int wake_fd;
	uv_timer_t retry;
	struct list waiting; /* struct loop_fd */
	atomic_bool stop;
	pthread_mutex_t lock;
	struct list tasks; /* under lock */
	size_t num_tasks;  /* under lock */
};

struct loop_fd {
	uv_poll_t uv; /* first: the close callback frees the handle's address */
	struct loop *loop;
	struct list node; /* in loop->waiting, or by itself */
	unsigned events;
	void (*cb)(struct loop_fd *h, unsigned events, void *arg);
	void *arg;
};

struct loop_timer {
	uv_timer_t uv; /* first */
	struct loop *loop;
	void (*cb)(struct loop_timer *t, void *arg);
	void *arg;
};

static_assert(offsetof(struct loop_fd, uv) == 0, "freed by the address of uv");
static_assert(offsetof(struct loop_timer, uv) == 0, "freed by the address of uv");

static bool stopping(struct loop *loop)
{
	return atomic_load(&loop->stop);
}

/* --- tasks ---------------------------------------------------------------------------------- */

static void unlink_task(struct loop *loop, struct loop_task *task)
{
	list_del(&task->node);
	task->queued = false;
	loop->num_tasks--;
}

static struct loop_task *next_task(struct loop *loop)
{
	struct loop_task *task = NULL;

	pthread_mutex_lock(&loop->lock);
	if (!list_empty(&loop->tasks)) {
		task = container_of(loop->tasks.next, struct loop_task, node);
		unlink_task(loop, task);
	}
	pthread_mutex_unlock(&loop->lock);
	return task;
}

static size_t count_tasks(struct loop *loop)
{
	size_t n;

	pthread_mutex_lock(&loop->lock);
	n = loop->num_tasks;
	pthread_mutex_unlock(&loop->lock);
	return n;
}

static void on_wake(uv_poll_t *wake, int status, int ready)
{
	struct loop *loop = container_of(wake, struct loop, wake);
	struct loop_task *task;

	eventfd_drain(loop->wake_fd);
	for (size_t left = count_tasks(loop); left && !stopping(loop); left--) {
		task = next_task(loop);
		if (!task)
			break;
		task->fn(task);
	}
	if (count_tasks(loop))
		eventfd_signal(loop->wake_fd);
}

void loop_post(struct loop *loop, struct loop_task *task)
{
	bool first = false;

	pthread_mutex_lock(&loop->lock);
	if (!task->queued) {
		list_add_tail(&loop->tasks, &task->node);
		task->queued = true;
		first = loop->num_tasks++ == 0;
	}
	pthread_mutex_unlock(&loop->lock);
	if (first)
		eventfd_signal(loop->wake_fd);
}

void loop_task_cancel(struct loop *loop, struct loop_task *task)
{
	pthread_mutex_lock(&loop->lock);
	if (task->queued)
		unlink_task(loop, task);
	pthread_mutex_unlock(&loop->lock);
}

/* --- the loop ------------------------------------------------------------------------------- */

static void free_closed(uv_handle_t *handle)
{
	free(handle);
}

static void close_left_over(uv_handle_t *handle, void *arg)
{
	struct loop *loop = arg;

	if (uv_is_closing(handle))
		return;
	if (handle == (uv_handle_t *)&loop->wake || handle == (uv_handle_t *)&loop->retry)
		uv_close(handle, NULL);
	else
		uv_close(handle, free_closed);
}

static int watch_wake(struct loop *loop)
{
	int rc = uv_poll_init(&loop->uv, &loop->wake, loop->wake_fd);

	return rc < 0 ? rc : loop_uv_poll_start(&loop->wake, UV_READABLE, on_wake);
}

/* Ends libuv's part, whatever handles are left. */
static void close_uv(struct loop *loop)
{
	uv_walk(&loop->uv, close_left_over, loop);
	/* Only close callbacks are left to run; with no live handle the run ends. */
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	uv_loop_close(&loop->uv);
}

int loop_new(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int rc;

	if (!loop)
		return -ENOMEM;
	list_init(&loop->tasks);
	list_init(&loop->waiting);
	rc = -pthread_mutex_init(&loop->lock, NULL);
	if (rc < 0)
		goto free_loop;
	rc = loop->wake_fd = eventfd_new();
	if (rc < 0)
		goto destroy_lock;
	rc = loop_uv_init(&loop->uv);
	if (rc < 0)
		goto close_wake;
	uv_timer_init(&loop->uv, &loop->retry);
	rc = watch_wake(loop);
	if (rc < 0)
		goto close_loop;
	*ret_loop = loop;
	return 0;

close_loop:
	close_uv(loop);
close_wake:
	close(loop->wake_fd);
destroy_lock:
	pthread_mutex_destroy(&loop->lock);
free_loop:
	free(loop);
	return rc;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	while (next_task(loop))
		;
	close_uv(loop);
	close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

void loop_run(struct loop *loop)
{
	while (!stopping(loop))
		uv_run(&loop->uv, UV_RUN_ONCE);
	atomic_store(&loop->stop, false);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	eventfd_signal(loop->wake_fd);
}

uint64_t loop_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- file descriptors ----------------------------------------------------------------------- */

static void on_poll(uv_poll_t *uv, int status, int ready);

static int start_poll(struct loop_fd *h)
{
	int wanted = 0;

	if (h->events & LOOP_READ)
		wanted |= UV_READABLE;
	if (h->events & LOOP_WRITE)
		wanted |= UV_WRITABLE;
	if (h->events & LOOP_HANGUP)
		wanted |= UV_DISCONNECT;
	/* An fd without events must leave epoll, which reports hang-ups whether asked or not. */
	return wanted ? loop_uv_poll_start(&h->uv, wanted, on_poll) : uv_poll_stop(&h->uv);
}

static int watch(struct loop_fd *h);

static void on_retry(uv_timer_t *retry)
{
	struct loop *loop = container_of(retry, struct loop, retry);
	struct list due, *node;

	list_init(&due);
	while ((node = list_pop(&loop->waiting)))
		list_add_tail(&due, node);
	while ((node = list_pop(&due)))
		watch(container_of(node, struct loop_fd, node));
}

/* As h->events says, later if it cannot be now. */
static int watch(struct loop_fd *h)
{
	int rc = start_poll(h);

	list_del(&h->node);
	if (rc != -ENOMEM && rc != -ENOSPC)
		return rc;
	list_add_tail(&h->loop->waiting, &h->node);
	uv_timer_start(&h->loop->retry, on_retry, RETRY_MS, 0);
	return 0;
}

static void on_poll(uv_poll_t *uv, int status, int ready)
{
	struct loop_fd *h = container_of(uv, struct loop_fd, uv);
	unsigned events = 0;

	if (status < 0) {
		/* libuv has stopped the handle; level triggered means that it goes on until the
		 * owner has dealt with it. */
		watch(h);
		events = (h->events & (LOOP_READ | LOOP_WRITE)) | LOOP_HANGUP;
	} else {
		if (ready & UV_READABLE)
			events |= LOOP_READ;
		if (ready & UV_WRITABLE)
			events |= LOOP_WRITE;
		if (ready & UV_DISCONNECT)
			events |= LOOP_HANGUP;
	}
	if (events && !stopping(h->loop))
		h->cb(h, events, h->arg);
}

int loop_fd_new(struct loop *loop, int fd, unsigned events,
		void (*cb)(struct loop_fd *h, unsigned events, void *arg), void *arg,
		struct loop_fd **ret_handle)
{
	struct loop_fd *h;
	int rc;

	if (fd < 0)
		return -EBADF;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->loop = loop;
	h->events = events;
	h->cb = cb;
	h->arg = arg;
	list_init(&h->node);
	rc = uv_poll_init(&loop->uv, &h->uv, fd);
	if (rc < 0) {
		free(h);
		return rc;
	}
	rc = start_poll(h);
	if (rc < 0) {
		loop_fd_free(h);
		return rc;
	}
	*ret_handle = h;
	return 0;
}

int loop_fd_set(struct loop_fd *h, unsigned events)
{
	if (events == h->events)
		return 0;
	h->events = events;
	return watch(h);
}

void loop_fd_free(struct loop_fd *h)
{
	if (!h)
		return;
	list_del(&h->node);
	uv_close((uv_handle_t *)&h->uv, free_closed);
}

/* --- timers --------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *uv)
{
	struct loop_timer *t = container_of(uv, struct loop_timer, uv);

	if (!stopping(t->loop))
		t->cb(t, t->arg);
	else if (!uv_is_active((uv_handle_t *)uv))
		uv_timer_start(uv, on_timer, 1, 0);
}

int loop_timer_new(struct loop *loop, void (*cb)(struct loop_timer *t, void *arg), void *arg,
		   struct loop_timer **ret_timer)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->loop = loop;
	t->cb = cb;
	t->arg = arg;
	uv_timer_init(&loop->uv, &t->uv);
	*ret_timer = t;
	return 0;
}

void loop_timer_start(struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms)
{
	/* libuv counts from the time at which the current turn began. */
	uv_update_time(&t->loop->uv);
	uv_timer_start(&t->uv, on_timer, delay_ms, repeat_ms);
}

void loop_timer_stop(struct loop_timer *t)
{
	uv_timer_stop(&t->uv);
}

void loop_timer_free(struct loop_timer *t)
{
	if (t)
		uv_close((uv_handle_t *)&t->uv, free_closed);
}
