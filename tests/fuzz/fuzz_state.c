/* SPDX-License-Identifier: Apache-2.0 */
/* Records of device state of any bytes are read whole or not at all, and read back as written. */
#include "base/state.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct object {
	uint8_t byte;
	uint16_t word;
	uint32_t registers[5];
	uint64_t addresses[3];
	bool flags[4];
	uint16_t later;
};

static const struct state_field fields[] = {
	STATE_FIELD(STATE_U8, struct object, byte),
	STATE_FIELD(STATE_U16, struct object, word),
	STATE_ARRAY(STATE_U32, struct object, registers),
	STATE_ARRAY(STATE_U64, struct object, addresses),
	STATE_ARRAY(STATE_BOOL, struct object, flags),
	{.name = "later",
	 .type = STATE_U16,
	 .offset = offsetof(struct object, later),
	 .count = 1,
	 .since = 2},
};

static const struct state_layout layout = {
	.name = "obj",
	.version = 2,
	.fields = fields,
	.num_fields = ARRAY_SIZE(fields),
	.struct_size = sizeof(struct object),
};

static void check_written(const struct object *obj)
{
	struct buf first = {0}, second = {0};
	struct object again;
	struct cursor in;

	memset(&again, 0, sizeof(again));
	if (state_save(&first, &layout, obj) < 0)
		abort();
	in = cursor_init(first.data, first.len);
	if (state_load(&in, &layout, &again, NULL) < 0 || cursor_left(&in))
		abort();
	if (state_save(&second, &layout, &again) < 0 || first.len != second.len ||
	    memcmp(first.data, second.data, first.len))
		abort();
	buf_fini(&first);
	buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = cursor_init(data, size);
	struct object obj, before;

	memset(&obj, 1, sizeof(obj));
	for (;;) {
		struct err err = ERR_INIT;

		memcpy(&before, &obj, sizeof(obj));
		if (state_load(&in, &layout, &obj, &err) < 0) {
			if (memcmp(&before, &obj, sizeof(obj)) || !err_count(&err))
				abort();
			return 0;
		}
		check_written(&obj);
	}
}
