/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http.h"

#include <errno.h>
#include <llhttp.h>
#include <string.h>
#include <strings.h>

/* Headers that are looked at. llhttp itself sees to those that frame the message. */
enum header { HEADER_OTHER, HEADER_EXPECT, HEADER_LAST_EVENT_ID };

struct http_parser {
	llhttp_t llhttp;
	struct http_request request;
	struct buf target;
	struct buf body;
	size_t head_bytes;
	bool head_done;
	bool complete;
	bool expects_continue;

	char name[32]; /* of the header being read, cut */
	size_t name_len;
	char value[64]; /* cut; longer than any value that means something */
	size_t value_len;

	int fault; /* negative errno that a callback stopped the parser with */
	struct err *err;
};

static int stop(struct http_parser *p, int code, const char *text)
{
	p->fault = code;
	if (code == -ENOMEM)
		err_set_errno(p->err, code, "%s", text);
	else
		err_set_kind(p->err, ERR_BAD_REQUEST, code, "%s", text);
	return HPE_USER;
}

/* --- what llhttp reports ---------------------------------------------------------------------- */

static int on_url(llhttp_t *llhttp, const char *at, size_t len)
{
	struct http_parser *p = llhttp->data;

	buf_put(&p->target, at, len);
	return buf_ok(&p->target) ? 0 : stop(p, -ENOMEM, "Cannot keep the request target");
}

static void append_cut(char *dst, size_t size, size_t *len, const char *at, size_t n)
{
	n = MIN(n, size - 1 - *len);
	memcpy(dst + *len, at, n);
	*len += n;
	dst[*len] = '\0';
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t len)
{
	struct http_parser *p = llhttp->data;

	append_cut(p->name, sizeof(p->name), &p->name_len, at, len);
	return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t len)
{
	struct http_parser *p = llhttp->data;

	append_cut(p->value, sizeof(p->value), &p->value_len, at, len);
	return 0;
}

static enum header header_of(const char *name)
{
	if (!strcasecmp(name, "expect"))
		return HEADER_EXPECT;
	if (!strcasecmp(name, "last-event-id"))
		return HEADER_LAST_EVENT_ID;
	return HEADER_OTHER;
}

static int on_header_complete(llhttp_t *llhttp)
{
	struct http_parser *p = llhttp->data;
	enum header header = header_of(p->name_len ? p->name : "");

	if (!p->value_len)
		p->value[0] = '\0';
	p->name_len = p->value_len = 0;
	/* What follows a chunked body are trailers: nothing that is looked at may stand there. */
	if (p->head_done)
		return 0;
	switch (header) {
	case HEADER_EXPECT:
		if (strcasecmp(p->value, "100-continue"))
			return stop(p, -EBADMSG,
				    "The only expectation that is met is "
				    "100-continue");
		p->expects_continue = true;
		return 0;
	case HEADER_LAST_EVENT_ID:
		memcpy(p->request.last_event_id, p->value, sizeof(p->value));
		p->request.has_last_event_id = true;
		return 0;
	case HEADER_OTHER: return 0;
	}
	return 0;
}

static int on_headers_complete(llhttp_t *llhttp)
{
	struct http_parser *p = llhttp->data;

	p->head_done = true;
	/* No other protocol is spoken here, so an offer to change to one is passed over. */
	llhttp->upgrade = 0;
	if (llhttp->http_major != 1 || llhttp->http_minor > 1)
		return stop(p, -EBADMSG, "HTTP/1.0 and HTTP/1.1 are spoken here");
	if (!(llhttp->flags & F_CHUNKED) && llhttp->content_length > HTTP_MAX_BODY)
		return stop(p, -EBADMSG, "The body is larger than 4 MiB");
	return 0;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t len)
{
	struct http_parser *p = llhttp->data;

	if (len > HTTP_MAX_BODY - p->body.len)
		return stop(p, -EBADMSG, "The body is larger than 4 MiB");
	buf_put(&p->body, at, len);
	return buf_ok(&p->body) ? 0 : stop(p, -ENOMEM, "Cannot keep the request's body");
}

static int on_message_complete(llhttp_t *llhttp)
{
	struct http_parser *p = llhttp->data;
	struct http_request *r = &p->request;

	buf_u8(&p->target, '\0');
	if (!buf_ok(&p->target))
		return stop(p, -ENOMEM, "Cannot keep the request target");
	r->method = llhttp->method == HTTP_GET	 ? HTTP_METHOD_GET
		    : llhttp->method == HTTP_PUT ? HTTP_METHOD_PUT
						 : HTTP_METHOD_OTHER;
	r->method_name = llhttp_method_name((llhttp_method_t)llhttp->method);
	r->target = (const char *)p->target.data;
	r->body_len = p->body.len;
	r->body = p->body.len ? (const char *)p->body.data : NULL;
	r->keep_alive = llhttp_should_keep_alive(llhttp);
	p->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_url = on_url,
	.on_header_field = on_header_field,
	.on_header_value = on_header_value,
	.on_header_value_complete = on_header_complete,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

/* --- the parser ------------------------------------------------------------------------------- */

struct http_parser *http_parser_new(void)
{
	struct http_parser *p = calloc(1, sizeof(*p));

	if (p)
		http_parser_next(p);
	return p;
}

void http_parser_free(struct http_parser *p)
{
	if (!p)
		return;
	buf_fini(&p->target);
	buf_fini(&p->body);
	free(p);
}

void http_parser_next(struct http_parser *p)
{
	buf_fini(&p->target);
	buf_fini(&p->body);
	memset(p, 0, sizeof(*p));
	llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
	p->llhttp.data = p;
}

const struct http_request *http_parser_request(const struct http_parser *p)
{
	return &p->request;
}

static int parse_error(struct http_parser *p, struct err *err)
{
	if (p->fault)
		return p->fault;
	return err_set_kind(err, ERR_BAD_REQUEST, -EBADMSG, "Not an HTTP request: %s",
			    llhttp_get_error_reason(&p->llhttp));
}

int http_parser_feed(struct http_parser *p, const void *data, size_t len, size_t *ret_used,
		     struct err *err)
{
	size_t left = HTTP_MAX_HEAD - p->head_bytes;
	size_t n = p->head_done ? len : MIN(len, left);
	enum llhttp_errno rc;

	*ret_used = 0;
	if (p->complete)
		return 1;
	p->err = err;
	rc = llhttp_execute(&p->llhttp, data, n);
	p->err = NULL;
	if (p->complete) {
		*ret_used = (size_t)(llhttp_get_error_pos(&p->llhttp) - (const char *)data);
		return 1;
	}
	if (rc != HPE_OK)
		return parse_error(p, err);
	if (!p->head_done) {
		p->head_bytes += n;
		if (p->head_bytes == HTTP_MAX_HEAD)
			return err_set_kind(err, ERR_BAD_REQUEST, -EBADMSG,
					    "Request line and headers are longer than 16 KiB");
	} else if (n < len) {
		/* The head ended within the part that was let through. */
		size_t rest;
		int r = http_parser_feed(p, (const char *)data + n, len - n, &rest, err);

		*ret_used = n + rest;
		return r;
	}
	*ret_used = n;
	return 0;
}

bool http_parser_has_begun(const struct http_parser *p)
{
	return (p->head_bytes || p->head_done) && !p->complete;
}

size_t http_parser_held(const struct http_parser *p)
{
	return p->target.cap + p->body.cap;
}

bool http_parser_take_continue(struct http_parser *p)
{
	bool wanted = p->expects_continue && p->head_done && !p->complete && !p->body.len;

	if (wanted)
		p->expects_continue = false;
	return wanted;
}

/* --- answers ---------------------------------------------------------------------------------- */

#define SERVER "Server: Cloud Hypervisor API\r\n"

void http_put_response(struct buf *out, const struct http_response *response)
{
	size_t len = response->body ? strlen(response->body) : 0;

	buf_printf(out, "HTTP/1.1 %d %s\r\n" SERVER "Connection: %s\r\n", response->status,
		   response->status == 429 ? "Too Many Requests" : "",
		   response->close ? "close" : "keep-alive");
	if (response->status != 204) {
		if (len)
			buf_printf(out, "Content-Type: application/json\r\n");
		buf_printf(out, "Content-Length: %zu\r\n", len);
	}
	buf_put(out, "\r\n", 2);
	if (response->status != 204)
		buf_put(out, response->body, len);
}

void http_put_stream_head(struct buf *out, const char *content_type)
{
	buf_printf(out,
		   "HTTP/1.1 200 \r\n" SERVER "Connection: close\r\nContent-Type: %s\r\n"
		   "Cache-Control: no-store\r\n\r\n",
		   content_type);
}

void http_put_continue(struct buf *out)
{
	buf_printf(out, "HTTP/1.1 100 \r\n\r\n");
}
