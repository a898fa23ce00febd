/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of device state: one list of fields per struct yields both directions. A device lists
 * what it keeps; snapshot, restore and migration share the list, so nothing can be written that is
 * not read back.
 *
 * A record on the wire (little endian): u16 name length, name, u16 layout version, u32 body length,
 * body. The body is, per field of that version, in the list's order, its elements. Readers accept
 * versions up to their own: fields added later keep the value that the caller had put there before.
 * The reader treats everything as untrusted: unknown name, newer version, body length that does not
 * fit, counts beyond the bound are refused, and the object is left as it was.
 *
 * (It lives on the ground floor, and not in vmm/state above the devices, since every device calls
 * it.)
 */
#ifndef BASE_STATE_H
#define BASE_STATE_H

#include "base/cursor.h"
#include "base/err.h"

enum state_type { STATE_U8, STATE_U16, STATE_U32, STATE_U64, STATE_BOOL };

struct state_field {
	const char *name; /* for messages */
	enum state_type type;
	uint32_t offset;
	uint32_t count; /* elements; 1 for a scalar */
	uint16_t since; /* layout version that introduced it; 1 = first */
};

struct state_layout {
	const char *name; /* record's name on the wire, at most 63 bytes */
	uint16_t version; /* 1.. */
	const struct state_field *fields;
	size_t num_fields;
	size_t struct_size; /* size of the C struct, for the all-or-nothing copy */
};

#define STATE_FIELD(type_, struct_, member_)                                             \
	{                                                                                \
		.name = #member_, .type = (type_), .offset = offsetof(struct_, member_), \
		.count = 1, .since = 1                                                   \
	}
#define STATE_ARRAY(type_, struct_, member_)                                                   \
	{                                                                                      \
		.name = #member_, .type = (type_), .offset = offsetof(struct_, member_),       \
		.count = sizeof(((struct_ *)0)->member_) / sizeof(((struct_ *)0)->member_[0]), \
		.since = 1                                                                     \
	}

/* Appends a record of `obj` to `out`. Returns 0 or -ENOMEM. */
int state_save(struct buf *out, const struct state_layout *layout, const void *obj);

/* Reads the next record into `obj`, all or nothing. Returns 0, -EBADMSG (malformed), -EPROTO (name
 * or version), -ENOMEM. */
int state_load(struct cursor *in, const struct state_layout *layout, void *obj, struct err *err);

#endif
