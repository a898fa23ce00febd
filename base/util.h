/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that every file needs: sizes, overflow-checked arithmetic, cleanup attributes. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define KIB	      ((uint64_t)1 << 10)
#define MIB	      ((uint64_t)1 << 20)
#define GIB	      ((uint64_t)1 << 30)

#define MIN(a, b)                                  \
	({                                         \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})
#define MAX(a, b)                                  \
	({                                         \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

/* The struct that embeds `member` at address `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Set where the compiler instruments memory accesses: frames are several times as large, and the
 * process needs terabytes of addresses. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define WARN_UNUSED	       __attribute__((warn_unused_result))
#define CLEANUP(fn)	       __attribute__((cleanup(fn)))

/* Rounds `v` up to a multiple of `align` (a power of two). The caller knows that it does not wrap.
 */
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

/* Rounds `v` down to a multiple of `align` (a power of two). */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline bool is_power_of_two(uint64_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

/* Whether [start, start + len) lies within [base, base + size). Never wraps: subtract, then
 * compare. */
static inline bool range_within(uint64_t start, uint64_t len, uint64_t base, uint64_t size)
{
	return start >= base && start - base <= size && len <= size - (start - base);
}

/* Whether [a, a + a_len) and [b, b + b_len) share a byte. Neither range may wrap. */
static inline bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len && b_len && (a < b ? b - a < a_len : a - b < b_len);
}

static inline void free_ptr_(void *p)
{
	free(*(void **)p);
}

/* Frees the pointer when it goes out of scope; hand ownership on with TAKE(). */
#define AUTO_FREE CLEANUP(free_ptr_)

/* The value of pointer `p`, leaving NULL behind, so that its cleanup does nothing. */
#define TAKE(p)                            \
	({                                 \
		__typeof__(p) take_ = (p); \
		(p) = NULL;                \
		take_;                     \
	})

#endif
