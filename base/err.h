/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error that reaches an operator.
 *
 * A control-plane function that fails returns a negative errno and, where its caller gave a struct
 * err, fills it once at the origin (err_set) and lets each level above add what it was trying to do
 * (err_wrap). The result is a chain of sentences, outermost first, which the API sends as its JSON
 * array and the command line prints.
 *
 * Every function here accepts err == NULL and then only returns the code. A struct err is plain
 * memory: it owns nothing and needs no clean-up. Not thread safe; each thread uses its own.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/util.h"

#define ERR_TEXT_MAX 1024

/* What kind of answer an API client should get; errno alone cannot tell "no VM" from "no file". */
enum err_kind {
	ERR_INTERNAL,	 /* 500: a host, device or state error; the default */
	ERR_BAD_REQUEST, /* 400: the request or the configuration is wrong */
	ERR_NOT_FOUND,	 /* 404: no VM, or no device of that id */
	ERR_CONFLICT,	 /* 409: id or path already taken */
	ERR_BUSY,	 /* 429: try again later */
};

struct err {
	int code; /* negative errno of the origin; 0 while nothing is set */
	enum err_kind kind;
	uint16_t count;		 /* messages held */
	uint16_t len;		 /* bytes used of text, terminators included */
	char text[ERR_TEXT_MAX]; /* messages, innermost first, each NUL-terminated; cut when full */
};

#define ERR_INIT          \
	{                 \
		.code = 0 \
	}

/* Starts a chain with its innermost message; what `err` held before is gone. `code`: negative
 * errno. Returns code. */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Like err_set(), with the kind of API answer. */
int err_set_kind(struct err *err, enum err_kind kind, int code, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* Like err_set() with ": " and the text of errno `-code` behind the message. */
int err_set_errno(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Adds an outer message to what is there; kind and code of the origin stay. Returns code. */
int err_wrap(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Number of messages; 0 when nothing is set. */
size_t err_count(const struct err *err);

/* Message i, 0 being the outermost; "" when there is none. Valid until `err` changes. */
const char *err_message(const struct err *err, size_t i);

/* Writes the chain "outer: inner: innermost" into buf, always terminated; cut when it does not fit.
 * Returns buf. */
char *err_format(const struct err *err, char *buf, size_t len);

#endif
