/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sse.h"

#include "base/cursor.h"
#include "base/http.h"
#include "base/loop.h"
#include "shim/conn.h"
#include "shim/event_log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct sse {
	struct event_subscriber sub;
	struct event_log *log;
	struct conn *conn;
	struct loop_timer *heartbeat;
	uint64_t next;	 /* number of the event to send next */
	bool opened;	 /* the opening was sent */
	bool unknown_id; /* to be announced: the client comes from another process's life */
	bool beat;	 /* a heartbeat is due */
};

static void put_gap(struct buf *out, uint64_t from, uint64_t to, const char *reason)
{
	buf_printf(out,
		   "id: %" PRIu64 "\nevent: gap\ndata: {\"missed_from\":%" PRIu64
		   ",\"missed_to\":%" PRIu64 ",\"reason\":\"%s\"}\n\n",
		   to, from, to, reason);
}

/* Appends a gap if events before `seq` are missing. */
static void put_missing(struct sse *s, struct buf *out, uint64_t seq)
{
	if (s->unknown_id || seq > s->next)
		put_gap(out, s->next, seq - 1, s->unknown_id ? "unknown-id" : "overrun");
	s->unknown_id = false;
	s->next = seq;
}

static void put_events(struct sse *s, struct buf *out)
{
	const struct event *event;

	while (buf_ok(out) && out->len < SSE_CHUNK && (event = event_log_at(s->log, s->next))) {
		put_missing(s, out, event->seq);
		buf_printf(out, "id: %" PRIu64 "\nevent: %s:%s\ndata: %s\n\n", event->seq,
			   event->source, event->name, event->compact);
		s->next = event->seq + 1;
	}
}

static void fill(void *arg, struct buf *out)
{
	struct sse *s = arg;

	if (!s->opened)
		buf_printf(out, ": coracle events\nid: %" PRIu64 "\n\n", s->next - 1);
	s->opened = true;
	put_events(s, out);
	/* From another life, and this one has nothing to tell yet. */
	if (s->unknown_id)
		put_missing(s, out, s->next);
	if (s->beat && !out->len)
		buf_printf(out, ":\n\n");
	s->beat = false;
}

static void on_notify(struct event_subscriber *sub)
{
	conn_kick(container_of(sub, struct sse, sub)->conn);
}

static void on_heartbeat(struct loop_timer *timer, void *arg)
{
	struct sse *s = arg;

	s->beat = true;
	conn_kick(s->conn);
}

static void on_closed(void *arg)
{
	struct sse *s = arg;

	event_log_unsubscribe(&s->sub);
	loop_timer_free(s->heartbeat);
	free(s);
}

static const struct conn_stream_ops stream_ops = {.fill = fill, .closed = on_closed};

/* Strictly decimal digits. Returns 0 or -EINVAL. */
static int parse_id(const char *text, uint64_t *ret_id)
{
	uint64_t id = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(id, 10, &id) ||
		    __builtin_add_overflow(id, (uint64_t)(*text - '0'), &id))
			return -EINVAL;
	}
	*ret_id = id;
	return 0;
}

static int set_start(struct sse *s, const struct http_request *request, struct err *err)
{
	uint64_t id = event_log_last(s->log);

	if (request->has_last_event_id && parse_id(request->last_event_id, &id) < 0)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "Last-Event-ID is not the number of an event");
	s->unknown_id = id > event_log_last(s->log);
	s->next = s->unknown_id ? 1 : id + 1;
	return 0;
}

int sse_start(struct loop *loop, struct event_log *log, struct conn *conn,
	      const struct http_request *request, struct err *err)
{
	AUTO_FREE struct sse *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set_errno(err, -ENOMEM, "Cannot start an event stream");
	s->log = log;
	s->conn = conn;
	s->sub.notify = on_notify;
	rc = set_start(s, request, err);
	if (rc < 0)
		return rc;
	rc = loop_timer_new(loop, on_heartbeat, s, &s->heartbeat);
	if (rc < 0)
		return err_set_errno(err, rc, "Cannot start an event stream");
	loop_timer_start(s->heartbeat, SSE_HEARTBEAT_MS, SSE_HEARTBEAT_MS);
	event_log_subscribe(log, &s->sub);
	conn_stream(conn, "text/event-stream", &stream_ops, TAKE(s));
	return 0;
}
