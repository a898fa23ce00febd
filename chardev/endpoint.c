/* SPDX-License-Identifier: Apache-2.0 */
#include "chardev/endpoint.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_ANY 65536

void endpoint_init(struct endpoint *ep)
{
	*ep = (struct endpoint){.fd = -1, .epoll_fd = -1, .chunk = CHUNK_ANY, .pollable = true};
}

void endpoint_own(struct endpoint *ep, int fd)
{
	endpoint_init(ep);
	ep->fd = fd;
	ep->owned = true;
}

/* Whether fd is the master side of a pseudo-terminal: opening it by its /proc link would make a new
 * pair. */
static bool is_pty_master(int fd)
{
	unsigned number;

	return ioctl(fd, TIOCGPTN, &number) == 0;
}

/* A description of our own for what `fd` refers to, or negative errno. */
static int reopen(int fd, bool writing)
{
	char link[40];
	int own;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	own = open(link, (writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (own < 0)
		return -errno;
	if (own <= STDERR_FILENO) { /* not into the place of a closed standard stream */
		AUTO_FD int low = own;

		own = fd_dup(low);
	}
	return own;
}

int endpoint_inherit(struct endpoint *ep, int fd, bool writing)
{
	struct stat st;
	int own = -1;

	endpoint_init(ep);
	if (fstat(fd, &st) < 0)
		return 0;
	if (S_ISFIFO(st.st_mode) || (isatty(fd) && !is_pty_master(fd)))
		own = reopen(fd, writing);
	if (own >= 0) {
		endpoint_own(ep, own);
		return 0;
	}
	ep->fd = fd;
	ep->shared = true;
	ep->socket = S_ISSOCK(st.st_mode);
	/* Regular files are used as they are: a second description would have an offset of its own
	 * and overwrite what others append. */
	ep->pollable = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
	if (S_ISFIFO(st.st_mode))
		ep->chunk = PIPE_BUF; /* a pipe that polls writable takes that much */
	else if (isatty(fd))
		ep->chunk = 1; /* a terminal that polls writable promises one byte */
	return 0;
}

void endpoint_on_ready(struct endpoint *ep, struct loop *loop,
		       void (*cb)(void *arg, unsigned events), void *arg)
{
	ep->loop = loop;
	ep->cb = cb;
	ep->arg = arg;
}

static void on_fd(struct loop_fd *h, unsigned events, void *arg)
{
	struct endpoint *ep = arg;
	struct epoll_event ev;

	if (ep->epoll_fd >= 0) {
		if (epoll_wait(ep->epoll_fd, &ev, 1, 0) != 1)
			return;
		/* A failed descriptor is ready for what is watched; the transfer tells. */
		events = ep->events;
		if (!(ev.events & (EPOLLERR | EPOLLHUP)))
			events = (ev.events & EPOLLIN ? LOOP_READ : 0) |
				 (ev.events & EPOLLOUT ? LOOP_WRITE : 0);
	}
	ep->cb(ep->arg, events);
}

static int watch_shared(struct endpoint *ep, unsigned events)
{
	struct epoll_event ev = {
		.events = (events & LOOP_READ ? EPOLLIN : 0) | (events & LOOP_WRITE ? EPOLLOUT : 0),
	};
	int op = EPOLL_CTL_MOD;

	if (ep->epoll_fd < 0) {
		ep->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (ep->epoll_fd < 0)
			return -errno;
		op = EPOLL_CTL_ADD;
	}
	if (epoll_ctl(ep->epoll_fd, op, ep->fd, &ev) < 0) {
		int rc = -errno;

		if (op == EPOLL_CTL_ADD)
			fd_close(&ep->epoll_fd);
		return rc;
	}
	/* Hang-ups are reported even for no events: take the stand-in off the loop then. */
	if (ep->handle)
		return loop_fd_set(ep->handle, events ? LOOP_READ : 0);
	return loop_fd_new(ep->loop, ep->epoll_fd, events ? LOOP_READ : 0, on_fd, ep, &ep->handle);
}

int endpoint_watch(struct endpoint *ep, unsigned events)
{
	int rc = 0;

	if (ep->fd < 0)
		return 0;
	if (!ep->pollable)
		return -EPERM;
	if (events == ep->events && (ep->handle || !events))
		return 0;
	if (ep->shared)
		rc = watch_shared(ep, events);
	else if (ep->handle)
		rc = loop_fd_set(ep->handle, events);
	else
		rc = loop_fd_new(ep->loop, ep->fd, events, on_fd, ep, &ep->handle);
	if (rc == -EPERM)
		ep->pollable = false;
	if (rc >= 0)
		ep->events = events;
	return rc;
}

/* Whether a shared descriptor would not block now. */
static bool ready(const struct endpoint *ep, short events)
{
	struct pollfd pfd = {.fd = ep->fd, .events = events};

	return !ep->pollable || poll(&pfd, 1, 0) == 1;
}

ssize_t endpoint_read(struct endpoint *ep, void *data, size_t len)
{
	ssize_t n;

	if (ep->fd < 0)
		return 0;
	if (ep->shared && !ep->socket && !ready(ep, POLLIN))
		return -EAGAIN;
	do {
		n = ep->socket ? recv(ep->fd, data, len, MSG_DONTWAIT) : read(ep->fd, data, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t endpoint_write(struct endpoint *ep, const void *data, size_t len)
{
	ssize_t n;

	if (ep->fd < 0)
		return -EPIPE;
	if (ep->shared && !ep->socket && !ready(ep, POLLOUT))
		return -EAGAIN;
	len = MIN(len, ep->chunk);
	do {
		n = ep->socket ? send(ep->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
			       : write(ep->fd, data, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

void endpoint_close(struct endpoint *ep)
{
	loop_fd_free(ep->handle);
	ep->handle = NULL;
	fd_close(&ep->epoll_fd);
	if (ep->owned)
		fd_close(&ep->fd);
	ep->fd = -1;
	ep->events = 0;
}
