/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 for a server: bytes to requests, answers to bytes (RFC 9112; llhttp inside).
 *
 * Theory of operation
 *
 * A parser takes bytes as they come, in pieces of any size, and stops behind the last byte of each
 * request, so that whoever owns the connection decides when the next one is looked at. It keeps of
 * a request what is asked for below and nothing else. Everything is bounded: request line and
 * headers together by HTTP_MAX_HEAD, the body, chunked or not, by HTTP_MAX_BODY. After an error
 * there is no telling where the next request would begin: answer it and close the connection.
 *
 * Answers are in the dialect that Cloud Hypervisor's clients need: no reason phrase (some parse all
 * that follows the version as a number) but for 429, by whose phrase others recognise it; header
 * names in exactly this spelling; nothing about length or type in a 204.
 *
 * Not locked: a parser belongs to one thread at a time.
 */
#ifndef BASE_HTTP_H
#define BASE_HTTP_H

#include "base/cursor.h"
#include "base/err.h"

enum {
	HTTP_MAX_HEAD = 16 * 1024,	 /* request line and headers, bytes */
	HTTP_MAX_BODY = 4 * 1024 * 1024, /* bytes, decoded */
};

enum http_method { HTTP_METHOD_GET, HTTP_METHOD_PUT, HTTP_METHOD_OTHER };

struct http_request {
	enum http_method method;
	const char *method_name; /* "GET", "PATCH", ... */
	const char *target;	 /* as sent: "/api/v1/vmm.ping"; may hold bytes beyond ASCII */
	const char *body;	 /* not terminated, may hold anything; NULL when body_len is 0 */
	size_t body_len;
	bool keep_alive;	/* the client will use the connection again */
	bool has_last_event_id; /* a Last-Event-ID header was there */
	char last_event_id[64]; /* its value, cut */
};

struct http_parser;

/* A new parser, to be freed by http_parser_free(); NULL when out of memory. */
struct http_parser *http_parser_new(void);
void http_parser_free(struct http_parser *p); /* NULL is fine */

/*
 * Parses data[0..len). Returns 1 when a request is complete (see http_parser_request(); call
 * http_parser_next() before feeding more), 0 when more bytes are needed (then all were used), or
 * negative errno with err set: -EBADMSG (not HTTP, or beyond the limits; ERR_BAD_REQUEST), -ENOMEM.
 * *ret_used = how many bytes belong to what was parsed.
 */
int http_parser_feed(struct http_parser *p, const void *data, size_t len, size_t *ret_used,
		     struct err *err);

/* The complete request; valid until http_parser_next(). */
const struct http_request *http_parser_request(const struct http_parser *p);

/* Forgets the request and gets ready for the next one. */
void http_parser_next(struct http_parser *p);

/* Whether some bytes of a request have come, and others are still to come. */
bool http_parser_has_begun(const struct http_parser *p);

/* How much memory the request takes until now, bytes. */
size_t http_parser_held(const struct http_parser *p);

/* Whether the client waits for a "100 Continue" before it sends the body. True once per request;
 * never when there is no body or some of it is there. */
bool http_parser_take_continue(struct http_parser *p);

struct http_response {
	int status;
	const char *body; /* JSON, ASCII; NULL = none */
	bool close;	  /* the connection ends with it */
};

/* Appends the whole answer. Out of memory shows as !buf_ok(out). */
void http_put_response(struct buf *out, const struct http_response *response);

/* Appends the head of an answer whose body goes on until the connection is closed. */
void http_put_stream_head(struct buf *out, const char *content_type);

/* Appends the interim answer that lets the client send its body. */
void http_put_continue(struct buf *out);

#endif
