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
 * A client may be as slow as it likes, but not stand still within a request: after CONN_STALL_MS
 * without a byte it is answered by 408. Among the descriptors of an unfinished request may be the
 * other end of this very connection, which then would never be seen to close.
 *
 * All connections share a pool, which bounds what they hold together beyond CONN_SMALL_BYTES each:
 * requests that are being read, and answers that nobody reads. Where there is no room for one more,
 * the connection that has stood still the longest has to go (503, unless it owes us the reading of
 * an answer); small requests always have room. A client that sends many requests ahead
 * gets CONN_TURN of them answered in a turn of the loop, and then the others have theirs.
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
#include "shim/conn_fds.h"

struct conn;
struct loop;

enum {
	CONN_STALL_MS = 30000,
	CONN_SMALL_BYTES = 64 * 1024,
	CONN_TURN = 16, /* requests, or pieces of a stream */
};

/* What the connections of one server have in common. */
struct conn_pool {
	struct list conns;
	struct conn_fd_budget fds;
	size_t bytes; /* that they hold beyond CONN_SMALL_BYTES each */
	size_t max_bytes;
	uint64_t moves; /* counts reads and writes: who was the last to move */
	bool making_room;
};

/* What an owner of connections provides. */
struct conn_ops {
	/* A whole request. `request` and `fds` are valid until the return. Owes exactly one
	 * conn_reply() or conn_stream(), now or later. */
	void (*request)(void *arg, struct conn *conn, const struct http_request *request,
			struct conn_fds *fds);
	/* The connection is closed and gone from its pool. */
	void (*closed)(void *arg);
};

/* The source of an answer without end. */
struct conn_stream_ops {
	/* Appends what is there now, at most some ten KiB; nothing when there is nothing. */
	void (*fill)(void *arg, struct buf *out);
	/* The connection ends; called exactly once. */
	void (*closed)(void *arg);
};

/* Makes an empty pool with these bounds. */
void conn_pool_init(struct conn_pool *pool, size_t max_bytes, size_t max_fds);

/* Serves `fd` (taken over, also on failure; non-blocking) and puts the connection into `pool`.
 * `ops`, `arg` and `pool` must be valid until the connection is closed. Returns 0 or negative
 * errno. */
int conn_new(struct loop *loop, int fd, const struct conn_ops *ops, void *arg,
	     struct conn_pool *pool);

/* Answers the request. `body`: JSON (copied) or NULL. `conn` may be gone afterwards. */
void conn_reply(struct conn *conn, int status, const char *body);

/* Answers the request with a stream of `content_type`. `conn` lives until ops->closed(). */
void conn_stream(struct conn *conn, const char *content_type, const struct conn_stream_ops *ops,
		 void *arg);

/* The stream has something to say. May end in ops->closed(). */
void conn_kick(struct conn *conn);

/* Ends all connections as soon as what is due was sent: the answer of a running request, what a
 * stream has left. */
void conn_drain_all(struct conn_pool *pool);

/* Ends all connections now. */
void conn_close_all(struct conn_pool *pool);

#endif
