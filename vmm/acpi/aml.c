/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/aml.h"

#include <string.h>

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_LOCAL0 = 0x60,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_NOTIFY = 0x86,
	OP_IF = 0xa0,
	EXT_REGION = 0x80,
	EXT_FIELD = 0x81,
	EXT_DEVICE = 0x82,
};

/* --- package lengths -------------------------------------------------------------------------- */

/* Bytes that a package length takes which covers itself and `body` bytes (20.2.4). */
static unsigned pkg_length_size(size_t body)
{
	if (body + 1 < 1 << 6)
		return 1;
	if (body + 2 < 1 << 12)
		return 2;
	return body + 3 < 1 << 20 ? 3 : 4;
}

void aml_close(struct buf *b, size_t mark)
{
	size_t body = b->len - mark;
	unsigned n = pkg_length_size(body);
	size_t len = body + n;
	uint8_t enc[4];

	if (len >= 1 << 28)
		b->failed = true;
	if (n == 1) {
		enc[0] = (uint8_t)len;
	} else {
		enc[0] = (uint8_t)((n - 1) << 6 | (len & 0xf));
		for (unsigned i = 1; i < n; i++)
			enc[i] = (uint8_t)(len >> (4 + 8 * (i - 1)));
	}
	buf_put(b, enc, n); /* room; the body then moves up over it */
	if (!buf_ok(b))
		return;
	memmove(b->data + mark + n, b->data + mark, body);
	memcpy(b->data + mark, enc, n);
}

/* --- names ------------------------------------------------------------------------------------ */

static bool segment_ok(const char *s)
{
	for (unsigned i = 0; i < 4; i++) {
		if (!(s[i] == '_' || (s[i] >= 'A' && s[i] <= 'Z') ||
		      (i && s[i] >= '0' && s[i] <= '9')))
			return false;
	}
	return s[4] == '\0' || s[4] == '.';
}

void aml_path(struct buf *b, const char *name)
{
	size_t len, segments;

	if (*name == '\\' || *name == '^')
		buf_u8(b, (uint8_t)*name++);
	len = strlen(name);
	segments = (len + 1) / 5;
	if ((len + 1) % 5 || !segments || segments > 255) {
		b->failed = true;
		return;
	}
	if (segments == 2) {
		buf_u8(b, OP_DUAL_NAME);
	} else if (segments > 2) {
		buf_u8(b, OP_MULTI_NAME);
		buf_u8(b, (uint8_t)segments);
	}
	for (size_t i = 0; i < segments; i++, name += 5) {
		if (!segment_ok(name))
			b->failed = true;
		buf_put(b, name, 4);
	}
}

/* --- terms ------------------------------------------------------------------------------------ */

size_t aml_scope(struct buf *b, const char *name)
{
	size_t mark;

	buf_u8(b, OP_SCOPE);
	mark = b->len;
	aml_path(b, name);
	return mark;
}

size_t aml_device(struct buf *b, const char *name)
{
	size_t mark;

	buf_u8(b, OP_EXT);
	buf_u8(b, EXT_DEVICE);
	mark = b->len;
	aml_path(b, name);
	return mark;
}

size_t aml_method(struct buf *b, const char *name, unsigned args, bool serialized)
{
	size_t mark;

	buf_u8(b, OP_METHOD);
	mark = b->len;
	aml_path(b, name);
	buf_u8(b, (uint8_t)((args & 7) | (serialized ? 8 : 0)));
	return mark;
}

size_t aml_if(struct buf *b)
{
	buf_u8(b, OP_IF);
	return b->len;
}

size_t aml_package(struct buf *b, uint8_t elements)
{
	size_t mark;

	buf_u8(b, OP_PACKAGE);
	mark = b->len;
	buf_u8(b, elements);
	return mark;
}

void aml_name(struct buf *b, const char *name)
{
	buf_u8(b, OP_NAME);
	aml_path(b, name);
}

void aml_integer(struct buf *b, uint64_t v)
{
	if (v <= 1) {
		buf_u8(b, v ? OP_ONE : OP_ZERO);
	} else if (v <= UINT8_MAX) {
		buf_u8(b, OP_BYTE);
		buf_u8(b, (uint8_t)v);
	} else if (v <= UINT16_MAX) {
		buf_u8(b, OP_WORD);
		buf_le16(b, (uint16_t)v);
	} else if (v <= UINT32_MAX) {
		buf_u8(b, OP_DWORD);
		buf_le32(b, (uint32_t)v);
	} else {
		buf_u8(b, OP_QWORD);
		buf_le64(b, v);
	}
}

void aml_string(struct buf *b, const char *s)
{
	buf_u8(b, OP_STRING);
	buf_put(b, s, strlen(s) + 1);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10);
}

/* Three letters of five bits and four hexadecimal digits, big endian (19.3.4). */
void aml_eisa_id(struct buf *b, const char *id)
{
	uint32_t v = (uint32_t)((id[0] & 0x1f) << 26 | (id[1] & 0x1f) << 21 | (id[2] & 0x1f) << 16);

	for (unsigned i = 0; i < 4; i++)
		v |= hex_digit(id[3 + i]) << (12 - 4 * i);
	buf_u8(b, OP_DWORD);
	buf_le32(b, __builtin_bswap32(v));
}

void aml_local(struct buf *b, unsigned n)
{
	buf_u8(b, (uint8_t)(OP_LOCAL0 + n));
}

void aml_store(struct buf *b)
{
	buf_u8(b, OP_STORE);
}

void aml_and(struct buf *b, unsigned local, uint64_t mask)
{
	buf_u8(b, OP_AND);
	aml_local(b, local);
	aml_integer(b, mask);
	buf_u8(b, OP_ZERO); /* no target */
}

void aml_notify(struct buf *b, const char *device, uint64_t value)
{
	buf_u8(b, OP_NOTIFY);
	aml_path(b, device);
	aml_integer(b, value);
}

void aml_region_memory(struct buf *b, const char *name, uint64_t addr, uint32_t len)
{
	buf_u8(b, OP_EXT);
	buf_u8(b, EXT_REGION);
	aml_path(b, name);
	buf_u8(b, 0); /* SystemMemory */
	aml_integer(b, addr);
	aml_integer(b, len);
}

void aml_field_byte(struct buf *b, const char *region, const char *field)
{
	size_t mark;

	buf_u8(b, OP_EXT);
	buf_u8(b, EXT_FIELD);
	mark = b->len;
	aml_path(b, region);
	buf_u8(b, 0x01 | 2 << 5); /* ByteAcc, NoLock, WriteAsZeros */
	buf_put(b, field, 4);
	buf_u8(b, 8); /* bits */
	aml_close(b, mark);
}

/* --- resources -------------------------------------------------------------------------------- */

enum {
	RES_IRQ_NOFLAGS = 0x22,
	RES_IO = 0x47,
	RES_END = 0x79,
	RES_MEMORY32_FIXED = 0x86,
	RES_DWORD = 0x87,
	RES_WORD = 0x88,
	RES_INTERRUPT = 0x89,
	RES_QWORD = 0x8a,
	SPACE_MEMORY = 0,
	SPACE_IO = 1,
	SPACE_BUS = 2,
	SPACE_FIXED = 0x0c, /* minimum and maximum are fixed, positive decode */
	SPACE_CONSUMER = 0x01,
};

void aml_crs_memory32(struct aml_crs *crs, uint32_t base, uint32_t len, bool writable)
{
	buf_u8(&crs->body, RES_MEMORY32_FIXED);
	buf_le16(&crs->body, 9);
	buf_u8(&crs->body, writable);
	buf_le32(&crs->body, base);
	buf_le32(&crs->body, len);
}

static void qword_memory(struct aml_crs *crs, uint64_t base, uint64_t len, uint8_t general,
			 uint8_t type)
{
	buf_u8(&crs->body, RES_QWORD);
	buf_le16(&crs->body, 43);
	buf_u8(&crs->body, SPACE_MEMORY);
	buf_u8(&crs->body, general);
	buf_u8(&crs->body, type);
	buf_le64(&crs->body, 0);
	buf_le64(&crs->body, base);
	buf_le64(&crs->body, base + len - 1);
	buf_le64(&crs->body, 0);
	buf_le64(&crs->body, len);
}

void aml_crs_fixed_qword(struct aml_crs *crs, uint64_t base, uint64_t len)
{
	qword_memory(crs, base, len, SPACE_FIXED | SPACE_CONSUMER, 0x01);
}

void aml_crs_memory_window(struct aml_crs *crs, uint64_t base, uint64_t len, bool prefetchable)
{
	uint8_t type = 0x01 | (prefetchable ? 3 << 1 : 0); /* read-write; prefetchable or not */

	if (base + len - 1 > UINT32_MAX) {
		qword_memory(crs, base, len, SPACE_FIXED, type);
		return;
	}
	buf_u8(&crs->body, RES_DWORD);
	buf_le16(&crs->body, 23);
	buf_u8(&crs->body, SPACE_MEMORY);
	buf_u8(&crs->body, SPACE_FIXED);
	buf_u8(&crs->body, type);
	buf_le32(&crs->body, 0);
	buf_le32(&crs->body, (uint32_t)base);
	buf_le32(&crs->body, (uint32_t)(base + len - 1));
	buf_le32(&crs->body, 0);
	buf_le32(&crs->body, (uint32_t)len);
}

void aml_crs_io(struct aml_crs *crs, uint16_t base, uint8_t len)
{
	buf_u8(&crs->body, RES_IO);
	buf_u8(&crs->body, 1); /* decodes 16 bits */
	buf_le16(&crs->body, base);
	buf_le16(&crs->body, base);
	buf_u8(&crs->body, 0);
	buf_u8(&crs->body, len);
}

static void word_space(struct aml_crs *crs, uint8_t kind, uint8_t type, uint16_t first,
		       uint16_t last)
{
	buf_u8(&crs->body, RES_WORD);
	buf_le16(&crs->body, 13);
	buf_u8(&crs->body, kind);
	buf_u8(&crs->body, SPACE_FIXED);
	buf_u8(&crs->body, type);
	buf_le16(&crs->body, 0);
	buf_le16(&crs->body, first);
	buf_le16(&crs->body, last);
	buf_le16(&crs->body, 0);
	buf_le16(&crs->body, (uint16_t)(last - first + 1));
}

void aml_crs_io_window(struct aml_crs *crs, uint16_t base, uint32_t len)
{
	word_space(crs, SPACE_IO, 3, base, (uint16_t)(base + len - 1)); /* entire range */
}

void aml_crs_bus(struct aml_crs *crs, uint16_t first, uint16_t last)
{
	word_space(crs, SPACE_BUS, 0, first, last);
}

void aml_crs_irq(struct aml_crs *crs, unsigned irq)
{
	buf_u8(&crs->body, RES_IRQ_NOFLAGS);
	buf_le16(&crs->body, (uint16_t)(1 << irq));
}

void aml_crs_interrupt(struct aml_crs *crs, uint32_t gsi)
{
	buf_u8(&crs->body, RES_INTERRUPT);
	buf_le16(&crs->body, 6);
	buf_u8(&crs->body, 0x03); /* consumer, edge, active high, exclusive */
	buf_u8(&crs->body, 1);
	buf_le32(&crs->body, gsi);
}

void aml_crs_close(struct buf *b, struct aml_crs *crs)
{
	size_t mark;

	buf_u8(&crs->body, RES_END);
	buf_u8(&crs->body, 0); /* checksum not used */
	aml_name(b, "_CRS");
	buf_u8(b, OP_BUFFER);
	mark = b->len;
	aml_integer(b, crs->body.len);
	buf_put(b, crs->body.data, crs->body.len);
	if (!buf_ok(&crs->body))
		b->failed = true;
	aml_close(b, mark);
	buf_fini(&crs->body);
}
