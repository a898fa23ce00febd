/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line per message to stderr or a file, as text or as JSON.
 *
 * Text lines read `coracle: <seconds since start>: <thread> WARN: file.c:12 -- message`; the level
 * words (ERRO, WARN, INFO, DEBG, TRCE) are those by which orchestrators sort Cloud Hypervisor's
 * log. Any thread may log at any time; a line is one write(2), so lines of several threads never
 * mix. Messages that a guest can cause must be rate limited: log_warn_limited() and
 * log_info_limited().
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Starts the clock of the lines; the first line starts it where nobody else did. Main thread, once,
 * when the process begins. */
void log_start(void);

/* Lets through messages up to `level`. Any thread. */
void log_set_level(enum log_level level);

/* Chooses the shape of the lines. Call before other threads exist. */
void log_set_format(enum log_format format);

/* Sends the log to `fd` from now on (borrowed; must stay open). Call before other threads exist. */
void log_set_fd(int fd);

/* Names the calling thread in its messages; thread_start() does it. At most 15 bytes, copied. */
void log_set_thread_name(const char *name);

/* Whether a message of that level would be written. */
bool log_enabled(enum log_level level);

/* One message; use the macros below. */
void log_write(enum log_level level, const char *file, int line, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* Allows `burst` messages, then one a second. Zero-initialised with `burst` set; shared by threads
 * without a lock. */
struct log_limit {
	unsigned burst;
	unsigned used;
	uint64_t last_ns;
	uint64_t suppressed;
};

/* Whether a message may be written now; *ret_suppressed = how many were held back before it. */
bool log_limit_pass(struct log_limit *limit, uint64_t *ret_suppressed);

#define log_at(level, ...)                                                 \
	do {                                                               \
		if (log_enabled(level))                                    \
			log_write(level, __FILE__, __LINE__, __VA_ARGS__); \
	} while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_trace(...) log_at(LOG_TRACE, __VA_ARGS__)

/* For what a guest or a client can cause as often as it likes: a few, then one a second with a
 * count. */
#define log_limited(level, ...)                                                         \
	do {                                                                            \
		static struct log_limit limit_ = {.burst = 5};                          \
		uint64_t suppressed_ = 0;                                               \
		if (log_enabled(level) && log_limit_pass(&limit_, &suppressed_)) {      \
			if (suppressed_)                                                \
				log_write(level, __FILE__, __LINE__,                    \
					  "%llu messages like the next were held back", \
					  (unsigned long long)suppressed_);             \
			log_write(level, __FILE__, __LINE__, __VA_ARGS__);              \
		}                                                                       \
	} while (0)
#define log_warn_limited(...) log_limited(LOG_WARN, __VA_ARGS__)
#define log_info_limited(...) log_limited(LOG_INFO, __VA_ARGS__)

#endif
