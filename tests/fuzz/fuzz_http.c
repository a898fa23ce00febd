/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP parser must say the same of the same bytes however they are cut into pieces. */
#include "base/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct summary {
	unsigned requests;
	size_t used;
	size_t body_bytes;
	uint64_t hash;
	bool refused;
};

static void add_text(struct summary *s, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s->hash = (s->hash ^ (uint8_t)text[i]) * 1099511628211u;
}

static struct summary parse(const uint8_t *data, size_t size, size_t step)
{
	struct summary s = {0};
	struct http_parser *p = http_parser_new();

	while (p && s.used < size) {
		size_t used;
		int rc = http_parser_feed(p, data + s.used, MIN(step, size - s.used), &used, NULL);

		s.refused = rc < 0;
		if (rc < 0)
			break;
		s.used += used;
		if (rc > 0) {
			const struct http_request *r = http_parser_request(p);

			s.requests++;
			s.body_bytes += r->body_len;
			add_text(&s, r->target, strlen(r->target));
			add_text(&s, r->body, r->body_len);
			add_text(&s, r->last_event_id, strlen(r->last_event_id));
			http_parser_next(p);
		}
	}
	http_parser_free(p);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct summary whole, pieces;

	if (size < 1)
		return 0;
	whole = parse(data + 1, size - 1, size);
	pieces = parse(data + 1, size - 1, 1 + data[0] % 32);
	if (whole.requests != pieces.requests || whole.refused != pieces.refused ||
	    whole.hash != pieces.hash || whole.body_bytes != pieces.body_bytes)
		abort();
	return 0;
}
