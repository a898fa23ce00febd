/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client's connection: requests in, answers out, in order.
 *
 * Theory of operation
 *
 * A connection does one thing at a time. READING: bytes go to the parser. BUSY: a request is being
 * worked on; nothing is read, so what a client sends ahead stays in the kernel, at its own expense.
 * STREAMING: an answer without end; what the client still sends is thrown away. Nothing is parsed
 * before the last answer has left completely. So what a connection can hold is bounded: one read of
 * input, one request, one answer.
 *
 * File descriptors that arrive (SCM_RIGHTS) belong to the request that is being read. Where one
 * read brought descriptors together with the end of one request and bytes of the next, the first
 * request that takes them gets them; all others close what they do not take.
 *
 * Every change ends in advance(), the one place that sends, parses, dispatches, and frees. It does
 * not nest: an answer given from inside the request callback is sent when that returns. A
 * connection whose request is still being worked on is never freed but by the answer (which then is
 * dropped).
 *
 * Main thread only.
 */
#ifndef SHIM_CONN_H
#define SHIM_CONN_H

#include "base/cursor.h"
#include "base/http.h"
#include "base/list.h"

struct conn;
struct loop;

enum { CONN_MAX_FDS = 253 }; /* as many as one message can carry */

/* The descriptors of a request. Take one by leaving -1 in its place; the others are closed. */
struct conn_fds {
	int fds[CONN_MAX_FDS];
	size_t count;
	size_t fresh; /* index of the first that came with the last read; the connection's */
	bool lost;    /* more were sent than could be received */
};

/* What an owner of connections provides. */
struct conn_ops {
	/* A whole request. `request` and `fds` are valid until the return. Owes exactly one
	 * conn_reply() or conn_stream(), now or later. */
	void (*request)(void *arg, struct conn *conn, const struct http_request *request,
			struct conn_fds *fds);
	/* The connection is closed and gone from its list. */
	void (*closed)(void *arg);
};

/* The source of an answer without end. */
struct conn_stream_ops {
	/* Appends what is there now, at most some ten KiB; nothing when there is nothing. */
	void (*fill)(void *arg, struct buf *out);
	/* The connection ends; called exactly once. */
	void (*closed)(void *arg);
};

/* Serves `fd` (taken over, also on failure; non-blocking) and puts the connection into `list`.
 * `ops` and `arg` must be valid until the connection is closed. Returns 0 or negative errno. */
int conn_new(struct loop *loop, int fd, const struct conn_ops *ops, void *arg, struct list *list);

/* Answers the request. `body`: JSON (copied) or NULL. `conn` may be gone afterwards. */
void conn_reply(struct conn *conn, int status, const char *body);

/* Answers the request with a stream of `content_type`. `conn` lives until ops->closed(). */
void conn_stream(struct conn *conn, const char *content_type, const struct conn_stream_ops *ops,
		 void *arg);

/* The stream has something to say. May end in ops->closed(). */
void conn_kick(struct conn *conn);

/* Ends all connections of the list as soon as what is due was sent: the answer of a running
 * request, what a stream has left. */
void conn_drain_all(struct list *list);

/* Ends all connections of the list now. */
void conn_close_all(struct list *list);

#endif
