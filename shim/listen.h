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

/* Environment variables of the socket activation protocol are read once and removed. */
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
 * Opens what `spec` says: `fd=N`, `fd=activation`, `fd=activation:NAME`, `path=P` or a bare path.
 * For a path the process must be allowed to create `<path>.lock` beside it; the socket gets mode
 * 0600. Main thread, before others exist (it reads the environment). Returns 0; or negative errno
 * with err, *s then holds nothing: -EINVAL (not such a specification), -ENOTSOCK and -EOPNOTSUPP
 * (the fd is not a listening AF_UNIX stream socket), -EADDRINUSE (path is in use), -EEXIST (path
 * holds something that is not a socket).
 */
int listen_open(struct listen_socket *s, const char *spec, struct err *err);

/* Closes it; removes a path that we made (and its lock) if it still is ours. */
void listen_close(struct listen_socket *s);

#endif
