/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: ownership, flags, whole reads and writes. All functions are callable from any
 * thread. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include "base/util.h"

#include <sys/types.h>
#include <sys/uio.h>

/* Closes *fd unless negative and sets it to -1. */
void fd_close(int *fd);

/* Closes the descriptor when it goes out of scope; start it at -1, hand it on with TAKE_FD(). */
#define AUTO_FD CLEANUP(fd_close)

/* The value of `fd`, leaving -1 behind. */
#define TAKE_FD(fd)                  \
	({                           \
		int take_fd_ = (fd); \
		(fd) = -1;           \
		take_fd_;            \
	})

/* Sets or clears O_NONBLOCK. Returns 0 or negative errno. */
int fd_set_nonblock(int fd, bool on);

/* Sets FD_CLOEXEC. Returns 0 or negative errno. */
int fd_set_cloexec(int fd);

/* A number as in fd=N or $LISTEN_FDS: digits alone. Returns it, or -EINVAL for anything else and
 * for what is above `max`. */
int fd_parse_number(const char *text, int max);

/* Duplicates with CLOEXEC, to a number >= 3. Returns the new fd, owned by the caller, or negative
 * errno. */
int fd_dup(int fd);

/* Writes all of buf, restarting after EINTR and waiting out EAGAIN by poll. Returns 0 or negative
 * errno. May block. */
int fd_write_all(int fd, const void *buf, size_t len);

/* Reads exactly len bytes at `offset`. -ENODATA when the file ends before. Returns 0 or negative
 * errno. May block. */
int fd_pread_all(int fd, void *buf, size_t len, off_t offset);

/* A non-blocking CLOEXEC eventfd, or negative errno. */
int eventfd_new(void);

/* Adds 1; never blocks and never fails (a saturated counter is signalled already). */
void eventfd_signal(int fd);

/* Resets to 0. Returns the count read, 0 when it was not signalled. */
uint64_t eventfd_drain(int fd);

#endif
