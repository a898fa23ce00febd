/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/event_log.h"

#include "base/cursor.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <string.h>

struct slot {
	struct event event; /* seq 0: lost, nothing owned */
	char *texts;	    /* owned; holds the four strings of `event` */
	size_t bytes;
};

struct event_log {
	struct slot slots[EVENT_LOG_MAX_EVENTS]; /* event n is in slot n % EVENT_LOG_MAX_EVENTS */
	uint64_t oldest;			 /* lowest number that may still be here */
	uint64_t last;
	size_t bytes;
	uint64_t start_ns;
	struct list subscribers;

	bool notifying; /* the walk over the subscribers is on */
	bool again;	/* an event came meanwhile */
};

int event_log_new(struct event_log **ret_log)
{
	struct event_log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	log->oldest = 1;
	log->start_ns = loop_now_ns();
	list_init(&log->subscribers);
	*ret_log = log;
	return 0;
}

static struct slot *slot_of(struct event_log *log, uint64_t seq)
{
	return &log->slots[seq % EVENT_LOG_MAX_EVENTS];
}

static void drop_oldest(struct event_log *log)
{
	struct slot *slot = slot_of(log, log->oldest);

	log->bytes -= slot->bytes;
	free(slot->texts);
	memset(slot, 0, sizeof(*slot));
	log->oldest++;
}

void event_log_free(struct event_log *log)
{
	if (!log)
		return;
	while (log->oldest <= log->last)
		drop_oldest(log);
	free(log);
}

/* --- text ------------------------------------------------------------------------------------- */

/* The value as the string that a property is: a string itself, anything else as its JSON text. NULL
 * when out of memory. */
static struct json *property_string(struct json *value)
{
	AUTO_FREE char *text = NULL;

	if (json_kind(value) == JSON_STRING)
		return json_get_ref(value);
	text = json_dump(value, false);
	return text ? json_new_string(text) : NULL;
}

/* A new object with each member as a string; NULL when out of memory. */
static struct json *property_strings(struct json *properties)
{
	AUTO_JSON struct json *strings = json_new_object();
	struct json_iter *it;

	if (!strings)
		return NULL;
	for (it = json_first(properties); it; it = json_next(properties, it)) {
		struct json *value = property_string(json_iter_value(it));

		if (json_set(strings, json_iter_key(it), value) < 0)
			return NULL;
	}
	return TAKE(strings);
}

static struct json *event_object(uint64_t time_ns, const char *source, const char *name,
				 struct json *properties)
{
	AUTO_JSON struct json *event = json_new_object();
	struct json *timestamp;

	if (!event || json_set(event, "timestamp", json_new_object()) < 0)
		return NULL;
	timestamp = json_member(event, "timestamp");
	if (json_set(timestamp, "secs", json_new_uint(time_ns / 1000000000)) < 0 ||
	    json_set(timestamp, "nanos", json_new_uint(time_ns % 1000000000)) < 0 ||
	    json_set(event, "source", json_new_string(source)) < 0 ||
	    json_set(event, "event", json_new_string(name)) < 0 ||
	    json_set(event, "properties",
		     properties ? property_strings(properties) : json_new_null()) < 0)
		return NULL;
	return TAKE(event);
}

/* Appends JSON text with braces inside strings as \u007b and \u007d. */
static void put_without_braces(struct buf *out, const char *text)
{
	bool in_string = false;

	for (; *text; text++) {
		if (in_string && (*text == '{' || *text == '}')) {
			buf_printf(out, "\\u%04x", *text);
			continue;
		}
		if (*text == '"')
			in_string = !in_string;
		if (in_string && *text == '\\')
			buf_put(out, text++, 1);
		buf_put(out, text, 1);
	}
}

/* Appends both shapes, each terminated. Returns the length of the first. */
static size_t put_texts(struct buf *out, const struct json *event)
{
	AUTO_FREE char *pretty = json_dump(event, true);
	AUTO_FREE char *compact = json_dump(event, false);
	size_t len;

	if (!pretty || !compact) {
		out->failed = true;
		return 0;
	}
	put_without_braces(out, pretty);
	buf_put(out, "\n\n", 2);
	len = out->len;
	buf_u8(out, '\0');
	put_without_braces(out, compact);
	buf_u8(out, '\0');
	return len;
}

static int format_event(struct slot *slot, uint64_t time_ns, const char *source, const char *name,
			struct json *properties)
{
	AUTO_BUF struct buf texts = {0};
	AUTO_JSON struct json *event = event_object(time_ns, source, name, properties);
	size_t pretty_len;

	if (!event)
		return -ENOMEM;
	pretty_len = put_texts(&texts, event);
	if (!buf_ok(&texts))
		return -ENOMEM;
	if (pretty_len >= EVENT_TEXT_MAX)
		return -EMSGSIZE;
	slot->event.pretty_len = pretty_len;
	slot->event.compact_len = texts.len - pretty_len - 2;
	buf_put(&texts, source, strlen(source) + 1);
	buf_put(&texts, name, strlen(name) + 1);
	if (!buf_ok(&texts))
		return -ENOMEM;
	slot->bytes = texts.len;
	slot->texts = (char *)TAKE(texts.data);
	slot->event.pretty = slot->texts;
	slot->event.compact = slot->texts + pretty_len + 1;
	slot->event.source = slot->event.compact + slot->event.compact_len + 1;
	slot->event.name = slot->event.source + strlen(source) + 1;
	return 0;
}

/* --- the ring --------------------------------------------------------------------------------- */

static void notify_all(struct event_log *log)
{
	struct list done;
	struct list *node;

	/* An event added by a subscriber is seen by all in another round. */
	log->again = true;
	if (log->notifying)
		return;
	log->notifying = true;
	while (log->again) {
		log->again = false;
		list_init(&done);
		/* Any subscriber may leave meanwhile, so no pointer is kept over the call. */
		while ((node = list_pop(&log->subscribers))) {
			list_add_tail(&done, node);
			container_of(node, struct event_subscriber, node)
				->notify(container_of(node, struct event_subscriber, node));
		}
		while ((node = list_pop(&done)))
			list_add_tail(&log->subscribers, node);
	}
	log->notifying = false;
}

static struct json *omitted(void)
{
	struct json *remark = json_new_object();

	if (json_set(remark, "omitted", json_new_string("the properties are too large")) < 0) {
		json_put(remark);
		return NULL;
	}
	return remark;
}

void event_log_add(struct event_log *log, const char *source, const char *name,
		   struct json *properties)
{
	AUTO_JSON struct json *owned = properties;
	AUTO_JSON struct json *remark = NULL;
	uint64_t time_ns = loop_now_ns() - log->start_ns;
	uint64_t seq = log->last + 1;
	struct slot *slot;
	int rc;

	if (seq - log->oldest == EVENT_LOG_MAX_EVENTS)
		drop_oldest(log);
	slot = slot_of(log, seq);
	rc = format_event(slot, time_ns, source, name, owned);
	if (rc == -EMSGSIZE) {
		remark = omitted();
		rc = format_event(slot, time_ns, source, name, remark);
	}
	log->last = seq;
	if (rc < 0)
		log_warn("Event %s:%s is lost: %s", source, name, strerror(-rc));
	else
		slot->event.seq = seq;
	log->bytes += slot->bytes;
	while (log->bytes > EVENT_LOG_MAX_BYTES && log->oldest < log->last)
		drop_oldest(log);
	notify_all(log);
}

const struct event *event_log_at(const struct event_log *log, uint64_t seq)
{
	for (seq = MAX(seq, log->oldest); seq <= log->last; seq++) {
		const struct event *event = &log->slots[seq % EVENT_LOG_MAX_EVENTS].event;

		if (event->seq == seq)
			return event;
	}
	return NULL;
}

uint64_t event_log_last(const struct event_log *log)
{
	return log->last;
}

void event_log_subscribe(struct event_log *log, struct event_subscriber *sub)
{
	list_add_tail(&log->subscribers, &sub->node);
}

void event_log_unsubscribe(struct event_subscriber *sub)
{
	list_del(&sub->node);
}
