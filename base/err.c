/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One message may take half of the text, so that a long path at the origin leaves room for what
 * the levels above have to say. */
#define MESSAGE_MAX (ERR_TEXT_MAX / 2)

/* Messages quote what clients and files gave us, and leave as JSON, which must be UTF-8: other
 * bytes become '?'. A character that was cut at the end goes. */
static size_t sanitise(char *msg, size_t len, bool cut)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_char_len(msg + i, len - i);

		if (!n && cut && len - i < 4 && (msg[i] & 0xc0) == 0xc0) {
			len = i;
			break;
		}
		if (!n) {
			msg[i] = '?';
			n = 1;
		}
		i += n;
	}
	msg[len] = '\0';
	return len;
}

/* Formats into msg; the arguments may point into the struct err that the message is meant for. */
static size_t PRINTF_LIKE(2, 0) format_message(char msg[MESSAGE_MAX], const char *fmt, va_list ap)
{
	int n = vsnprintf(msg, MESSAGE_MAX, fmt, ap);

	if (n < 0)
		n = snprintf(msg, MESSAGE_MAX, "(a message that cannot be formatted)");
	if (n >= MESSAGE_MAX)
		return sanitise(msg, MESSAGE_MAX - 1, true);
	return sanitise(msg, (size_t)n, false);
}

static void append(struct err *err, char *msg, size_t len)
{
	size_t room = ERR_TEXT_MAX - err->len;

	if (room < 2)
		return;
	if (len >= room)
		len = sanitise(msg, room - 1, true);
	memcpy(err->text + err->len, msg, len + 1);
	err->len += len + 1;
	err->count++;
}

static void start(struct err *err, enum err_kind kind, int code)
{
	err->code = code;
	err->kind = kind;
	err->count = 0;
	err->len = 0;
}

/* Begins the chain anew. The message is made first: its arguments may lie in what `err` held. */
static void set(struct err *err, enum err_kind kind, int code, const char *fmt, va_list ap)
{
	char msg[MESSAGE_MAX];
	size_t len = format_message(msg, fmt, ap);

	start(err, kind, code);
	append(err, msg, len);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	set(err, ERR_INTERNAL, code, fmt, ap);
	va_end(ap);
	return code;
}

int err_set_kind(struct err *err, enum err_kind kind, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	set(err, kind, code, fmt, ap);
	va_end(ap);
	return code;
}

int err_set_errno(struct err *err, int code, const char *fmt, ...)
{
	char reason[64];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	set(err, ERR_INTERNAL, code, fmt, ap);
	va_end(ap);

	/* Behind the message, over its terminator: there is room, a message fills half at most. */
	err->len--;
	err->len += (uint16_t)snprintf(err->text + err->len, ERR_TEXT_MAX - err->len, ": %s",
				       strerror_r(-code, reason, sizeof(reason)));
	err->len++;
	return code;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
	char msg[MESSAGE_MAX];
	va_list ap;
	size_t len;

	if (!err)
		return code;
	va_start(ap, fmt);
	len = format_message(msg, fmt, ap);
	va_end(ap);
	if (!err->count)
		start(err, err->kind, code);
	append(err, msg, len);
	return code;
}

size_t err_count(const struct err *err)
{
	return err ? err->count : 0;
}

const char *err_message(const struct err *err, size_t i)
{
	const char *msg;

	if (!err || i >= err->count)
		return "";
	msg = err->text;
	for (size_t skip = err->count - 1 - i; skip; skip--)
		msg += strlen(msg) + 1;
	return msg;
}

char *err_format(const struct err *err, char *buf, size_t len)
{
	size_t used = 0;

	if (!len)
		return buf;
	buf[0] = '\0';
	for (size_t i = 0; i < err_count(err) && used < len; i++)
		used += (size_t)snprintf(buf + used, len - used, "%s%s", i ? ": " : "",
					 err_message(err, i));
	return buf;
}
