/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event log as a stream of server-sent events (HTML Living Standard, section 9.2).
 *
 * Theory of operation
 *
 * A stream is a reader of the event log with a cursor of its own; what it has formatted and not
 * sent is never more than SSE_CHUNK and one event. A client that reads slowly falls behind in the
 * ring, and when events it was still to get have left the ring it is told:
 *
 *   event: gap
 *   data: {"missed_from":12,"missed_to":40,"reason":"overrun"}
 *
 * Each event is `id:` its number, `event:` source:name, `data:` one line of JSON. The stream opens
 * with a comment and the number of the last event before it, so that a client that loses the
 * connection at once still knows where to go on.
 *
 * Where it begins: without Last-Event-ID with what happens from now on; with Last-Event-ID: N with
 * event N + 1, so 0 is all there is. An N that this process has not reached yet comes from another
 * process's life: a gap with the reason "unknown-id" is announced and all there is follows.
 *
 * A comment every SSE_HEARTBEAT_MS tells both sides whether the other is still there.
 */
#ifndef SHIM_SSE_H
#define SHIM_SSE_H

#include "base/err.h"

struct conn;
struct event_log;
struct http_request;
struct loop;

enum { SSE_CHUNK = 16 * 1024, SSE_HEARTBEAT_MS = 15000 };

/* Turns the connection, whose request this is, into an event stream. Returns 0, or negative errno
 * with err; then the connection still waits for its answer. Main thread. */
int sse_start(struct loop *loop, struct event_log *log, struct conn *conn,
	      const struct http_request *request, struct err *err);

#endif
