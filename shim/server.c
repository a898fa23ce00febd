/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/server.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define ACCEPT_BATCH	64  /* per turn of the loop, so that other work gets its share */
#define ACCEPT_PAUSE_MS 100 /* while there are no open files left */

/* A listener that was shut down stays readable, but accept() says that nobody is there. */
#define LISTENER_EVENTS (LOOP_READ | LOOP_HANGUP)

/* Of requests being read and answers not read yet: eight of the largest of each. */
#define MAX_POOL_BYTES (16 * (size_t)HTTP_MAX_BODY)

struct server {
	struct loop *loop;
	int listener_fd;
	struct loop_fd *listener; /* NULL: closed */
	struct loop_timer *pause;
	struct loop_timer *drain;
	int spare_fd; /* the place of one more client when there are no others */
	struct conn_pool pool;
	unsigned num_conns;
	unsigned max_conns;
	struct conn_ops ops;
	void (*request)(void *arg, struct conn *conn, const struct http_request *request,
			struct conn_fds *fds);
	void *arg;
	bool draining;
	void (*drained)(void *arg);
	void *drained_arg;
};

/* How many files may be open; what has no bound has a high one. */
static size_t open_files_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	return (size_t)MIN(limit.rlim_cur, (rlim_t)1 << 20);
}

static void on_request(void *arg, struct conn *conn, const struct http_request *request,
		       struct conn_fds *fds)
{
	struct server *s = arg;

	s->request(s->arg, conn, request, fds);
}

static void on_closed(void *arg)
{
	struct server *s = arg;

	s->num_conns--;
	/* By the timer, since the owner may free the server when it hears of it. */
	if (s->draining && !s->num_conns)
		loop_timer_start(s->drain, 0, 0);
}

/* --- accepting -------------------------------------------------------------------------------- */

static void turn_away(int fd)
{
	static const char text[] = "HTTP/1.1 503 \r\n"
				   "Server: Cloud Hypervisor API\r\n"
				   "Connection: close\r\n"
				   "Content-Type: application/json\r\n"
				   "Content-Length: 40\r\n"
				   "\r\n"
				   "{ \"error\": \"Too many open connections\" }";

	static_assert(sizeof("{ \"error\": \"Too many open connections\" }") - 1 == 40, "length");
	/* A new socket has room for it. */
	if (send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("A client left before it could be sent away");
	log_warn_limited("Too many open API connections, one was sent away");
}

static int accept_fd(const struct server *s)
{
	int fd = accept4(s->listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* No file can be opened any more: who waits is told so on the place that was kept for that. Returns
 * whether somebody was there. */
static bool turn_away_by_spare(struct server *s)
{
	AUTO_FD int fd = -1;
	bool came;

	if (s->spare_fd < 0)
		return false;
	fd_close(&s->spare_fd);
	fd = accept_fd(s);
	came = fd >= 0;
	if (came)
		turn_away(fd);
	fd_close(&fd);
	s->spare_fd = eventfd_new();
	return came;
}

/* After an error of accept(). Returns whether another client may be waiting. */
static bool cannot_accept(struct server *s, int error)
{
	if (error == EAGAIN)
		return false;
	if (error == EINTR || error == ECONNABORTED)
		return true;
	log_warn_limited("Cannot accept an API connection: %s", strerror(error));
	if ((error == EMFILE || error == ENFILE) && turn_away_by_spare(s))
		return true;
	/* The listener stays readable, or this is reported although nobody is there. */
	loop_fd_set(s->listener, 0);
	loop_timer_start(s->pause, ACCEPT_PAUSE_MS, 0);
	return false;
}

/* Returns whether another one may be waiting. */
static bool accept_one(struct server *s)
{
	AUTO_FD int fd = accept_fd(s);
	int rc;

	if (fd < 0)
		return cannot_accept(s, -fd);
	if (s->num_conns >= s->max_conns) {
		turn_away(fd);
		return true;
	}
	rc = conn_new(s->loop, TAKE_FD(fd), &s->ops, s, &s->pool);
	if (rc < 0)
		log_warn_limited("Cannot serve an API connection: %s", strerror(-rc));
	else
		s->num_conns++;
	return true;
}

static void on_listener(struct loop_fd *handle, unsigned events, void *arg)
{
	struct server *s = arg;

	unsigned left = ACCEPT_BATCH;

	/* Whoever else has this socket may have set it to wait, and may be faster to accept. */
	if (fd_set_nonblock(s->listener_fd, true) < 0)
		return;
	while (left && accept_one(s))
		left--;
	if (left && (events & LOOP_HANGUP)) {
		log_error("The API socket was shut down by its owner: no more connections");
		server_close_listener(s);
	}
}

static void on_pause_over(struct loop_timer *timer, void *arg)
{
	struct server *s = arg;

	if (s->spare_fd < 0)
		s->spare_fd = eventfd_new();
	if (s->listener)
		loop_fd_set(s->listener, LISTENER_EVENTS);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_drained(struct loop_timer *timer, void *arg)
{
	struct server *s = arg;
	void (*drained)(void *arg) = TAKE(s->drained);

	if (drained)
		drained(s->drained_arg);
}

int server_new(struct loop *loop, int listener_fd,
	       void (*request)(void *arg, struct conn *conn, const struct http_request *request,
			       struct conn_fds *fds),
	       void *arg, struct server **ret_server, struct err *err)
{
	struct server *s = calloc(1, sizeof(*s));
	size_t files = open_files_limit();
	int rc = -ENOMEM;

	if (!s)
		return err_set_errno(err, rc, "Cannot serve the API");
	s->loop = loop;
	s->listener_fd = listener_fd;
	s->max_conns = (unsigned)MIN(files / 2, (size_t)SERVER_MAX_CONNS);
	conn_pool_init(&s->pool, MAX_POOL_BYTES, MAX(files / 4, (size_t)CONN_MAX_FDS));
	s->ops = (struct conn_ops){.request = on_request, .closed = on_closed};
	s->request = request;
	s->arg = arg;
	s->spare_fd = eventfd_new();
	rc = s->spare_fd;
	if (rc >= 0)
		rc = fd_set_nonblock(listener_fd, true);
	if (rc >= 0)
		rc = loop_timer_new(loop, on_pause_over, s, &s->pause);
	if (rc >= 0)
		rc = loop_timer_new(loop, on_drained, s, &s->drain);
	if (rc >= 0)
		rc = loop_fd_new(loop, listener_fd, LISTENER_EVENTS, on_listener, s, &s->listener);
	if (rc < 0) {
		server_free(s);
		return err_set_errno(err, rc, "Cannot serve the API on fd %d", listener_fd);
	}
	*ret_server = s;
	return 0;
}

void server_close_listener(struct server *s)
{
	loop_fd_free(TAKE(s->listener));
	loop_timer_stop(s->pause);
}

void server_drain(struct server *s, uint64_t timeout_ms, void (*done)(void *arg), void *arg)
{
	server_close_listener(s);
	s->draining = true;
	s->drained = done;
	s->drained_arg = arg;
	loop_timer_start(s->drain, timeout_ms, 0);
	conn_drain_all(&s->pool);
	if (!s->num_conns)
		loop_timer_start(s->drain, 0, 0);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	loop_fd_free(TAKE(s->listener));
	s->draining = false;
	conn_close_all(&s->pool);
	loop_timer_free(s->pause);
	loop_timer_free(s->drain);
	fd_close(&s->spare_fd);
	free(s);
}
