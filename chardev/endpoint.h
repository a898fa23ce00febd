/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file descriptor that is read and written without ever blocking and, when it is not ours alone,
 * without touching its O_NONBLOCK flag: the flag belongs to the open file description, which an
 * inherited descriptor shares with whoever started us, and a shell whose terminal turns
 * non-blocking loses output.
 *
 * Main thread only.
 */
#ifndef CHARDEV_ENDPOINT_H
#define CHARDEV_ENDPOINT_H

#include "base/loop.h"

#include <sys/types.h>

struct endpoint {
	int fd;	       /* -1 = nothing there: reads give end of file, writes -EPIPE */
	bool owned;    /* closed by endpoint_close() */
	bool shared;   /* the description is not ours: no O_NONBLOCK, ask before each transfer */
	bool socket;   /* recv/send with MSG_DONTWAIT */
	bool pollable; /* false: a regular file and the like, always ready */
	size_t chunk;  /* most that one write may take */
	int epoll_fd;  /* stands for a shared fd on the loop, which would make fd itself
			  non-blocking */
	struct loop_fd *handle;
	struct loop *loop;
	unsigned events;
	void (*cb)(void *arg, unsigned events);
	void *arg;
};

/* Nothing there. */
void endpoint_init(struct endpoint *ep);

/* Takes over a non-blocking fd of our own. */
void endpoint_own(struct endpoint *ep, int fd);

/*
 * Uses the inherited descriptor `fd` for reading or writing: a second description of the same
 * terminal or pipe where the kernel gives one, otherwise the shared one with care. A closed fd is
 * nothing. Returns 0.
 */
int endpoint_inherit(struct endpoint *ep, int fd, bool writing);

/* Says who hears of readiness; before endpoint_watch(). */
void endpoint_on_ready(struct endpoint *ep, struct loop *loop,
		       void (*cb)(void *arg, unsigned events), void *arg);

/* Watches for LOOP_* events, 0 = none. Returns 0, -EPERM (always ready), or negative errno. */
int endpoint_watch(struct endpoint *ep, unsigned events);

/* Bytes transferred, 0 (read: end of file), -EAGAIN, or negative errno. */
ssize_t endpoint_read(struct endpoint *ep, void *data, size_t len);
ssize_t endpoint_write(struct endpoint *ep, const void *data, size_t len);

/* Ends it; an inherited descriptor stays open. */
void endpoint_close(struct endpoint *ep);

#endif
