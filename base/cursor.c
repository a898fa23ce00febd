/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cursor.h"

#include "base/endian.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const void *cursor_slice(struct cursor *c, size_t n)
{
	const uint8_t *p;

	if (c->failed || n > c->len - c->pos) {
		c->failed = true;
		return NULL;
	}
	/* Of an empty cursor without data, a slice of no bytes is still no failure. */
	p = c->data ? c->data + c->pos : (const uint8_t *)"";
	c->pos += n;
	return p;
}

static uint64_t get_le(struct cursor *c, size_t n)
{
	const void *p = cursor_slice(c, n);

	return p ? le_load(p, n) : 0;
}

uint8_t cursor_u8(struct cursor *c)
{
	return (uint8_t)get_le(c, 1);
}

uint16_t cursor_le16(struct cursor *c)
{
	return (uint16_t)get_le(c, 2);
}

uint32_t cursor_le32(struct cursor *c)
{
	return (uint32_t)get_le(c, 4);
}

uint64_t cursor_le64(struct cursor *c)
{
	return get_le(c, 8);
}

void cursor_bytes(struct cursor *c, void *dst, size_t n)
{
	const void *p = cursor_slice(c, n);

	if (!n)
		return; /* memcpy() and memset() want valid pointers even then */
	if (p)
		memcpy(dst, p, n);
	else
		memset(dst, 0, n);
}

void cursor_skip(struct cursor *c, size_t n)
{
	cursor_slice(c, n);
}

void cursor_seek(struct cursor *c, size_t pos)
{
	if (c->failed || pos > c->len)
		c->failed = true;
	else
		c->pos = pos;
}

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

/* Room for n more bytes at data + len. */
static bool reserve(struct buf *b, size_t n)
{
	size_t need, cap;
	uint8_t *data;

	if (b->failed)
		return false;
	if (n <= b->cap - b->len)
		return true;
	if (__builtin_add_overflow(b->len, n, &need) || need > (size_t)PTRDIFF_MAX)
		goto fail;
	cap = MAX(need, MIN(b->cap * 2, (size_t)PTRDIFF_MAX));
	cap = MAX(cap, (size_t)64);
	data = realloc(b->data, cap);
	if (!data)
		goto fail;
	b->data = data;
	b->cap = cap;
	return true;
fail:
	b->failed = true;
	return false;
}

void buf_put(struct buf *b, const void *src, size_t n)
{
	if (!n || !reserve(b, n))
		return;
	memcpy(b->data + b->len, src, n);
	b->len += n;
}

static void put_le(struct buf *b, uint64_t v, size_t n)
{
	if (!reserve(b, n))
		return;
	le_store(b->data + b->len, v, n);
	b->len += n;
}

void buf_u8(struct buf *b, uint8_t v)
{
	put_le(b, v, 1);
}

void buf_le16(struct buf *b, uint16_t v)
{
	put_le(b, v, 2);
}

void buf_le32(struct buf *b, uint32_t v)
{
	put_le(b, v, 4);
}

void buf_le64(struct buf *b, uint64_t v)
{
	put_le(b, v, 8);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = true;
		return;
	}
	if (!reserve(b, (size_t)n + 1))
		return;
	va_start(ap, fmt);
	vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}
