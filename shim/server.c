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

struct server {
	struct loop *loop;
	int listener_fd;
	struct loop_fd *listener; /* NULL: closed */
	struct loop_timer *pause;
	struct loop_timer *drain;
	struct list conns;
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

static unsigned connection_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return SERVER_MAX_CONNS;
	return (unsigned)MIN(limit.rlim_cur / 2, (rlim_t)SERVER_MAX_CONNS);
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

/* Returns whether another one may be waiting. */
static bool accept_one(struct server *s)
{
	AUTO_FD int fd = accept4(s->listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int rc;

	if (fd < 0) {
		if (errno == EAGAIN)
			return false;
		if (errno == EINTR || errno == ECONNABORTED)
			return true;
		log_warn_limited("Cannot accept an API connection: %s", strerror(errno));
		loop_fd_set(s->listener, 0);
		loop_timer_start(s->pause, ACCEPT_PAUSE_MS, 0);
		return false;
	}
	if (s->num_conns >= s->max_conns) {
		turn_away(fd);
		return true;
	}
	rc = conn_new(s->loop, TAKE_FD(fd), &s->ops, s, &s->conns);
	if (rc < 0)
		log_warn_limited("Cannot serve an API connection: %s", strerror(-rc));
	else
		s->num_conns++;
	return true;
}

static void on_listener(struct loop_fd *handle, unsigned events, void *arg)
{
	struct server *s = arg;

	for (unsigned n = 0; n < ACCEPT_BATCH && accept_one(s); n++)
		;
}

static void on_pause_over(struct loop_timer *timer, void *arg)
{
	struct server *s = arg;

	if (s->listener)
		loop_fd_set(s->listener, LOOP_READ);
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
	int rc = -ENOMEM;

	if (!s)
		return err_set_errno(err, rc, "Cannot serve the API");
	s->loop = loop;
	s->listener_fd = listener_fd;
	s->max_conns = connection_limit();
	s->ops = (struct conn_ops){.request = on_request, .closed = on_closed};
	s->request = request;
	s->arg = arg;
	list_init(&s->conns);
	rc = fd_set_nonblock(listener_fd, true);
	if (rc >= 0)
		rc = loop_timer_new(loop, on_pause_over, s, &s->pause);
	if (rc >= 0)
		rc = loop_timer_new(loop, on_drained, s, &s->drain);
	if (rc >= 0)
		rc = loop_fd_new(loop, listener_fd, LOOP_READ, on_listener, s, &s->listener);
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
	conn_drain_all(&s->conns);
	if (!s->num_conns)
		loop_timer_start(s->drain, 0, 0);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	loop_fd_free(TAKE(s->listener));
	s->draining = false;
	conn_close_all(&s->conns);
	loop_timer_free(s->pause);
	loop_timer_free(s->drain);
	free(s);
}
