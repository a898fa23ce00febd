/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/listen.h"

#include "base/fd.h"
#include "base/log.h"
#include "shim/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_SUFFIX ".lock"
#define BACKLOG	    128
/* Rounds of taking a lock file that its owner is removing at the same time. */
#define LOCK_TRIES 16

static int socket_option(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0)
		return -errno;
	return value;
}

static int check_listener(int fd, struct err *err)
{
	int domain = socket_option(fd, SO_DOMAIN);

	if (domain == -EBADF)
		return err_set(err, domain, "fd %d is not open in this process", fd);
	if (domain == -ENOTSOCK)
		return err_set(err, domain, "fd %d is not a socket", fd);
	if (domain < 0)
		return err_set_errno(err, domain, "fd %d cannot be examined", fd);
	if (domain != AF_UNIX)
		return err_set(err, -EOPNOTSUPP, "fd %d is a socket, but not of AF_UNIX", fd);
	if (socket_option(fd, SO_TYPE) != SOCK_STREAM)
		return err_set(err, -EOPNOTSUPP, "fd %d is not a stream socket", fd);
	if (socket_option(fd, SO_ACCEPTCONN) != 1)
		return err_set(err, -EOPNOTSUPP,
			       "fd %d is not listening: call listen() before handing it over", fd);
	return 0;
}

/* Takes over a listener that somebody else made. */
static int adopt(struct listen_socket *s, int fd, struct err *err)
{
	int rc = check_listener(fd, err);

	if (rc == 0) {
		rc = fd_set_cloexec(fd);
		if (rc == 0)
			rc = fd_set_nonblock(fd, true);
		if (rc < 0)
			err_set_errno(err, rc, "fd %d cannot be set up", fd);
	}
	if (rc < 0)
		return rc;
	s->fd = fd;
	return 0;
}

bool listen_is_activated(void)
{
	return activation_count() > 0;
}

static int open_activated(struct listen_socket *s, const char *name, struct err *err)
{
	int fd = activation_take(name, err);

	return fd < 0 ? fd : adopt(s, fd, err);
}

/* Whether the lock file that we locked is still the one at the path. */
static bool same_file(int fd, const char *path)
{
	struct stat ours, theirs;

	return fstat(fd, &ours) == 0 && lstat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
	       ours.st_ino == theirs.st_ino;
}

/*
 * Takes the lock that says "this path is served". The file may be removed by an owner that ends
 * between our open and our lock; such a lock guards nothing, so look again.
 */
static int lock_path(const char *lock, struct err *err)
{
	struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	for (int i = 0; i < LOCK_TRIES; i++) {
		AUTO_FD int fd =
			open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

		if (fd < 0)
			return err_set_errno(err, -errno, "%s cannot be opened", lock);
		if (fcntl(fd, F_OFD_SETLK, &range) < 0) {
			if (errno == EAGAIN || errno == EACCES)
				return err_set(err, -EADDRINUSE,
					       "%s is locked by another process, which serves that "
					       "path",
					       lock);
			return err_set_errno(err, -errno, "%s cannot be locked", lock);
		}
		if (same_file(fd, lock))
			return TAKE_FD(fd);
	}
	return err_set(err, -EADDRINUSE, "%s keeps changing", lock);
}

/* Removes a socket that nobody serves any more. The lock is ours. */
static int remove_stale(const struct sockaddr_un *addr, struct err *err)
{
	AUTO_FD int probe = -1;
	struct stat st;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0
				       : err_set_errno(err, -errno, "%s cannot be examined",
						       addr->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s exists and is not a socket: not removed",
			       addr->sun_path);

	/* Somebody may listen there who knows nothing of the lock. */
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (probe < 0)
		return err_set_errno(err, -errno, "no socket can be made");
	if (connect(probe, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return err_set(err, -EADDRINUSE, "%s is served by another process", addr->sun_path);
	if (unlink(addr->sun_path) < 0 && errno != ENOENT)
		return err_set_errno(err, -errno, "the stale socket %s cannot be removed",
				     addr->sun_path);
	log_debug("removed the stale socket %s", addr->sun_path);
	return 0;
}

static int bind_path(struct listen_socket *s, const struct sockaddr_un *addr, struct err *err)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return err_set_errno(err, -errno, "no socket can be made");
	/* The mode set before bind() is the one that the path gets: it is never open to others. */
	if (fchmod(fd, 0600) < 0)
		return err_set_errno(err, -errno, "the mode of the socket cannot be set");
	if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return err_set_errno(err, -errno, "%s cannot be bound", addr->sun_path);
	if (lstat(addr->sun_path, &st) < 0 || listen(fd, BACKLOG) < 0) {
		int rc = -errno;

		unlink(addr->sun_path);
		return err_set_errno(err, rc, "%s cannot be listened on", addr->sun_path);
	}
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->fd = TAKE_FD(fd);
	return 0;
}

static char *lock_name(const char *path)
{
	char *lock;

	return asprintf(&lock, "%s" LOCK_SUFFIX, path) < 0 ? NULL : lock;
}

static int make(struct listen_socket *s, const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	AUTO_FREE char *lock = NULL;
	AUTO_FREE char *copy = NULL;
	AUTO_FD int lock_fd = -1;
	int rc;

	if (!*path)
		return err_set(err, -EINVAL, "the path is empty");
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "%s is longer than the %zu bytes of a socket's path", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	copy = strdup(path);
	lock = lock_name(path);
	if (!copy || !lock)
		return err_set(err, -ENOMEM, "out of memory");

	lock_fd = lock_path(lock, err);
	if (lock_fd < 0)
		return lock_fd;
	rc = remove_stale(&addr, err);
	if (rc == 0)
		rc = bind_path(s, &addr, err);
	if (rc < 0) {
		unlink(lock);
		return rc;
	}
	s->lock_fd = TAKE_FD(lock_fd);
	s->path = TAKE(copy);
	return 0;
}

static int pick_fd(struct listen_socket *s, const char *text, struct err *err)
{
	static const char activation[] = "activation";
	const size_t len = sizeof(activation) - 1;
	int fd;

	if (strncmp(text, activation, len) == 0 && text[len] == '\0')
		return open_activated(s, NULL, err);
	if (strncmp(text, activation, len) == 0 && text[len] == ':')
		return open_activated(s, text + len + 1, err);
	fd = fd_parse_number(text, INT_MAX);
	if (fd < 0)
		return err_set(err, -EINVAL, "%s is neither a number nor activation[:NAME]", text);
	return adopt(s, fd, err);
}

int listen_open_fd(struct listen_socket *s, const char *text, struct err *err)
{
	int rc;

	*s = (struct listen_socket)LISTEN_SOCKET_INIT;
	rc = pick_fd(s, text, err);
	return rc < 0 ? err_wrap(err, rc, "The inherited API socket (fd=%s) cannot be used", text)
		      : 0;
}

int listen_open_path(struct listen_socket *s, const char *path, struct err *err)
{
	int rc;

	*s = (struct listen_socket)LISTEN_SOCKET_INIT;
	rc = make(s, path, err);
	return rc < 0 ? err_wrap(err, rc, "The API socket cannot be made") : 0;
}

/* The path and its lock go together: whoever takes a new lock must find no path of ours. */
static void remove_own_path(const struct listen_socket *s)
{
	AUTO_FREE char *lock = lock_name(s->path);
	struct stat st;

	if (lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	if (lock && same_file(s->lock_fd, lock))
		unlink(lock);
}

void listen_close(struct listen_socket *s)
{
	if (s->path)
		remove_own_path(s);
	fd_close(&s->fd);
	fd_close(&s->lock_fd);
	free(s->path);
	s->path = NULL;
}
