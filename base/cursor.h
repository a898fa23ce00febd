/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded reading of untrusted bytes, and bounded writing. A cursor that once ran past its end
 * stays failed, gives zeroes and moves no further: read a whole structure, then ask cursor_ok()
 * once.
 */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include "base/util.h"

struct cursor {
	const uint8_t *data; /* borrowed */
	size_t len;
	size_t pos;
	bool failed;
};

static inline struct cursor cursor_init(const void *data, size_t len)
{
	return (struct cursor){.data = data, .len = len};
}

static inline bool cursor_ok(const struct cursor *c)
{
	return !c->failed;
}

static inline size_t cursor_left(const struct cursor *c)
{
	return c->failed ? 0 : c->len - c->pos;
}

/* Little-endian integers. */
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_le16(struct cursor *c);
uint32_t cursor_le32(struct cursor *c);
uint64_t cursor_le64(struct cursor *c);

/* Copies n bytes to dst; dst is zeroed when they are not there. */
void cursor_bytes(struct cursor *c, void *dst, size_t n);

/* The next n bytes in place, NULL (and failed) when they are not there. */
const void *cursor_slice(struct cursor *c, size_t n);

void cursor_skip(struct cursor *c, size_t n);

/* Goes to an absolute position; past the end fails. */
void cursor_seek(struct cursor *c, size_t pos);

/* A growing byte buffer. Once out of memory it stays failed. Zero-initialise; free with buf_fini().
 */
struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
	bool failed;
};

void buf_fini(struct buf *b);
void buf_put(struct buf *b, const void *src, size_t n);
void buf_u8(struct buf *b, uint8_t v);
void buf_le16(struct buf *b, uint16_t v);
void buf_le32(struct buf *b, uint32_t v);
void buf_le64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3); /* without the terminator */

static inline bool buf_ok(const struct buf *b)
{
	return !b->failed;
}

#define AUTO_BUF CLEANUP(buf_fini)

#endif
