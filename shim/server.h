/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening socket and the connections that come from it.
 *
 * Theory of operation
 *
 * Connections are accepted up to a limit that leaves half of the process's open files to the VM;
 * beyond it a client is told so (503) and sent away. The descriptors of unfinished requests have a
 * quarter. Where the process has no open files left all the same, one place is kept on which those
 * who come are told the same; and where not even that works (another thread was faster, or memory
 * is short), it looks again after a moment instead of spinning on a socket that stays readable.
 *
 * The listener may be shared with other processes, which compete for its clients, may change its
 * flags, and may shut it down. Connections that exist are served on.
 *
 * Main thread only.
 */
#ifndef SHIM_SERVER_H
#define SHIM_SERVER_H

#include "base/err.h"
#include "shim/conn.h"

struct loop;
struct server;

enum { SERVER_MAX_CONNS = 1024 };

/* Serves `listener_fd` (borrowed; made non-blocking). `request` as in struct conn_ops. Returns 0 or
 * negative errno with err. */
int server_new(struct loop *loop, int listener_fd,
	       void (*request)(void *arg, struct conn *conn, const struct http_request *request,
			       struct conn_fds *fds),
	       void *arg, struct server **ret_server, struct err *err);

/* Accepts no more. */
void server_close_listener(struct server *server);

/* Accepts no more, ends each connection when what is due was sent, then calls done(arg) on the
 * loop, at the latest after `timeout_ms`. done() may free the server. Once. */
void server_drain(struct server *server, uint64_t timeout_ms, void (*done)(void *arg), void *arg);

/* Closes all connections. NULL is fine. */
void server_free(struct server *server);

#endif
