/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "shim/event_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state)
{
	struct event_log *log;

	if (event_log_new(&log) < 0)
		return -1;
	*state = log;
	return 0;
}

static int tear_down(void **state)
{
	event_log_free(*state);
	return 0;
}

static struct json *parse(const char *text, size_t len)
{
	struct err err = ERR_INIT;
	struct json *v = json_parse(text, len, &err);

	assert_non_null(v);
	return v;
}

static struct json *one_property(const char *key, const char *value)
{
	struct json *o = json_new_object();

	assert_int_equal(json_set(o, key, json_new_string(value)), 0);
	return o;
}

/* Readers that know nothing of strings find the end of an event by counting braces. */
static int brace_balance_minimum(const char *text)
{
	int depth = 0;

	for (size_t i = 0; text[i]; i++) {
		depth += text[i] == '{';
		depth -= text[i] == '}';
		if (text[i] == '}' && depth == 0)
			return strspn(text + i + 1, "\n") == strlen(text + i + 1);
	}
	return 0;
}

static void events_are_numbered_from_one(void **state)
{
	const struct event *event;

	assert_null(event_log_at(*state, 1));
	assert_true(event_log_last(*state) == 0);
	event_log_add(*state, "vmm", "starting", NULL);
	event_log_add(*state, "vm", "booting", NULL);
	assert_true(event_log_last(*state) == 2);
	event = event_log_at(*state, 0);
	assert_true(event->seq == 1);
	assert_string_equal(event->source, "vmm");
	assert_string_equal(event->name, "starting");
	assert_true(event_log_at(*state, 2)->seq == 2);
	assert_null(event_log_at(*state, 3));
}

static void text_has_the_shape_that_readers_expect(void **state)
{
	const struct event *event;
	unsigned long long secs, nanos;
	char expected[256];

	event_log_add(*state, "vm", "booted", NULL);
	event = event_log_at(*state, 1);
	assert_int_equal(sscanf(event->compact, "{\"timestamp\":{\"secs\":%llu,\"nanos\":%llu}",
				&secs, &nanos),
			 2);
	assert_true(nanos < 1000000000);
	snprintf(expected, sizeof(expected),
		 "{\n  \"timestamp\": {\n    \"secs\": %llu,\n    \"nanos\": %llu\n  },\n"
		 "  \"source\": \"vm\",\n  \"event\": \"booted\",\n  \"properties\": null\n}\n\n",
		 secs, nanos);
	assert_string_equal(event->pretty, expected);
	assert_int_equal(event->pretty_len, strlen(event->pretty));
	assert_int_equal(event->compact_len, strlen(event->compact));
	assert_null(strchr(event->compact, '\n'));
}

static void properties_become_strings(void **state)
{
	struct json *o = one_property("id", "_disk0");
	AUTO_JSON struct json *event = NULL;
	const struct json *properties;

	json_set(o, "count", json_new_int(-7));
	json_set(o, "flag", json_new_bool(true));
	event_log_add(*state, "virtio-device", "activated", o);
	event = parse(event_log_at(*state, 1)->pretty, event_log_at(*state, 1)->pretty_len);
	properties = json_member(event, "properties");
	assert_string_equal(json_string(json_member(properties, "id")), "_disk0");
	assert_string_equal(json_string(json_member(properties, "count")), "-7");
	assert_string_equal(json_string(json_member(properties, "flag")), "true");
}

static void no_brace_stands_inside_a_string(void **state)
{
	static const char nasty[] = "a{b}c\\{\"}{\\\"{ \xc3\xa9\n";
	AUTO_JSON struct json *event = NULL;
	const struct event *e;

	event_log_add(*state, "vm", "x", one_property("k{", nasty));
	e = event_log_at(*state, 1);
	assert_true(brace_balance_minimum(e->pretty));
	assert_true(brace_balance_minimum(e->compact));
	event = parse(e->compact, e->compact_len);
	assert_string_equal(json_string(json_member(json_member(event, "properties"), "k{")),
			    nasty);
	for (const char *c = e->pretty; *c; c++)
		assert_true((unsigned char)*c < 0x80);
}

static void large_properties_are_replaced_by_a_remark(void **state)
{
	char large[8000];
	AUTO_JSON struct json *event = NULL;
	const struct event *e;

	memset(large, 'x', sizeof(large));
	large[sizeof(large) - 1] = '\0';
	event_log_add(*state, "guest", "panic", one_property("k", large));
	e = event_log_at(*state, 1);
	assert_true(e->pretty_len < EVENT_TEXT_MAX);
	event = parse(e->pretty, e->pretty_len);
	assert_non_null(json_member(json_member(event, "properties"), "omitted"));
}

static void ring_keeps_the_newest(void **state)
{
	for (int i = 0; i < EVENT_LOG_MAX_EVENTS + 10; i++)
		event_log_add(*state, "vm", "e", NULL);
	assert_true(event_log_at(*state, 1)->seq == 11);
	assert_true(event_log_at(*state, 11)->seq == 11);
	assert_true(event_log_at(*state, EVENT_LOG_MAX_EVENTS + 10)->seq ==
		    EVENT_LOG_MAX_EVENTS + 10);
}

static void ring_is_bounded_in_bytes(void **state)
{
	char large[1500];
	size_t held = 0;
	uint64_t seq;

	memset(large, 'x', sizeof(large));
	large[sizeof(large) - 1] = '\0';
	for (int i = 0; i < EVENT_LOG_MAX_EVENTS; i++)
		event_log_add(*state, "vm", "e", one_property("k", large));
	seq = event_log_at(*state, 1)->seq;
	assert_true(seq > 1);
	for (; seq <= event_log_last(*state); seq++)
		held += event_log_at(*state, seq)->pretty_len +
			event_log_at(*state, seq)->compact_len;
	assert_true(held <= EVENT_LOG_MAX_BYTES);
	assert_true(held > EVENT_LOG_MAX_BYTES / 2);
}

struct reader {
	struct event_subscriber sub;
	struct event_log *log;
	struct reader *victim; /* unsubscribed when notified */
	bool adds;
	unsigned calls;
};

static void on_notify(struct event_subscriber *sub)
{
	struct reader *r = container_of(sub, struct reader, sub);

	r->calls++;
	if (r->adds) {
		r->adds = false;
		event_log_add(r->log, "vm", "from within", NULL);
	}
	if (r->victim)
		event_log_unsubscribe(&r->victim->sub);
}

static void subscribers_may_leave_and_add_while_being_notified(void **state)
{
	struct reader r[4];

	memset(r, 0, sizeof(r));
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i].sub.notify = on_notify;
		r[i].log = *state;
		event_log_subscribe(*state, &r[i].sub);
	}
	r[0].victim = &r[0];
	r[1].victim = &r[2];
	r[3].adds = true;
	event_log_add(*state, "vm", "x", NULL);
	assert_int_equal(r[0].calls, 1);
	assert_int_equal(r[2].calls, 0);
	assert_int_equal(r[1].calls, 2);
	assert_int_equal(r[3].calls, 2);
	assert_true(event_log_last(*state) == 2);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		event_log_unsubscribe(&r[i].sub);
}

#define log_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		log_test(events_are_numbered_from_one),
		log_test(text_has_the_shape_that_readers_expect),
		log_test(properties_become_strings),
		log_test(no_brace_stands_inside_a_string),
		log_test(large_properties_are_replaced_by_a_remark),
		log_test(ring_keeps_the_newest),
		log_test(ring_is_bounded_in_bytes),
		log_test(subscribers_may_leave_and_add_while_being_notified),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
