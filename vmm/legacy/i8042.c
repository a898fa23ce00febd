/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/i8042.h"

#include "vmm/bus/bus.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <string.h>

#define PORT_SYSTEM_CONTROL LAYOUT_PORT_I8042
#define PORT_COMMAND	    0x64

/* System control port B: timer 2's output is high. */
#define SYSTEM_CONTROL_VALUE 0x20

/*
 * Output buffer full, input buffer empty. A driver that flushes the output buffer (port 0x60, where
 * nobody is) gives up after a few reads because it never empties; with an empty buffer it would
 * send a command and wait half a second for the answer. The empty input buffer lets a reboot by the
 * keyboard controller write its command at once.
 */
#define STATUS_VALUE 0x01

#define COMMAND_RESET 0xfe

struct i8042 {
	struct device dev;
	struct bus_range system_control;
	struct bus_range command;
};

static struct i8042 *from_device(struct device *dev)
{
	return container_of(dev, struct i8042, dev);
}

static void system_control_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	memset(data, SYSTEM_CONTROL_VALUE, len);
}

static void system_control_write(void *arg, uint64_t offset, const void *data, unsigned len) {}

static void command_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	memset(data, STATUS_VALUE, len);
}

static void command_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct i8042 *k = arg;

	if (*(const uint8_t *)data == COMMAND_RESET)
		k->dev.host->guest_request(k->dev.host->arg, GUEST_RESET);
}

static const struct bus_ops system_control_ops = {
	.read = system_control_read,
	.write = system_control_write,
};

static const struct bus_ops command_ops = {
	.read = command_read,
	.write = command_write,
};

static int i8042_realize(struct device *dev, struct err *err)
{
	struct i8042 *k = from_device(dev);
	int rc = bus_add(dev->host->pio, &k->system_control, err);

	return rc < 0 ? rc : bus_add(dev->host->pio, &k->command, err);
}

static void i8042_unrealize(struct device *dev)
{
	struct i8042 *k = from_device(dev);

	bus_remove(dev->host->pio, &k->system_control);
	bus_remove(dev->host->pio, &k->command);
}

/* It has no state. */
static void i8042_reset(struct device *dev) {}

static int i8042_save(struct device *dev, struct buf *out)
{
	return 0;
}

static int i8042_load(struct device *dev, struct cursor *in, struct err *err)
{
	return 0;
}

static void i8042_free(struct device *dev)
{
	free(from_device(dev));
}

static const struct device_ops i8042_ops = {
	.kind = "i8042",
	.realize = i8042_realize,
	.unrealize = i8042_unrealize,
	.reset = i8042_reset,
	.save = i8042_save,
	.load = i8042_load,
	.free = i8042_free,
};

int i8042_new(const struct device_host *host, struct device **ret_dev, struct err *err)
{
	struct i8042 *k = calloc(1, sizeof(*k));

	if (!k)
		return err_set_errno(err, -ENOMEM, "Cannot create the keyboard controller");
	device_init(&k->dev, &i8042_ops, host, "__i8042", NULL);
	k->system_control = (struct bus_range){
		.name = "system-control-port-b",
		.ops = &system_control_ops,
		.arg = k,
		.base = PORT_SYSTEM_CONTROL,
		.size_bytes = 1,
	};
	k->command = (struct bus_range){
		.name = "i8042",
		.ops = &command_ops,
		.arg = k,
		.base = PORT_COMMAND,
		.size_bytes = 1,
	};
	*ret_dev = &k->dev;
	return 0;
}
