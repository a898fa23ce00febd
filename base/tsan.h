/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ThreadSanitizer has to be told.
 *
 * It sees the order that locks, atomics and the libc's calls make between threads, and not what the
 * kernel orders by itself: a library's own system calls, requests that complete in a ring. Both
 * ends of such an order name the same object here. In other builds this is nothing.
 */
#ifndef BASE_TSAN_H
#define BASE_TSAN_H

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif

#if THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

/* All that this thread did before comes before what others do after tsan_acquire(object). */
static inline void tsan_release(void *object)
{
#if THREAD_SANITIZER
	__tsan_release(object);
#else
	(void)object;
#endif
}

static inline void tsan_acquire(void *object)
{
#if THREAD_SANITIZER
	__tsan_acquire(object);
#else
	(void)object;
#endif
}

#endif
