/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state)
{
	*state = http_parser_new();
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	http_parser_free(*state);
	return 0;
}

/* Feeds text in pieces of `step` bytes. Returns the last result; *ret_used counts all of it. */
static int feed_by(struct http_parser *p, const char *text, size_t step, size_t *ret_used,
		   struct err *err)
{
	size_t len = strlen(text), pos = 0;
	int rc = 0;

	while (rc == 0 && pos < len) {
		size_t used;

		rc = http_parser_feed(p, text + pos, MIN(step, len - pos), &used, err);
		pos += used;
	}
	*ret_used = pos;
	return rc;
}

static int feed(struct http_parser *p, const char *text)
{
	size_t used;

	return feed_by(p, text, strlen(text), &used, NULL);
}

static void assert_refused(void **state, const char *text)
{
	struct err err = ERR_INIT;
	size_t used;

	http_parser_next(*state);
	assert_int_equal(feed_by(*state, text, strlen(text), &used, &err), -EBADMSG);
	assert_int_equal(err.kind, ERR_BAD_REQUEST);
	assert_int_equal(err_count(&err), 1);
	assert_null(strchr(err_message(&err, 0), '"'));
	assert_null(strchr(err_message(&err, 0), '\\'));
}

static void request_is_the_same_however_it_is_cut(void **state)
{
	static const char text[] = "PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\n"
				   "X-Empty:\r\nlast-EVENT-id: 17\r\ncontent-length: 5\r\n"
				   "\r\nhello";

	for (size_t step = 1; step < sizeof(text); step++) {
		const struct http_request *r = http_parser_request(*state);
		size_t used;

		assert_int_equal(feed_by(*state, text, step, &used, NULL), 1);
		assert_int_equal(used, strlen(text));
		assert_int_equal(r->method, HTTP_METHOD_PUT);
		assert_string_equal(r->method_name, "PUT");
		assert_string_equal(r->target, "/api/v1/vm.create");
		assert_int_equal(r->body_len, 5);
		assert_memory_equal(r->body, "hello", 5);
		assert_true(r->keep_alive);
		assert_true(r->has_last_event_id);
		assert_string_equal(r->last_event_id, "17");
		http_parser_next(*state);
	}
}

static void parser_stops_behind_each_pipelined_request(void **state)
{
	static const char *const requests[] = {
		"GET /a HTTP/1.1\r\n\r\n",
		"PUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
		"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n",
		"PUT /d HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"GET /e HTTP/1.1\r\n\r\n",
	};
	char all[512] = "";
	size_t pos = 0;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		strcat(all, requests[i]);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		size_t used;

		assert_int_equal(
			http_parser_feed(*state, all + pos, strlen(all) - pos, &used, NULL), 1);
		assert_int_equal(used, strlen(requests[i]));
		assert_int_equal(http_parser_request(*state)->target[1], 'a' + (int)i);
		pos += used;
		http_parser_next(*state);
	}
	assert_int_equal(pos, strlen(all));
}

static void chunked_body_is_put_together(void **state)
{
	const struct http_request *r = http_parser_request(*state);

	assert_int_equal(feed(*state, "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
				      "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n"
				      "Last-Event-ID: 3\r\n\r\n"),
			 1);
	assert_int_equal(r->body_len, 11);
	assert_memory_equal(r->body, "hello world", 11);
	/* A trailer is not a header. */
	assert_false(r->has_last_event_id);
}

static void content_length_zero_is_no_body(void **state)
{
	assert_int_equal(feed(*state, "PUT /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 1);
	assert_int_equal(http_parser_request(*state)->body_len, 0);
	assert_null(http_parser_request(*state)->body);
}

static void continue_is_wanted_once_and_only_while_a_body_is_missing(void **state)
{
	assert_int_equal(feed(*state, "PUT /x HTTP/1.1\r\nExpect: 100-CONTINUE\r\n"
				      "Content-Length: 2\r\n"),
			 0);
	assert_false(http_parser_take_continue(*state));
	assert_int_equal(feed(*state, "\r\n"), 0);
	assert_true(http_parser_take_continue(*state));
	assert_false(http_parser_take_continue(*state));
	assert_int_equal(feed(*state, "ab"), 1);
	http_parser_next(*state);

	assert_int_equal(feed(*state, "PUT /x HTTP/1.1\r\nExpect: 100-continue\r\n"
				      "Content-Length: 2\r\n\r\na"),
			 0);
	assert_false(http_parser_take_continue(*state));
	http_parser_next(*state);

	assert_int_equal(feed(*state, "PUT /x HTTP/1.1\r\nExpect: 100-continue\r\n"
				      "Content-Length: 0\r\n\r\n"),
			 1);
	assert_false(http_parser_take_continue(*state));
}

static void other_expectations_are_refused(void **state)
{
	assert_refused(state, "GET / HTTP/1.1\r\nExpect: 200-ok\r\n\r\n");
	assert_refused(state, "GET / HTTP/1.1\r\nExpect:\r\n\r\n");
	assert_refused(state, "GET / HTTP/1.1\r\nExpect: 100-continue-and-more-of-it-"
			      "than-is-kept-of-any-header-value-by-the-parser\r\n\r\n");
}

static void connection_header_and_version_say_whether_it_stays(void **state)
{
	assert_int_equal(feed(*state, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), 1);
	assert_false(http_parser_request(*state)->keep_alive);
	http_parser_next(*state);
	assert_int_equal(feed(*state, "GET / HTTP/1.0\r\n\r\n"), 1);
	assert_false(http_parser_request(*state)->keep_alive);
	http_parser_next(*state);
	assert_int_equal(feed(*state, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 1);
	assert_true(http_parser_request(*state)->keep_alive);
}

static void offer_to_upgrade_is_passed_over(void **state)
{
	const struct http_request *r = http_parser_request(*state);

	assert_int_equal(feed(*state, "PUT /x HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
				      "Upgrade: h2c\r\nContent-Length: 2\r\n\r\nab"),
			 1);
	assert_int_equal(r->body_len, 2);
	http_parser_next(*state);
	assert_int_equal(feed(*state, "CONNECT host:1 HTTP/1.1\r\n\r\n"), 1);
	assert_int_equal(r->method, HTTP_METHOD_OTHER);
}

static void what_is_not_http_is_refused(void **state)
{
	assert_refused(state, "hello\r\n\r\n");
	assert_refused(state, "GET / HTTP/2.0\r\n\r\n");
	assert_refused(state, "GET / HTTP/0.9\r\n\r\n");
	assert_refused(state, "GET /\r\n\r\n");
	assert_refused(state, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n");
	assert_refused(state, "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n");
	assert_refused(state, "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
	assert_refused(state, "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
			      "Content-Length: 2\r\n\r\n");
	assert_refused(state, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
	assert_refused(state, "GET / HTTP/1.1\r\nbad header\r\n\r\n");
	assert_refused(state, "\x16\x03\x01\x02");
}

static void long_lines_are_accepted_and_endless_ones_refused(void **state)
{
	static char text[64 * 1024];
	struct err err = ERR_INIT;
	size_t used;

	/* 12,000 bytes of header line. */
	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nX: %012000d\r\n\r\n", 1);
	assert_int_equal(feed(*state, text), 1);
	http_parser_next(*state);
	snprintf(text, sizeof(text), "GET /%012000d HTTP/1.1\r\n\r\n", 1);
	assert_int_equal(feed(*state, text), 1);
	assert_int_equal(strlen(http_parser_request(*state)->target), 12001);
	http_parser_next(*state);

	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nX: %020000d\r\n\r\n", 1);
	for (size_t step = 1; step < 64 * 1024; step *= 7) {
		assert_int_equal(feed_by(*state, text, step, &used, &err), -EBADMSG);
		http_parser_next(*state);
	}
	/* Line feeds before a request count as well. */
	memset(text, '\n', 20000);
	text[20000] = '\0';
	assert_refused(state, text);
}

static void request_has_begun_from_its_first_byte_to_its_last(void **state)
{
	static const char text[] = "PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
	size_t len = strlen(text), used;

	for (size_t cut = 0; cut < len; cut++) {
		http_parser_next(*state);
		assert_false(http_parser_has_begun(*state));
		assert_int_equal(http_parser_held(*state), 0);
		assert_int_equal(http_parser_feed(*state, text, cut, &used, NULL), 0);
		assert_int_equal(http_parser_has_begun(*state), cut > 0);
	}
	assert_true(http_parser_held(*state) >= 4);
	assert_int_equal(http_parser_feed(*state, text + len - 1, 1, &used, NULL), 1);
	assert_false(http_parser_has_begun(*state));
}

static void body_may_cross_the_bound_of_the_head(void **state)
{
	static char text[40 * 1024];
	int n = snprintf(text, sizeof(text), "PUT / HTTP/1.1\r\nContent-Length: 30000\r\n\r\n");

	memset(text + n, 'x', 30000);
	assert_int_equal(feed(*state, text), 1);
	assert_int_equal(http_parser_request(*state)->body_len, 30000);
}

static void body_of_four_mib_is_accepted_and_one_byte_more_refused(void **state)
{
	size_t len = HTTP_MAX_BODY, used;
	char *body = malloc(len);

	assert_non_null(body);
	memset(body, ' ', len);
	assert_int_equal(feed(*state, "PUT / HTTP/1.1\r\nContent-Length: 4194304\r\n\r\n"), 0);
	assert_int_equal(http_parser_feed(*state, body, len, &used, NULL), 1);
	assert_int_equal(http_parser_request(*state)->body_len, len);
	http_parser_next(*state);

	assert_refused(state, "PUT / HTTP/1.1\r\nContent-Length: 4194305\r\n\r\n");

	http_parser_next(*state);
	assert_int_equal(feed(*state, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
				      "400000\r\n"),
			 0);
	assert_int_equal(http_parser_feed(*state, body, len, &used, NULL), 0);
	assert_int_equal(feed(*state, "\r\n1\r\nx"), -EBADMSG);
	free(body);
}

static void assert_response(const struct http_response *response, const char *expected)
{
	AUTO_BUF struct buf out = {0};

	http_put_response(&out, response);
	assert_true(buf_ok(&out));
	assert_int_equal(out.len, strlen(expected));
	assert_memory_equal(out.data, expected, out.len);
}

#define HEAD "Server: Cloud Hypervisor API\r\nConnection: keep-alive\r\n"

static void success_has_no_reason_phrase(void **state)
{
	assert_response(&(struct http_response){.status = 200, .body = "{}"},
			"HTTP/1.1 200 \r\n" HEAD
			"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
}

static void no_content_says_nothing_of_length_or_type(void **state)
{
	assert_response(&(struct http_response){.status = 204}, "HTTP/1.1 204 \r\n" HEAD "\r\n");
}

static void too_many_requests_has_its_phrase(void **state)
{
	assert_response(&(struct http_response){.status = 429, .body = "[]", .close = true},
			"HTTP/1.1 429 Too Many Requests\r\nServer: Cloud Hypervisor API\r\n"
			"Connection: close\r\n"
			"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]");
}

static void answer_without_body_has_length_zero(void **state)
{
	assert_response(&(struct http_response){.status = 400},
			"HTTP/1.1 400 \r\n" HEAD "Content-Length: 0\r\n\r\n");
}

#define parser_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		parser_test(request_is_the_same_however_it_is_cut),
		parser_test(parser_stops_behind_each_pipelined_request),
		parser_test(chunked_body_is_put_together),
		parser_test(content_length_zero_is_no_body),
		parser_test(continue_is_wanted_once_and_only_while_a_body_is_missing),
		parser_test(other_expectations_are_refused),
		parser_test(connection_header_and_version_say_whether_it_stays),
		parser_test(offer_to_upgrade_is_passed_over),
		parser_test(what_is_not_http_is_refused),
		parser_test(long_lines_are_accepted_and_endless_ones_refused),
		parser_test(request_has_begun_from_its_first_byte_to_its_last),
		parser_test(body_may_cross_the_bound_of_the_head),
		parser_test(body_of_four_mib_is_accepted_and_one_byte_more_refused),
		cmocka_unit_test(success_has_no_reason_phrase),
		cmocka_unit_test(no_content_says_nothing_of_length_or_type),
		cmocka_unit_test(too_many_requests_has_its_phrase),
		cmocka_unit_test(answer_without_body_has_length_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
