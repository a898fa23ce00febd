/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A UNIX stream socket with one client, the latest to connect.
 *
 * Theory of operation
 *
 * Output goes into a history of at most HISTORY_MAX bytes, addressed by a running count: byte n of
 * all output is at n modulo the capacity. The client has a position in it and is sent what lies
 * between that and the end. A new client starts at the oldest byte, which is the replay; one that
 * reads too slowly finds its position overtaken and loses the oldest bytes. The capacity doubles as
 * output comes, so a silent guest costs nothing.
 */
#include "base/fd.h"
#include "base/log.h"
#include "chardev/chardev_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HISTORY_MIN 4096
#define HISTORY_MAX ((size_t)1 << 20)

struct socket_end {
	int listen_fd;
	struct loop_fd *listener;
	bool bound;	      /* the path is ours */
	struct endpoint peer; /* fd -1 = no client */
	bool want_input;
	bool half_closed; /* the client's input is read to its end */
	bool ended;	  /* the client has hung up; there may be input left */
	bool deaf;	  /* the client takes no more output */

	uint8_t *history;
	size_t capacity; /* power of two */
	uint64_t end;	 /* bytes put in so far */
	uint64_t pos;	 /* next byte for the client */
};

static uint64_t oldest(const struct socket_end *s)
{
	return s->end > s->capacity ? s->end - s->capacity : 0;
}

static int reserve(struct socket_end *s, size_t len)
{
	uint64_t used = s->end - oldest(s);
	size_t capacity = MAX(s->capacity, (size_t)HISTORY_MIN);
	uint8_t *grown;

	while (capacity < HISTORY_MAX && capacity - used < len)
		capacity *= 2;
	if (capacity == s->capacity)
		return 0;
	grown = malloc(capacity);
	if (!grown)
		return s->capacity ? 0 : -ENOMEM;
	for (uint64_t i = oldest(s); i < s->end; i++)
		grown[i & (capacity - 1)] = s->history[i & (s->capacity - 1)];
	free(s->history);
	s->history = grown;
	s->capacity = capacity;
	return 0;
}

static void remember(struct socket_end *s, const uint8_t *data, size_t len)
{
	while (len) {
		size_t at = s->end & (s->capacity - 1);
		size_t n = MIN(len, s->capacity - at);

		memcpy(&s->history[at], data, n);
		data += n;
		len -= n;
		s->end += n;
	}
}

static void watch(struct chardev *dev)
{
	struct socket_end *s = dev->socket;
	unsigned events = 0;

	if (s->pos < s->end && !s->deaf)
		events |= LOOP_WRITE;
	if (s->want_input && !s->half_closed)
		events |= LOOP_READ;
	if (!s->ended && !s->half_closed)
		events |= LOOP_HANGUP;
	endpoint_watch(&s->peer, events);
}

static void disconnect(struct chardev *dev)
{
	endpoint_close(&dev->socket->peer);
}

/* A client that takes nothing is kept only for the input that it left behind. */
static void forget_if_useless(struct chardev *dev)
{
	struct socket_end *s = dev->socket;

	if (s->deaf && (s->half_closed || !dev->input))
		disconnect(dev);
	else
		watch(dev);
}

/* Sends what the client has not had yet. */
static void send_history(struct chardev *dev)
{
	struct socket_end *s = dev->socket;

	if (s->peer.fd < 0 || s->deaf)
		return;
	if (s->pos < oldest(s)) {
		dev->dropped += oldest(s) - s->pos;
		s->pos = oldest(s);
	}
	while (s->pos < s->end) {
		size_t at = s->pos & (s->capacity - 1);
		size_t n = (size_t)MIN(s->end - s->pos, (uint64_t)(s->capacity - at));
		ssize_t sent = endpoint_write(&s->peer, &s->history[at], n);

		if (sent == -EAGAIN)
			break;
		if (sent < 0) {
			s->deaf = true;
			forget_if_useless(dev);
			return;
		}
		s->pos += (uint64_t)sent;
	}
	watch(dev);
}

/* The client has hung up. Gone for good, or only done with sending? The latter still gets output.
 */
static void on_hangup(struct chardev *dev)
{
	struct socket_end *s = dev->socket;
	struct pollfd pfd = {.fd = s->peer.fd};

	s->ended = true;
	if (poll(&pfd, 1, 0) > 0 && pfd.revents & (POLLHUP | POLLERR))
		s->deaf = true;
	forget_if_useless(dev);
}

static void on_peer_ready(void *arg, unsigned events)
{
	struct chardev *dev = arg;
	struct socket_end *s = dev->socket;

	if (events & LOOP_READ)
		chardev_readable(dev);
	if (events & LOOP_WRITE && s->peer.fd >= 0)
		send_history(dev);
	if (events & LOOP_HANGUP && s->peer.fd >= 0)
		on_hangup(dev);
}

static void on_listener(struct loop_fd *h, unsigned events, void *arg)
{
	struct chardev *dev = arg;
	struct socket_end *s = dev->socket;
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	endpoint_close(&s->peer); /* the newcomer takes over */
	endpoint_own(&s->peer, fd);
	s->peer.socket = true;
	endpoint_on_ready(&s->peer, dev->loop, on_peer_ready, dev);
	s->half_closed = s->ended = s->deaf = false;
	s->want_input = false;
	s->pos = oldest(s);
	send_history(dev);
	chardev_readable(dev);
}

/* Binds and listens. A socket that is in the way is what an earlier process left behind. */
static int listen_at(struct socket_end *s, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;

	size_t len = strlen(path);

	if (len >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, len + 1);
	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0)
		return -errno;
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return -EEXIST;
		if (unlink(path) < 0)
			return -errno;
	}
	/* A socket's file takes its mode from here. */
	if (fchmod(s->listen_fd, 0600) < 0 ||
	    bind(s->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	s->bound = true;
	return listen(s->listen_fd, 4) < 0 ? -errno : 0;
}

static int socket_open(struct chardev *dev, const char *path, struct err *err)
{
	struct socket_end *s;
	int rc;

	if (!path)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "A console in mode Socket needs a path");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set_errno(err, -ENOMEM, "Cannot create a console socket");
	s->listen_fd = -1;
	endpoint_init(&s->peer);
	dev->socket = s;
	rc = listen_at(s, path);
	if (rc >= 0)
		rc = loop_fd_new(dev->loop, s->listen_fd, LOOP_READ, on_listener, dev,
				 &s->listener);
	if (rc < 0)
		return err_set_errno(err, rc, "Cannot listen at the console socket %s", path);
	return 0;
}

static void socket_close(struct chardev *dev)
{
	struct socket_end *s = dev->socket;

	if (!s)
		return;
	dev->socket = NULL;
	endpoint_close(&s->peer);
	loop_fd_free(s->listener);
	fd_close(&s->listen_fd);
	if (s->bound)
		unlink(dev->path);
	free(s->history);
	free(s);
}

static ssize_t socket_write(struct chardev *dev, const uint8_t *data, size_t len)
{
	struct socket_end *s = dev->socket;
	int rc = reserve(s, len);

	if (rc < 0)
		return rc;
	remember(s, data, len);
	send_history(dev);
	return (ssize_t)len;
}

static void socket_want_input(struct chardev *dev, bool on)
{
	struct socket_end *s = dev->socket;

	s->want_input = on;
	if (s->peer.fd >= 0)
		watch(dev);
}

static ssize_t socket_read(struct chardev *dev, uint8_t *data, size_t len)
{
	struct socket_end *s = dev->socket;
	ssize_t n;

	if (s->peer.fd < 0 || s->half_closed)
		return -EAGAIN;
	n = endpoint_read(&s->peer, data, len);
	if (n == 0) {
		s->half_closed = true;
		on_hangup(dev);
	} else if (n < 0 && n != -EAGAIN)
		disconnect(dev);
	/* Another client may come: this is never the end. */
	return n <= 0 ? -EAGAIN : n;
}

const struct chardev_ops chardev_socket_ops = {
	.open = socket_open,
	.close = socket_close,
	.write = socket_write,
	.want_input = socket_want_input,
	.read = socket_read,
};
