/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * All sizes are known from the layout, none is taken from the wire: for a version up to ours, the
 * body has exactly one right length. So a load checks everything that can be wrong in one pass, and
 * only then stores field by field; it needs no second copy of the object, and members that are not
 * in the list (locks, pointers) are never touched.
 */
#include "base/state.h"

#include <errno.h>
#include <string.h>

#define NAME_LEN_MAX 63

static size_t type_size(enum state_type type)
{
	switch (type) {
	case STATE_U8: return sizeof(uint8_t);
	case STATE_U16: return sizeof(uint16_t);
	case STATE_U32: return sizeof(uint32_t);
	case STATE_U64: return sizeof(uint64_t);
	case STATE_BOOL: return sizeof(uint8_t);
	}
	return 0;
}

static_assert(sizeof(bool) == sizeof(uint8_t), "a bool takes a byte here and on the wire");

/* Whether the list describes the struct: a mistake of ours, caught by the first save. */
static bool layout_fits(const struct state_layout *layout)
{
	size_t name_len = strlen(layout->name);

	if (!name_len || name_len > NAME_LEN_MAX || !layout->version)
		return false;
	for (size_t i = 0; i < layout->num_fields; i++) {
		const struct state_field *f = &layout->fields[i];
		uint64_t bytes = (uint64_t)f->count * type_size(f->type);

		if (!bytes || !range_within(f->offset, bytes, 0, layout->struct_size) ||
		    !f->since || f->since > layout->version)
			return false;
	}
	return true;
}

/* Length of the body in layout version `version`; -EOVERFLOW past the wire's 32 bits. */
static int64_t body_len(const struct state_layout *layout, uint16_t version)
{
	uint64_t len = 0;

	for (size_t i = 0; i < layout->num_fields; i++) {
		const struct state_field *f = &layout->fields[i];

		if (f->since <= version)
			len += (uint64_t)f->count * type_size(f->type);
		if (len > UINT32_MAX)
			return -EOVERFLOW;
	}
	return (int64_t)len;
}

static void save_field(struct buf *out, const struct state_field *f, const void *obj)
{
	const uint8_t *p = (const uint8_t *)obj + f->offset;

	for (uint32_t i = 0; i < f->count; i++, p += type_size(f->type)) {
		switch (f->type) {
		case STATE_U8: buf_u8(out, *p); break;
		case STATE_U16: buf_le16(out, *(const uint16_t *)(const void *)p); break;
		case STATE_U32: buf_le32(out, *(const uint32_t *)(const void *)p); break;
		case STATE_U64: buf_le64(out, *(const uint64_t *)(const void *)p); break;
		case STATE_BOOL: buf_u8(out, *(const bool *)(const void *)p); break;
		}
	}
}

static void load_field(struct cursor *in, const struct state_field *f, void *obj)
{
	uint8_t *p = (uint8_t *)obj + f->offset;

	for (uint32_t i = 0; i < f->count; i++, p += type_size(f->type)) {
		switch (f->type) {
		case STATE_U8: *p = cursor_u8(in); break;
		case STATE_U16: *(uint16_t *)(void *)p = cursor_le16(in); break;
		case STATE_U32: *(uint32_t *)(void *)p = cursor_le32(in); break;
		case STATE_U64: *(uint64_t *)(void *)p = cursor_le64(in); break;
		case STATE_BOOL: *(bool *)(void *)p = cursor_u8(in) != 0; break;
		}
	}
}

int state_save(struct buf *out, const struct state_layout *layout, const void *obj)
{
	int64_t len;

	if (!layout_fits(layout))
		return -EINVAL;
	len = body_len(layout, layout->version);
	if (len < 0)
		return (int)len;
	buf_le16(out, (uint16_t)strlen(layout->name));
	buf_put(out, layout->name, strlen(layout->name));
	buf_le16(out, layout->version);
	buf_le32(out, (uint32_t)len);
	for (size_t i = 0; i < layout->num_fields; i++)
		save_field(out, &layout->fields[i], obj);
	return buf_ok(out) ? 0 : -ENOMEM;
}

/* Reads the header and checks it against the layout. */
static int load_header(struct cursor *in, const struct state_layout *layout, uint16_t *ret_version,
		       struct err *err)
{
	uint16_t name_len = cursor_le16(in);
	const char *name = cursor_slice(in, name_len);
	uint16_t version = cursor_le16(in);
	uint32_t len = cursor_le32(in);

	if (!cursor_ok(in))
		return err_set(err, -EBADMSG, "Device state ends before the record of %s",
			       layout->name);
	if (name_len != strlen(layout->name) || memcmp(name, layout->name, name_len) != 0)
		return err_set(err, -EPROTO, "Device state holds \"%.*s\" where %s is expected",
			       MIN((int)name_len, NAME_LEN_MAX), name, layout->name);
	if (!version || version > layout->version)
		return err_set(err, -EPROTO,
			       "State of %s has layout version %u; this program reads 1 to %u",
			       layout->name, version, layout->version);
	if (len != body_len(layout, version))
		return err_set(err, -EBADMSG,
			       "State of %s, layout version %u, takes %lld bytes, not %u",
			       layout->name, version, (long long)body_len(layout, version), len);
	if (len > cursor_left(in))
		return err_set(err, -EBADMSG, "State of %s is cut: %zu of %u bytes are there",
			       layout->name, cursor_left(in), len);
	*ret_version = version;
	return 0;
}

/* A bool on the wire is 0 or 1; other values would be undefined in memory. */
static int check_body(struct cursor body, const struct state_layout *layout, uint16_t version,
		      struct err *err)
{
	for (size_t i = 0; i < layout->num_fields; i++) {
		const struct state_field *f = &layout->fields[i];

		if (f->since > version)
			continue;
		if (f->type != STATE_BOOL) {
			cursor_skip(&body, f->count * type_size(f->type));
			continue;
		}
		for (uint32_t k = 0; k < f->count; k++) {
			uint8_t v = cursor_u8(&body);

			if (v > 1)
				return err_set(err, -EBADMSG,
					       "State of %s: %s is %u, neither false nor true",
					       layout->name, f->name, v);
		}
	}
	return 0;
}

int state_load(struct cursor *in, const struct state_layout *layout, void *obj, struct err *err)
{
	struct cursor c = *in;
	uint16_t version = 0;
	int rc;

	if (!layout_fits(layout))
		return err_set(err, -EINVAL, "The state layout of %s does not fit its struct",
			       layout->name);
	rc = load_header(&c, layout, &version, err);
	if (rc < 0)
		return rc;
	rc = check_body(c, layout, version, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < layout->num_fields; i++)
		if (layout->fields[i].since <= version)
			load_field(&c, &layout->fields[i], obj);
	*in = c;
	return 0;
}
