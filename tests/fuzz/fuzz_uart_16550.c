/* SPDX-License-Identifier: Apache-2.0 */
/* The UART's registers, with bytes from the line between: steps of (what, value). */
#include "tests/fuzz/legacy_machine.h"
#include "tests/fuzz/turns.h"
#include "vmm/legacy/uart_16550.h"

#include "chardev/chardev.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct chardev *chardev;
static int line;

static void set_up(struct legacy_machine *m)
{
	const struct chardev_params params = {.mode = CHARDEV_PTY, .input = true};

	legacy_machine_init(m);
	if (chardev_new(m->host.main_loop, &params, &chardev, NULL) < 0)
		abort();
	line = open(chardev_path(chardev), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (line < 0 || uart_16550_new(&m->host, chardev, &m->dev, NULL) < 0 ||
	    m->dev->ops->realize(m->dev, NULL) < 0)
		abort();
	m->dev->ops->resume(m->dev);
}

static void step(struct legacy_machine *m, struct cursor *c)
{
	uint8_t what = cursor_u8(c), value = cursor_u8(c);

	switch (what >> 4) {
	case 8:
		if (write(line, &value, 1) == 1)
			run_turns(m->host.main_loop);
		break;
	case 9: legacy_machine_save_and_load(m); break;
	case 10: legacy_machine_load_any(m, c, value); break;
	default: legacy_machine_access(m, 0x3f8, what, value); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_init(data, size);
	static struct legacy_machine m;
	char buf[4096];

	if (!m.dev)
		set_up(&m);
	while (cursor_left(&c))
		step(&m, &c);
	while (read(line, buf, sizeof(buf)) > 0)
		run_turns(m.host.main_loop);
	m.dev->ops->quiesce(m.dev, NULL);
	m.dev->ops->reset(m.dev);
	m.dev->ops->resume(m.dev);
	return 0;
}
