/* SPDX-License-Identifier: Apache-2.0 */
/* What the modes of a character device share. Everything here is the main thread's, but for the
 * output ring, which has its lock. */
#ifndef CHARDEV_CHARDEV_INTERNAL_H
#define CHARDEV_CHARDEV_INTERNAL_H

#include "base/loop.h"
#include "chardev/chardev.h"
#include "chardev/endpoint.h"

#include <pthread.h>
#include <stdatomic.h>

struct chardev;

struct chardev_ops {
	int (*open)(struct chardev *dev, const char *path, struct err *err);
	void (*close)(struct chardev *dev); /* also after a failed open */
	/* Takes up to len bytes of output. Returns how many, -EAGAIN (chardev_writable() follows),
	 * or another negative errno: nobody will ever take them. */
	ssize_t (*write)(struct chardev *dev, const uint8_t *data, size_t len);
	/* Asks to be called through chardev_readable() when there is input (on), or no longer. */
	void (*want_input)(struct chardev *dev, bool on);
	/* Reads up to len bytes. 0 = there will never be more; -EAGAIN = none now. */
	ssize_t (*read)(struct chardev *dev, uint8_t *data, size_t len);
	int (*size)(struct chardev *dev, unsigned *columns, unsigned *rows); /* NULL: has none */
};

struct chardev {
	struct loop *loop;
	const struct chardev_ops *ops;
	char *path;
	bool input;
	const struct chardev_client *client;
	void *client_arg;
	struct loop_task kick_task;
	struct loop_task flush_task;
	struct loop_timer *flush_timer;

	pthread_mutex_t lock; /* the ring */
	uint8_t *ring;
	size_t head, count;
	bool scheduled; /* somebody will empty the ring: a posted task, the timer, writability */
	atomic_uint_fast64_t dropped;

	/* tty, pty, file */
	struct endpoint in, out; /* pty: only out, for both directions */
	int slave_fd;
	bool holds_terminal;
	struct socket_end *socket;
};

extern const struct chardev_ops chardev_tty_ops;
extern const struct chardev_ops chardev_pty_ops;
extern const struct chardev_ops chardev_file_ops;
extern const struct chardev_ops chardev_socket_ops;

/* The mode can write again. */
void chardev_writable(struct chardev *dev);

/* There may be input. */
void chardev_readable(struct chardev *dev);

#endif
