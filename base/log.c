/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A line is composed on the caller's stack and written by one write(2). The log must never hold up
 * the machine: where the reader of a pipe or a terminal has stopped reading, the line is dropped
 * and counted, and the count is told when there is room again. `lock` makes "is there room?" and
 * the write one step among our threads, and guards `lost` and `torn`; it is held for no longer than
 * one write that does not wait. A line is shorter than PIPE_BUF, so that a pipe takes it whole.
 *
 * The level is read by every thread without the lock; format and fd change only while there is one
 * thread.
 */
#include "base/log.h"

#include "base/loop.h"
#include "base/utf8.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM	    "coracle"
#define LINE_MAX_   4000 /* under PIPE_BUF, with room for a leading newline */
#define MESSAGE_MAX 2048

static const char *const level_words[] = {"ERRO", "WARN", "INFO", "DEBG", "TRCE"};

static atomic_int max_level = LOG_WARN;
static enum log_format format = LOG_FORMAT_TEXT;
static int log_fd = STDERR_FILENO;
static atomic_ullong start_ns;
static _Thread_local char thread_name[16];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t lost; /* lines dropped since the last one that got out; under lock */
static bool torn;     /* the last line got out in part, without its newline; under lock */

void log_start(void)
{
	atomic_store(&start_ns, loop_now_ns());
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void log_set_format(enum log_format new_format)
{
	format = new_format;
}

void log_set_fd(int fd)
{
	log_fd = fd;
}

void log_set_thread_name(const char *name)
{
	snprintf(thread_name, sizeof(thread_name), "%s", name);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

/* Threads of libraries have only the kernel's name for them. */
static const char *my_name(void)
{
	if (!thread_name[0]) {
		if (gettid() == getpid())
			log_set_thread_name("main");
		else if (pthread_getname_np(pthread_self(), thread_name, sizeof(thread_name)) != 0)
			log_set_thread_name("?");
	}
	return thread_name;
}

static uint64_t since_start_us(void)
{
	unsigned long long now = loop_now_ns();
	unsigned long long start = 0;

	if (atomic_compare_exchange_strong(&start_ns, &start, now))
		start = now;
	/* Another thread may have been the first, a moment after our clock reading. */
	return now > start ? (now - start) / 1000 : 0;
}

/* --- composing ------------------------------------------------------------------------------ */

struct line {
	size_t len;
	size_t limit; /* where text must end for the tail to fit */
	char text[LINE_MAX_ + 1];
};

static void PRINTF_LIKE(2, 3) line_printf(struct line *line, const char *fmt, ...)
{
	size_t room = line->limit - line->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line->text + line->len, room + 1, fmt, ap);
	va_end(ap);
	if (n > 0)
		line->len += MIN((size_t)n, room);
}

/* C0, DEL and C1: they move the cursor, or start a new line that looks like ours. */
static bool is_control(const char *s, size_t n)
{
	uint8_t first = (uint8_t)s[0];

	if (n == 1)
		return first < 0x20 || first == 0x7f;
	return n == 2 && first == 0xc2 && (uint8_t)s[1] < 0xa0;
}

static size_t escape_text(char out[16], const char *s, size_t n)
{
	int len = 0;

	if (n == 1 && *s == '\n')
		return (size_t)snprintf(out, 16, "\\n");
	for (size_t i = 0; i < MAX(n, (size_t)1); i++)
		len += snprintf(out + len, 16 - (size_t)len, "\\x%02x", (uint8_t)s[i]);
	return (size_t)len;
}

static size_t escape_json(char out[16], const char *s, size_t n)
{
	if (!n) /* not UTF-8: the replacement character */
		return (size_t)snprintf(out, 16, "\\ufffd");
	if (n == 2)
		return (size_t)snprintf(out, 16, "\\u%04x", (uint8_t)s[1]);
	if (*s == '"' || *s == '\\')
		return (size_t)snprintf(out, 16, "\\%c", *s);
	return (size_t)snprintf(out, 16, "\\u%04x", (uint8_t)*s);
}

/* Appends s with what could do harm escaped, cut at a whole character. */
static void line_escaped(struct line *line, const char *s, bool json)
{
	size_t left = strlen(s);

	while (left) {
		size_t n = utf8_char_len(s, left);
		char escaped[16];
		const char *out = s;
		size_t out_len = n;

		if (!n || is_control(s, n) || (json && n == 1 && (*s == '"' || *s == '\\'))) {
			out_len = json ? escape_json(escaped, s, n) : escape_text(escaped, s, n);
			out = escaped;
		}
		if (out_len > line->limit - line->len)
			return;
		memcpy(line->text + line->len, out, out_len);
		line->len += out_len;
		n = MAX(n, (size_t)1);
		s += n;
		left -= n;
	}
}

static void line_tail(struct line *line, const char *tail)
{
	line->limit = LINE_MAX_;
	line_printf(line, "%s", tail);
}

static void compose_text(struct line *line, enum log_level level, const char *file, int number,
			 const char *msg)
{
	uint64_t us = since_start_us();

	line_printf(line, PROGRAM ": %llu.%06llu: ", (unsigned long long)(us / 1000000),
		    (unsigned long long)(us % 1000000));
	line_escaped(line, my_name(), false);
	line_printf(line, " %s: %s:%d -- ", level_words[level], file, number);
	line_escaped(line, msg, false);
	line_tail(line, "\n");
}

static void compose_json(struct line *line, enum log_level level, const char *file, int number,
			 const char *msg)
{
	struct timespec now;

	/* Not as a date: gmtime_r() would open the time zone's file, from whatever thread. */
	clock_gettime(CLOCK_REALTIME, &now);
	line_printf(line, "{\"ts\":%lld.%06ld,\"level\":\"%s\",\"thread\":\"",
		    (long long)now.tv_sec, now.tv_nsec / 1000, level_words[level]);
	line_escaped(line, my_name(), true);
	line_printf(line, "\",\"file\":\"");
	line_escaped(line, file, true);
	line_printf(line, "\",\"line\":%d,\"msg\":\"", number);
	line_escaped(line, msg, true);
	line_tail(line, "\"}\n");
}

static void compose(struct line *line, enum log_level level, const char *file, int number,
		    const char *msg)
{
	const char *slash = strrchr(file, '/');

	line->len = 0;
	line->limit = LINE_MAX_ - 8; /* the longest tail is shorter */
	if (slash)
		file = slash + 1;
	if (format == LOG_FORMAT_JSON)
		compose_json(line, level, file, number, msg);
	else
		compose_text(line, level, file, number, msg);
}

/* --- writing -------------------------------------------------------------------------------- */

/* Writes a line if that needs no waiting. Under lock. Returns whether it got out. */
static bool emit(const char *text, size_t len)
{
	struct pollfd room = {.fd = log_fd, .events = POLLOUT};
	char whole[LINE_MAX_ + 2];
	ssize_t n;

	if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
		return false;
	if (torn) {
		whole[0] = '\n';
		memcpy(whole + 1, text, len);
		text = whole;
		len++;
	}
	do {
		n = write(log_fd, text, len);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	torn = (size_t)n < len;
	return !torn;
}

static void emit_or_count(const struct line *line)
{
	struct line note;
	char msg[80];

	pthread_mutex_lock(&lock);
	if (lost) {
		snprintf(msg, sizeof(msg), "%llu messages were lost: nobody read the log",
			 (unsigned long long)lost);
		compose(&note, LOG_WARN, __FILE__, __LINE__, msg);
		if (emit(note.text, note.len))
			lost = 0;
	}
	if (lost || !emit(line->text, line->len))
		lost++;
	pthread_mutex_unlock(&lock);
}

void log_write(enum log_level level, const char *file, int line_number, const char *fmt, ...)
{
	int saved_errno = errno;
	char msg[MESSAGE_MAX];
	struct line line;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	compose(&line, level, file, line_number, n < 0 ? fmt : msg);
	emit_or_count(&line);
	errno = saved_errno;
}

/* --- rate limit ----------------------------------------------------------------------------- */

bool log_limit_pass(struct log_limit *limit, uint64_t *ret_suppressed)
{
	uint64_t now = loop_now_ns();
	uint64_t last = __atomic_load_n(&limit->last_ns, __ATOMIC_RELAXED);
	bool pass;

	if (__atomic_load_n(&limit->used, __ATOMIC_RELAXED) < limit->burst &&
	    __atomic_fetch_add(&limit->used, 1, __ATOMIC_RELAXED) < limit->burst) {
		__atomic_store_n(&limit->last_ns, now, __ATOMIC_RELAXED);
		pass = true;
	} else {
		/* Of several threads that find the second over, the exchange lets one through. */
		pass = now > last && now - last >= 1000000000 &&
		       __atomic_compare_exchange_n(&limit->last_ns, &last, now, false,
						   __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	if (pass)
		*ret_suppressed = __atomic_exchange_n(&limit->suppressed, 0, __ATOMIC_RELAXED);
	else
		__atomic_fetch_add(&limit->suppressed, 1, __ATOMIC_RELAXED);
	return pass;
}
