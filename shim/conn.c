/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/conn.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define READ_SIZE 16384

enum conn_state { CONN_READING, CONN_BUSY, CONN_STREAMING };

struct conn {
	struct list node;
	enum conn_state state;
	const struct conn_ops *ops;
	void *arg;
	int fd;
	struct loop_fd *handle;
	struct http_parser *parser;
	struct buf in; /* read, not parsed yet: in.data[in_pos..in.len) */
	size_t in_pos;
	struct buf out; /* not sent yet: out.data[out_pos..out.len) */
	size_t out_pos;
	struct conn_fds fds;
	const struct conn_stream_ops *stream_ops;
	void *stream_arg;
	bool eof;	/* the client sends nothing more */
	bool closing;	/* to be closed when what is due was sent */
	bool dead;	/* to be freed at the end of advance() */
	bool advancing; /* advance() is on the stack */
};

/* --- file descriptors of requests ------------------------------------------------------------- */

static void release_fds(struct conn_fds *fds, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		fd_close(&fds->fds[i]);
}

/* After a request: closes what was not taken, but for what may belong to the next one. */
static void finish_fds(struct conn_fds *fds, bool more_input)
{
	size_t kept = 0;

	release_fds(fds, 0, more_input ? fds->fresh : fds->count);
	for (size_t i = 0; i < fds->count; i++) {
		if (fds->fds[i] >= 0)
			fds->fds[kept++] = fds->fds[i];
	}
	fds->count = kept;
	fds->fresh = 0;
	fds->lost = fds->lost && more_input;
}

static void add_fds(struct conn_fds *fds, const struct cmsghdr *cmsg)
{
	size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd), sizeof(fd));
		if (fds->count < CONN_MAX_FDS) {
			fds->fds[fds->count++] = fd;
		} else {
			fd_close(&fd);
			fds->lost = true;
		}
	}
}

/* --- input and output ------------------------------------------------------------------------- */

static ssize_t receive(struct conn *c, void *data, size_t len)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(CONN_MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = data, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	c->fds.fresh = c->fds.count;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
			add_fds(&c->fds, cmsg);
	}
	/* Cut: this process is at its limit of open files. */
	if (msg.msg_flags & MSG_CTRUNC)
		c->fds.lost = true;
	return n;
}

static void read_some(struct conn *c)
{
	char data[READ_SIZE];
	ssize_t n = receive(c, data, sizeof(data));

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n < 0) {
		c->dead = true;
		return;
	}
	c->eof = n == 0;
	if (c->state == CONN_STREAMING) {
		finish_fds(&c->fds, false);
		c->dead = c->eof;
		return;
	}
	buf_put(&c->in, data, (size_t)n);
	c->dead = !buf_ok(&c->in);
}

/* Sends what is due. Returns whether all of it has left. */
static bool flush(struct conn *c)
{
	if (!buf_ok(&c->out))
		c->dead = true;
	while (!c->dead && c->out_pos < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out_pos, c->out.len - c->out_pos,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0)
			c->out_pos += (size_t)n;
		else if (errno == EAGAIN)
			return false;
		else if (errno != EINTR)
			c->dead = true;
	}
	buf_fini(&c->out);
	c->out_pos = 0;
	return !c->dead;
}

/* --- requests --------------------------------------------------------------------------------- */

static void dispatch(struct conn *c)
{
	const struct http_request *request = http_parser_request(c->parser);

	c->state = CONN_BUSY;
	if (!request->keep_alive)
		c->closing = true;
	c->ops->request(c->arg, c, request, &c->fds);
	finish_fds(&c->fds, c->in_pos < c->in.len);
	http_parser_next(c->parser);
}

/* The parser's own refusals carry one sentence, without anything to escape. */
static void refuse(struct conn *c, const struct err *err)
{
	AUTO_BUF struct buf body = {0};
	struct http_response response = {.status = 400, .close = true};

	if (err->kind != ERR_BAD_REQUEST)
		response.status = 500;
	buf_printf(&body, "[\"The request cannot be read\",\"%s\"]", err_message(err, 0));
	buf_u8(&body, '\0');
	response.body = buf_ok(&body) ? (const char *)body.data : NULL;
	http_put_response(&c->out, &response);
	c->closing = true;
}

/* Looks at what was read. Returns whether there is something to go on with. */
static bool parse(struct conn *c)
{
	struct err err = ERR_INIT;
	size_t used = 0;
	int rc = 0;

	if (c->closing) {
		c->dead = true;
		return false;
	}
	if (c->in_pos < c->in.len)
		rc = http_parser_feed(c->parser, c->in.data + c->in_pos, c->in.len - c->in_pos,
				      &used, &err);
	c->in_pos += used;
	if (c->in_pos == c->in.len) {
		buf_fini(&c->in);
		c->in_pos = 0;
	}
	if (rc < 0)
		refuse(c, &err);
	else if (rc > 0)
		dispatch(c);
	else if (c->eof)
		c->dead = true;
	else if (http_parser_take_continue(c->parser))
		http_put_continue(&c->out);
	else
		return false;
	return !c->dead;
}

/* Returns whether the stream had something. */
static bool fill(struct conn *c)
{
	c->stream_ops->fill(c->stream_arg, &c->out);
	if (c->out.len || !buf_ok(&c->out))
		return true;
	if (c->closing)
		c->dead = true;
	return false;
}

/* --- life ------------------------------------------------------------------------------------- */

/* Lets go of everything but the memory. */
static void disconnect(struct conn *c)
{
	const struct conn_ops *ops = TAKE(c->ops);

	if (!ops)
		return;
	list_del(&c->node);
	loop_fd_free(TAKE(c->handle));
	fd_close(&c->fd);
	release_fds(&c->fds, 0, c->fds.count);
	http_parser_free(TAKE(c->parser));
	buf_fini(&c->in);
	buf_fini(&c->out);
	if (c->state == CONN_STREAMING)
		c->stream_ops->closed(c->stream_arg);
	ops->closed(c->arg);
}

static void end(struct conn *c)
{
	disconnect(c);
	if (c->state != CONN_BUSY)
		free(c);
}

static unsigned events_of(const struct conn *c)
{
	unsigned events = c->out_pos < c->out.len ? LOOP_WRITE : 0;

	if (c->state == CONN_STREAMING || (c->state == CONN_READING && !events))
		events |= LOOP_READ;
	return events;
}

static void advance(struct conn *c)
{
	if (c->advancing)
		return;
	c->advancing = true;
	while (flush(c)) {
		if (c->state == CONN_STREAMING ? !fill(c) : c->state == CONN_BUSY || !parse(c))
			break;
	}
	c->advancing = false;
	if (!c->dead && loop_fd_set(c->handle, events_of(c)) < 0)
		c->dead = true;
	if (c->dead)
		end(c);
}

static void on_ready(struct loop_fd *handle, unsigned events, void *arg)
{
	struct conn *c = arg;

	if ((events & LOOP_READ) && !c->eof && c->state != CONN_BUSY)
		read_some(c);
	advance(c);
}

int conn_new(struct loop *loop, int fd, const struct conn_ops *ops, void *arg, struct list *list)
{
	AUTO_FD int owned = fd;
	AUTO_FREE struct conn *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->parser = http_parser_new();
	if (!c->parser)
		return -ENOMEM;
	rc = loop_fd_new(loop, fd, LOOP_READ, on_ready, c, &c->handle);
	if (rc < 0) {
		http_parser_free(c->parser);
		return rc;
	}
	c->fd = TAKE_FD(owned);
	c->ops = ops;
	c->arg = arg;
	list_add_tail(list, &c->node);
	TAKE(c);
	return 0;
}

void conn_reply(struct conn *c, int status, const char *body)
{
	struct http_response response = {.status = status, .body = body, .close = c->closing};

	c->state = CONN_READING;
	if (!c->ops) {
		free(c);
		return;
	}
	http_put_response(&c->out, &response);
	advance(c);
}

void conn_stream(struct conn *c, const char *content_type, const struct conn_stream_ops *ops,
		 void *arg)
{
	if (!c->ops) {
		free(c);
		ops->closed(arg);
		return;
	}
	c->state = CONN_STREAMING;
	c->stream_ops = ops;
	c->stream_arg = arg;
	/* An earlier "Connection: close" of the client is about the end of the stream, not now. */
	c->closing = false;
	http_put_stream_head(&c->out, content_type);
	advance(c);
}

void conn_kick(struct conn *c)
{
	advance(c);
}

/* Calls fn for each of the list, which may shrink meanwhile by any of them. */
static void for_all(struct list *list, void (*fn)(struct conn *c))
{
	struct list seen;
	struct list *node;

	list_init(&seen);
	while ((node = list_pop(list))) {
		list_add_tail(&seen, node);
		fn(container_of(node, struct conn, node));
	}
	while ((node = list_pop(&seen)))
		list_add_tail(list, node);
}

static void drain_one(struct conn *c)
{
	c->closing = true;
	advance(c);
}

static void close_one(struct conn *c)
{
	c->dead = true;
	/* Inside advance() already: it ends the connection on its way out. */
	if (!c->advancing)
		end(c);
}

void conn_drain_all(struct list *list)
{
	for_all(list, drain_one);
}

void conn_close_all(struct list *list)
{
	for_all(list, close_one);
}
