/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket on which the API is served: inherited from whoever started the process, or made at a
 * path.
 *
 * An inherited listener belongs to its giver: it is checked and used, and never shut down or
 * unlinked. A path of our own is guarded by an OFD write lock on `<path>.lock` for the life of the
 * process, so that a socket left behind by a killed process can be told from one in use.
 */
#ifndef SHIM_LISTEN_H
#define SHIM_LISTEN_H

#include "base/err.h"

struct listen_socket {
	int fd;	      /* listening AF_UNIX stream socket, CLOEXEC, non-blocking */
	int lock_fd;  /* of the lock file; -1 for an inherited socket */
	char *path;   /* where we bound it; NULL for an inherited socket */
	uint64_t dev; /* which file we bound, so that another one is never removed */
	uint64_t ino;
};

#define LISTEN_SOCKET_INIT              \
	{                               \
		.fd = -1, .lock_fd = -1 \
	}

/* Whether systemd (or something that speaks its protocol) passed sockets to this process. */
bool listen_is_activated(void);

/*
 * Takes over the listener that `text` names: the number of an open fd, `activation` (the one socket
 * that the service manager passed) or `activation:NAME` (the one of that FileDescriptorName=). Main
 * thread, before others exist: activation reads the environment, and removes its variables. Returns
 * 0; or negative errno with err, *s then holds nothing: -EINVAL (none of these), -ENOENT (no such
 * socket was passed), -EBADF, -ENOTSOCK, -EOPNOTSUPP (not a listening AF_UNIX stream socket).
 */
int listen_open_fd(struct listen_socket *s, const char *text, struct err *err);

/*
 * Makes a listener at `path`, at most 107 bytes, with mode 0600; a stale socket there is removed,
 * and the process must be allowed to create `<path>.lock` beside it. Main thread. Returns 0; or
 * negative errno with err, *s then holds nothing: -EADDRINUSE (another process serves the path),
 * -EEXIST (there is something that is not a socket), -ENAMETOOLONG, or what the file system says.
 */
int listen_open_path(struct listen_socket *s, const char *path, struct err *err);

/* Closes it; removes a path that we made (and its lock) if it still is ours. */
void listen_close(struct listen_socket *s);

#endif
