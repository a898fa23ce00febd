/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host ends of consoles: nothing, the terminal, a pseudo-terminal, a file, a UNIX socket. Knows
 * bytes and file descriptors, nothing of guests.
 *
 * Theory of operation
 *
 * A character device belongs to the main loop. Its front-end (a UART, a virtio-console) hands it
 * output from any thread with chardev_write(), which never blocks: bytes go to a bounded ring that
 * the main thread empties; when nobody reads at the other end the ring fills and further bytes are
 * dropped and counted. Input is handed to the front-end on the main thread, only as much as it says
 * it has room for, so a guest that does not read stops the host's reader and loses nothing. It
 * outlives the machine: a reboot keeps the same pseudo-terminal, socket client and file.
 */
#ifndef CHARDEV_CHARDEV_H
#define CHARDEV_CHARDEV_H

#include "base/err.h"

struct loop;
struct chardev;

enum chardev_mode {
	CHARDEV_OFF,
	CHARDEV_NULL,
	CHARDEV_TTY,
	CHARDEV_PTY,
	CHARDEV_FILE,
	CHARDEV_SOCKET
};

struct chardev_params {
	enum chardev_mode mode; /* not CHARDEV_OFF: that means no device at all */
	const char *path;	/* file or socket; copied */
	bool input;		/* whether the front-end takes input */
};

/* The front-end's side. All on the main thread. */
struct chardev_client {
	size_t (*can_receive)(void *arg);			     /* bytes it has room for now */
	void (*receive)(void *arg, const uint8_t *data, size_t len); /* len <= can_receive() */
	void (*resized)(void *arg, unsigned columns, unsigned rows); /* may be NULL */
};

/*
 * Opens the host end. Tty: stdin in raw mode when it is a terminal (put back at chardev_free() and
 * by chardev_restore_terminal()), output to stdout; stdin need not be a terminal. Pty: allocated,
 * slave path in chardev_path(). File: created or truncated. Socket: listens at path (an old socket
 * file there is replaced, removed at free), one client at a time, the last 1 MiB of output replayed
 * to a new one. Main thread. Returns 0 or negative errno.
 */
int chardev_new(struct loop *loop, const struct chardev_params *params, struct chardev **ret_dev,
		struct err *err);
void chardev_free(struct chardev *dev); /* flushes what goes without blocking; NULL is fine */

/* The pty's slave path, or the file's or socket's; NULL for others. Valid while dev lives. */
const char *chardev_path(const struct chardev *dev);

/* Connects the front-end (client NULL disconnects). Main thread. */
void chardev_attach(struct chardev *dev, const struct chardev_client *client, void *arg);

/* Output. Any thread; never blocks; what does not fit is dropped. */
void chardev_write(struct chardev *dev, const void *data, size_t len);

/* Bytes of output dropped so far. Any thread. */
uint64_t chardev_dropped(const struct chardev *dev);

/* The front-end has room again. Any thread. */
void chardev_kick(struct chardev *dev);

/* The terminal changed its size: reads the size and tells the client (Tty, Pty). Main thread. */
void chardev_update_size(struct chardev *dev);

/* Writes out what is still in the ring as far as the other end takes it. Main thread. */
void chardev_flush(struct chardev *dev);

/* Puts the terminal back as it was before the first Tty. Async-signal-safe. */
void chardev_restore_terminal(void);

#endif
