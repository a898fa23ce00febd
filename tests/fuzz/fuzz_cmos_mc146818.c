/* SPDX-License-Identifier: Apache-2.0 */
/* The real-time clock's two ports: steps of (what, value). */
#include "tests/fuzz/legacy_machine.h"
#include "vmm/legacy/cmos_mc146818.h"
#include "vmm/memory/guest_memory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_up(struct legacy_machine *m)
{
	/* Sizes are all that it looks at. */
	static struct guest_memory memory = {
		.num_regions = 2,
		.regions = {{.size_bytes = 3 * GIB}, {.start = {4 * GIB}, .size_bytes = 5 * GIB}},
	};

	legacy_machine_init(m);
	m->host.memory = &memory;
	if (cmos_mc146818_new(&m->host, &m->dev, NULL) < 0 ||
	    m->dev->ops->realize(m->dev, NULL) < 0)
		abort();
}

static void step(struct legacy_machine *m, struct cursor *c)
{
	uint8_t what = cursor_u8(c), value = cursor_u8(c);

	switch (what >> 4) {
	case 8: legacy_machine_save_and_load(m); break;
	case 9: legacy_machine_load_any(m, c, value); break;
	default: legacy_machine_access(m, 0x70, what & 0xf9, value); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_init(data, size);
	static struct legacy_machine m;

	if (!m.dev)
		set_up(&m);
	while (cursor_left(&c))
		step(&m, &c);
	m.dev->ops->reset(m.dev);
	return 0;
}
