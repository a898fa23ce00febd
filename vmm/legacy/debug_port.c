/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/debug_port.h"

#include "base/log.h"
#include "base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <string.h>

/* Old drivers write to this port only to pass a microsecond. */
#define LOG_BURST 64

struct debug_port {
	struct device dev;
	struct bus_range range;
	uint64_t start_ns;
	struct log_limit limit;
	_Atomic uint8_t code; /* last written */
};

static struct debug_port *from_device(struct device *dev)
{
	return container_of(dev, struct debug_port, dev);
}

const char *debug_port_class(uint8_t code)
{
	static const char *const classes[] = {"Firmware", "Bootloader", "Kernel", "Userspace"};

	return code / 0x20 < (int)ARRAY_SIZE(classes) ? classes[code / 0x20] : "Custom";
}

static void debug_port_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct debug_port *d = arg;

	*(uint8_t *)data = d->code;
}

static void debug_port_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct debug_port *d = arg;
	uint8_t code = *(const uint8_t *)data;
	uint64_t us, held;

	d->code = code;
	if (!log_enabled(LOG_INFO) || !log_limit_pass(&d->limit, &held))
		return;
	us = (loop_now_ns() - d->start_ns) / 1000;
	log_info("[Debug I/O port: %s code 0x%x] %llu.%06llu seconds", debug_port_class(code), code,
		 (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000));
}

static const struct bus_ops debug_port_bus_ops = {
	.read = debug_port_read,
	.write = debug_port_write,
};

static int debug_port_realize(struct device *dev, struct err *err)
{
	return bus_add(dev->host->pio, &from_device(dev)->range, err);
}

static void debug_port_unrealize(struct device *dev)
{
	bus_remove(dev->host->pio, &from_device(dev)->range);
}

static void debug_port_reset(struct device *dev)
{
	struct debug_port *d = from_device(dev);

	d->code = 0;
	d->start_ns = loop_now_ns();
}

struct debug_port_image {
	uint8_t code;
};

static const struct state_field debug_port_fields[] = {
	STATE_FIELD(STATE_U8, struct debug_port_image, code),
};

static const struct state_layout debug_port_layout = {
	.name = "debug_port",
	.version = 1,
	.fields = debug_port_fields,
	.num_fields = ARRAY_SIZE(debug_port_fields),
	.struct_size = sizeof(struct debug_port_image),
};

static int debug_port_save(struct device *dev, struct buf *out)
{
	struct debug_port_image image = {.code = from_device(dev)->code};

	return state_save(out, &debug_port_layout, &image);
}

static int debug_port_load(struct device *dev, struct cursor *in, struct err *err)
{
	struct debug_port_image image;
	int rc = state_load(in, &debug_port_layout, &image, err);

	if (rc >= 0)
		from_device(dev)->code = image.code;
	return rc;
}

static void debug_port_free(struct device *dev)
{
	free(from_device(dev));
}

static const struct device_ops debug_port_ops = {
	.kind = "debug_port",
	.realize = debug_port_realize,
	.unrealize = debug_port_unrealize,
	.reset = debug_port_reset,
	.save = debug_port_save,
	.load = debug_port_load,
	.free = debug_port_free,
};

int debug_port_new(const struct device_host *host, struct device **ret_dev, struct err *err)
{
	struct debug_port *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set_errno(err, -ENOMEM, "Cannot create the debug port");
	device_init(&d->dev, &debug_port_ops, host, "__debug_port", NULL);
	d->range = (struct bus_range){
		.name = "debug_port",
		.ops = &debug_port_bus_ops,
		.arg = d,
		.base = LAYOUT_PORT_DEBUG,
		.size_bytes = 1,
	};
	d->limit.burst = LOG_BURST;
	debug_port_reset(&d->dev);
	*ret_dev = &d->dev;
	return 0;
}
