/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened in this process: a bounded ring of events with sequence numbers.
 *
 * Theory of operation
 *
 * Every event gets the next number (1, 2, 3...) and the time since the log was made, and is kept
 * as text in both shapes in which it leaves: indented for the event monitor and on one line for the
 * HTTP stream. The ring holds the newest EVENT_LOG_MAX_EVENTS events and at most
 * EVENT_LOG_MAX_BYTES of text; older ones go. It knows nothing of its readers but whom to wake: a
 * reader keeps the number it wants next, asks event_log_at() for it, and sees by the answer's
 * number whether some are gone. So a slow reader costs nothing and holds nobody up.
 *
 * Everything here is for the main thread only.
 */
#ifndef SHIM_EVENT_LOG_H
#define SHIM_EVENT_LOG_H

#include "base/err.h"
#include "base/list.h"

struct event_log;
struct json;

enum {
	EVENT_LOG_MAX_EVENTS = 1024,
	EVENT_LOG_MAX_BYTES = 1024 * 1024,
	EVENT_TEXT_MAX = 4000, /* bytes of one event's text; readers with a 4 KiB buffer exist */
};

struct event {
	uint64_t seq;
	const char *source; /* "vmm", "vm", ... */
	const char *name;   /* "booted", ... */
	/* {"timestamp":{"secs","nanos"},"source","event","properties"}: pure ASCII, no brace inside
	 * a string (there are readers who count braces), shorter than EVENT_TEXT_MAX. */
	const char *pretty;  /* indented, with an empty line behind */
	const char *compact; /* one line, no line feed */
	size_t pretty_len;
	size_t compact_len;
};

/* One who wants to know that there is something new. Embedded by its owner. */
struct event_subscriber {
	struct list node; /* the log's */
	/* The log has grown. May remove itself or other subscribers and add events. */
	void (*notify)(struct event_subscriber *sub);
};

/* A log without events; time starts now. Returns 0 or -ENOMEM. */
int event_log_new(struct event_log **ret_log);

/* Subscribers must be gone. NULL is fine. */
void event_log_free(struct event_log *log);

/*
 * Adds an event and wakes the subscribers. `source`, `name`: copied. `properties`: an object whose
 * members become strings, or NULL; taken over. Properties that make the event too large are
 * replaced by a remark. Out of memory loses the event, which its readers see as a gap.
 */
void event_log_add(struct event_log *log, const char *source, const char *name,
		   struct json *properties);

/* The oldest event that is still there and has a number >= seq; NULL when there is none (yet).
 * Valid until the next event_log_add(). */
const struct event *event_log_at(const struct event_log *log, uint64_t seq);

/* Number of the newest event ever added, 0 before the first. */
uint64_t event_log_last(const struct event_log *log);

void event_log_subscribe(struct event_log *log, struct event_subscriber *sub);

/* Does nothing for one that is not subscribed (initialised node). */
void event_log_unsubscribe(struct event_subscriber *sub);

#endif
