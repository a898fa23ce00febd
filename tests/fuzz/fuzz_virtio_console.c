/* SPDX-License-Identifier: Apache-2.0 */
/* The console on a pseudo-terminal under a driver of any kind: see guest_program.h for the input.
 */
#include "chardev/chardev.h"
#include "tests/fuzz/guest_program.h"
#include "vmm/virtio/virtio_console.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int terminal;

/* Bytes that are typed; the first two are the terminal's new size, too. */
static void host_input(void *arg, const uint8_t *data, size_t len)
{
	struct winsize size = {.ws_row = data[0], .ws_col = data[len - 1]};

	if (ioctl(terminal, TIOCSWINSZ, &size) == 0)
		chardev_update_size(arg);
	if (write(terminal, data, len) < 0)
		return;
}

static void drain(void)
{
	char buf[4096];

	while (read(terminal, buf, sizeof(buf)) > 0)
		;
}

static void set_up(struct fuzz_guest *g)
{
	const struct chardev_params params = {.mode = CHARDEV_PTY, .input = true};
	struct chardev *chardev;

	fuzz_machine_init(&g->f);
	if (chardev_new(g->f.host.main_loop, &params, &chardev, NULL) < 0)
		abort();
	terminal = open(chardev_path(chardev), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (terminal < 0 || virtio_console_new(&g->f.host, "console", chardev, &g->vdev, NULL) < 0)
		abort();
	g->arg = chardev;
	fuzz_guest_init(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_guest g = {.host_input = host_input};

	if (!g.vdev)
		set_up(&g);
	fuzz_guest_run(&g, data, size);
	drain();
	return 0;
}
