/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The stream itself never ends. Without --follow, a first stream, opened
 * without a position, says at once which event is the newest; a second one is then read up to that
 * number. Fields of the stream follow the WHATWG's "Server-sent events": lines of `field: value`,
 * an empty line behind each message.
 */
#include "shim/ctl/events.h"

#include "base/json.h"
#include "shim/ctl/client.h"
#include "shim/ctl/show.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_LIMIT (64u * 1024)
#define STOP	   1 /* of the callbacks: enough was read */

struct reader {
	const struct events_options *options;
	struct buf line;  /* the line that is being read */
	struct buf data;  /* of the message that is being read */
	bool is_gap;	  /* the message tells that events are missing */
	bool has_id;	  /* a position came with some message */
	uint64_t last_id; /* the newest position */
	uint64_t until;	  /* stop behind it */
};

static void show_gap(const struct json *gap)
{
	const char *reason = json_string(json_member(gap, "reason"));

	fprintf(stderr, "coraclectl: events %" PRId64 " to %" PRId64 " are gone%s\n",
		json_int(json_member(gap, "missed_from")), json_int(json_member(gap, "missed_to")),
		reason && strcmp(reason, "unknown-id") == 0 ? " (that was another process)" : "");
}

static void print_message(struct reader *r)
{
	AUTO_JSON struct json *json = json_parse((const char *)r->data.data, r->data.len, NULL);

	if (!json)
		return;
	if (r->is_gap)
		show_gap(json);
	else if (r->options->json)
		printf("%.*s\n", (int)r->data.len, (const char *)r->data.data);
	else
		show_event(json);
	fflush(stdout);
}

static void end_message(struct reader *r)
{
	if (r->data.len)
		print_message(r);
	r->data.len = 0;
	r->is_gap = false;
}

/* The value behind "name: " or "name:", NULL when the line has another field. */
static const char *field_value(const char *line, const char *name)
{
	size_t len = strlen(name);

	if (strncmp(line, name, len) != 0 || line[len] != ':')
		return NULL;
	return line + len + (line[len + 1] == ' ' ? 2 : 1);
}

static void read_line(struct reader *r, const char *line)
{
	const char *value;

	if (!*line) {
		end_message(r);
	} else if ((value = field_value(line, "id"))) {
		r->last_id = strtoull(value, NULL, 10);
		r->has_id = true;
	} else if ((value = field_value(line, "event"))) {
		r->is_gap = strcmp(value, "gap") == 0;
	} else if ((value = field_value(line, "data"))) {
		buf_put(&r->data, value, strlen(value));
	}
}

static int on_data(void *arg, const char *bytes, size_t len)
{
	struct reader *r = arg;
	bool ended;

	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != '\n') {
			buf_put(&r->line, &bytes[i], 1);
			if (r->line.len > LINE_LIMIT || r->data.len > LINE_LIMIT)
				return -EBADMSG;
			continue;
		}
		buf_u8(&r->line, 0);
		if (!buf_ok(&r->line) || !buf_ok(&r->data))
			return -ENOMEM;
		ended = r->line.len == 1;
		read_line(r, (const char *)r->line.data);
		r->line.len = 0;
		/* A number stands before the data that it belongs to: only the empty line ends. */
		if (ended && r->has_id && r->last_id >= r->until)
			return STOP;
	}
	return 0;
}

static int read_stream(const char *path, struct reader *r, const char *last_event_id,
		       struct err *err)
{
	const struct client_request request = {
		.method = "GET", .verb = "vmm.events", .last_event_id = last_event_id};
	AUTO_CLIENT struct client c = CLIENT_INIT;
	struct client_response response = {0};
	int rc = client_connect(&c, path, err);

	if (rc == 0)
		rc = client_stream(&c, &request, -1, on_data, r, &response, err);
	if (rc == 0 && response.status != 200)
		rc = err_set(err, -EPROTO, "vmm.events was answered with status %d: %.*s",
			     response.status, (int)response.body.len,
			     response.body.data ? (const char *)response.body.data : "");
	else if (rc < 0 && !err_count(err))
		err_set_errno(err, rc, "the event stream cannot be read");
	buf_fini(&response.body);
	buf_fini(&r->line);
	buf_fini(&r->data);
	return MIN(rc, 0);
}

/* The number of the newest event. */
static int find_newest(const char *path, uint64_t *ret_seq, struct err *err)
{
	/* Any position will do: the first that comes is that of the newest event. */
	struct reader r = {.until = 0};
	int rc = read_stream(path, &r, NULL, err);

	if (rc == 0 && !r.has_id)
		rc = err_set(err, -EPROTO, "the event stream did not say where it begins");
	*ret_seq = r.last_id;
	return rc;
}

int events_print(const char *path, const struct events_options *options, struct err *err)
{
	struct reader r = {.options = options, .until = UINT64_MAX};
	uint64_t since = options->has_since ? options->since : 0;
	char last_event_id[24];
	int rc;

	snprintf(last_event_id, sizeof(last_event_id), "%" PRIu64, since);
	if (options->follow)
		return read_stream(path, &r, options->has_since ? last_event_id : NULL, err);
	rc = find_newest(path, &r.until, err);
	if (rc < 0 || r.until <= since)
		return rc;
	return read_stream(path, &r, last_event_id, err);
}
