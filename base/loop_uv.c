/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * libuv takes three things for granted, and abort()s where they fail.
 *
 * Its table of watchers, indexed by descriptor, grows by realloc(). So the memory for the larger
 * table is put aside before a call that may need it, and libuv's realloc() falls back to it.
 *
 * A descriptor enters epoll long after uv_poll_start() has returned, in the next turn of the loop.
 * So it is entered here at once; libuv then finds that it is there (EEXIST), which it takes well,
 * and only changes what is waited for: that needs nothing that the kernel might be short of.
 *
 * The first loop of a process makes a pipe for signals. So that one pipe can be made is tried out
 * before; somebody else may still take the last descriptors of the system in between, as long as
 * the process starts.
 *
 * And uv_loop_init() forgets to close epoll's descriptor when it fails.
 */
#include "base/loop_uv.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* The descriptors of a new loop are below this, unless some thousand others are open. */
#define NEW_LOOP_FDS 4096

/* Of the thread that is calling into libuv. */
static _Thread_local void *reserve;
static _Thread_local size_t reserve_bytes;

static void *realloc_or_reserve(void *old, size_t size)
{
	void *block = realloc(old, size);

	if (block || !size || size > reserve_bytes)
		return block;
	if (old)
		memcpy(reserve, old, MIN(size, malloc_usable_size(old)));
	free(old);
	reserve_bytes = 0;
	return TAKE(reserve);
}

/* Memory for a table that has a place for `fd`: libuv's grow to powers of two, of which it keeps
 * two places for itself. */
static int put_aside(unsigned fd)
{
	size_t places = 8;

	while (places < (size_t)fd + 3)
		places *= 2;
	reserve_bytes = places * sizeof(void *);
	reserve = malloc(reserve_bytes);
	if (reserve)
		return 0;
	reserve_bytes = 0;
	return -ENOMEM;
}

static void drop_reserve(void)
{
	free(TAKE(reserve));
	reserve_bytes = 0;
}

/* Enters the descriptor, for no event yet. */
static int enter(const uv_loop_t *uv, int fd)
{
	struct epoll_event none = {.data.fd = fd};

	if (epoll_ctl(uv_backend_fd(uv), EPOLL_CTL_ADD, fd, &none) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

/* Before the first use of libuv. */
static int begin(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool begun;
	int fds[2], rc = 0;

	pthread_mutex_lock(&lock);
	if (!begun) {
		uv_replace_allocator(malloc, realloc_or_reserve, calloc, free);
		rc = pipe2(fds, O_CLOEXEC) < 0 ? -errno : 0;
		begun = rc == 0;
		if (begun) {
			close(fds[0]);
			close(fds[1]);
		}
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

int loop_uv_init(uv_loop_t *uv)
{
	int rc = begin();

	if (rc == 0)
		rc = put_aside(NEW_LOOP_FDS);
	if (rc < 0)
		return rc;
	rc = uv_loop_init(uv);
	drop_reserve();
	if (rc < 0) {
		/* It zeroes the struct first, and may not have come to the descriptor. */
		if (uv->backend_fd > STDERR_FILENO)
			close(uv->backend_fd);
		return rc;
	}
	rc = enter(uv, uv->async_io_watcher.fd);
	if (rc == 0 && uv->signal_pipefd[0] >= 0)
		rc = enter(uv, uv->signal_pipefd[0]);
	if (rc < 0)
		uv_loop_close(uv);
	return rc;
}

int loop_uv_poll_start(uv_poll_t *poll, int events, uv_poll_cb cb)
{
	uv_loop_t *uv = poll->loop;
	int fd = poll->io_watcher.fd;
	int rc = 0;

	if ((unsigned)fd >= uv->nwatchers)
		rc = put_aside((unsigned)fd);
	if (rc == 0)
		rc = uv_poll_start(poll, events, cb);
	drop_reserve();
	if (rc == 0)
		rc = enter(uv, fd);
	if (rc < 0)
		uv_poll_stop(poll);
	return rc;
}
