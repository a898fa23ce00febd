/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/conn.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <malloc.h>
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
	struct loop *loop;
	struct conn_pool *pool;
	uint64_t moved;		  /* pool->moves when the last byte was read or sent */
	size_t pool_bytes;	  /* this one's part of pool->bytes */
	struct loop_timer *stall; /* NULL until a request comes in pieces */
	struct loop_task next_turn;
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
	bool waiting;	/* for next_turn */
};

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
	conn_fds_receive(&c->fds, &msg, &c->pool->fds);
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
	c->moved = ++c->pool->moves;
	if (c->state == CONN_STREAMING) {
		conn_fds_finish(&c->fds, false, &c->pool->fds);
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

		if (n >= 0) {
			c->out_pos += (size_t)n;
			c->moved = ++c->pool->moves;
		} else if (errno == EAGAIN) {
			return false;
		} else if (errno != EINTR) {
			c->dead = true;
		}
	}
	buf_fini(&c->out);
	c->out_pos = 0;
	return !c->dead;
}

static void advance(struct conn *c);

/* --- requests --------------------------------------------------------------------------------- */

static void dispatch(struct conn *c)
{
	const struct http_request *request = http_parser_request(c->parser);
	bool large = request->body_len > CONN_SMALL_BYTES;

	c->state = CONN_BUSY;
	if (!request->keep_alive)
		c->closing = true;
	c->ops->request(c->arg, c, request, &c->fds);
	conn_fds_finish(&c->fds, c->in_pos < c->in.len, &c->pool->fds);
	http_parser_next(c->parser);
	/* What it was taken apart into were small pieces all over the heap. */
	if (large)
		malloc_trim(0);
}

/* Answers what cannot be served, and lets go of what it has brought. `reason` is one sentence
 * without anything to escape. */
static void refuse(struct conn *c, int status, const char *reason)
{
	AUTO_BUF struct buf body = {0};
	struct http_response response = {.status = status, .close = true};

	buf_printf(&body, "[\"The request cannot be read\",\"%s\"]", reason);
	buf_u8(&body, '\0');
	response.body = buf_ok(&body) ? (const char *)body.data : NULL;
	http_put_response(&c->out, &response);
	c->closing = true;
	conn_fds_finish(&c->fds, false, &c->pool->fds);
	http_parser_next(c->parser);
	buf_fini(&c->in);
	c->in_pos = 0;
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
		refuse(c, err.kind == ERR_BAD_REQUEST ? 400 : 500, err_message(&err, 0));
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

/* --- bounds ----------------------------------------------------------------------------------- */

/* Brings the pool's count up to date. */
static void count_bytes(struct conn *c)
{
	size_t held = c->in.cap + c->out.cap + http_parser_held(c->parser);

	c->pool->bytes -= c->pool_bytes;
	c->pool_bytes = held > CONN_SMALL_BYTES ? held - CONN_SMALL_BYTES : 0;
	c->pool->bytes += c->pool_bytes;
}

/* Of those that hold much, the one that has stood still the longest; NULL: none. */
static struct conn *find_stillest(struct conn_pool *pool)
{
	struct conn *found = NULL;
	struct list *node;

	list_for_each (node, &pool->conns) {
		struct conn *c = container_of(node, struct conn, node);

		if (c->pool_bytes && (!found || c->moved < found->moved))
			found = c;
	}
	return found;
}

/* The client is told if it may be listening: it has got all that was due. */
static void turn_away(struct conn *c)
{
	log_warn_limited("Too much memory is held by API connections, one is turned away");
	if (c->state != CONN_READING || c->out.len)
		c->dead = true;
	else
		refuse(c, 503, "Too many large requests at once");
}

/* Sees to it that there is room for what this one has taken. Returns false if it had to be turned
 * away itself. */
static bool make_room(struct conn *c)
{
	struct conn_pool *pool = c->pool;
	struct conn *victim = NULL;

	count_bytes(c);
	/* Not from within: ending a victim comes here too. */
	if (pool->making_room)
		return true;
	pool->making_room = true;
	while (victim != c && pool->bytes > pool->max_bytes && (victim = find_stillest(pool))) {
		turn_away(victim);
		advance(victim);
	}
	pool->making_room = false;
	return victim != c;
}

static void on_stall(struct loop_timer *timer, void *arg)
{
	struct conn *c = arg;

	refuse(c, 408, "The rest of it did not come within 30 seconds");
	advance(c);
}
static_assert(CONN_STALL_MS == 30000, "the message says so");

/* Begins to wait for the next byte of a request, or waits no longer. */
static void watch_for_stall(struct conn *c)
{
	if (c->state != CONN_READING || c->closing || !http_parser_has_begun(c->parser)) {
		if (c->stall)
			loop_timer_stop(c->stall);
		return;
	}
	if (!c->stall && loop_timer_new(c->loop, on_stall, c, &c->stall) < 0)
		c->dead = true;
	else
		loop_timer_start(c->stall, CONN_STALL_MS, 0);
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
	loop_timer_free(TAKE(c->stall));
	loop_task_cancel(c->loop, &c->next_turn);
	fd_close(&c->fd);
	conn_fds_finish(&c->fds, false, &c->pool->fds);
	http_parser_free(TAKE(c->parser));
	buf_fini(&c->in);
	buf_fini(&c->out);
	c->pool->bytes -= c->pool_bytes;
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

	if (c->waiting)
		return 0;
	if (c->state == CONN_STREAMING || (c->state == CONN_READING && !events))
		events |= LOOP_READ;
	return events;
}

/* Goes on until nothing is left to do now, or others have their turn. */
static void take_turn(struct conn *c)
{
	c->waiting = false;
	for (unsigned left = CONN_TURN; flush(c); left--) {
		if (!left) {
			c->waiting = true;
			loop_post(c->loop, &c->next_turn);
			return;
		}
		if (c->state == CONN_STREAMING ? !fill(c) : c->state == CONN_BUSY || !parse(c))
			return;
	}
}

static void advance(struct conn *c)
{
	if (c->advancing)
		return;
	c->advancing = true;
	take_turn(c);
	if (!c->dead && !make_room(c))
		take_turn(c);
	if (!c->dead)
		watch_for_stall(c);
	c->advancing = false;
	if (!c->dead && loop_fd_set(c->handle, events_of(c)) < 0)
		c->dead = true;
	if (c->dead)
		end(c);
}

static void on_next_turn(struct loop_task *task)
{
	advance(container_of(task, struct conn, next_turn));
}

static void on_ready(struct loop_fd *handle, unsigned events, void *arg)
{
	struct conn *c = arg;

	if ((events & LOOP_READ) && !c->eof && !c->waiting && c->state != CONN_BUSY)
		read_some(c);
	advance(c);
}

void conn_pool_init(struct conn_pool *pool, size_t max_bytes, size_t max_fds)
{
	*pool = (struct conn_pool){.max_bytes = max_bytes, .fds.max = max_fds};
	list_init(&pool->conns);
}

int conn_new(struct loop *loop, int fd, const struct conn_ops *ops, void *arg,
	     struct conn_pool *pool)
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
	c->loop = loop;
	c->pool = pool;
	c->next_turn.fn = on_next_turn;
	list_add_tail(&pool->conns, &c->node);
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

void conn_drain_all(struct conn_pool *pool)
{
	for_all(&pool->conns, drain_one);
}

void conn_close_all(struct conn_pool *pool)
{
	for_all(&pool->conns, close_one);
}
