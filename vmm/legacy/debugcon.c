/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/debugcon.h"

#include "base/log.h"
#include "base/state.h"
#include "chardev/chardev.h"
#include "vmm/bus/bus.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define READ_VALUE     0xe9
#define LINE_MAX_BYTES 120
#define LOG_BURST      1000

struct debugcon {
	struct device dev;
	struct bus_range range;
	struct chardev *chardev; /* NULL: the log */
	struct log_limit limit;
	pthread_mutex_t lock;	      /* line and used */
	uint8_t line[LINE_MAX_BYTES]; /* begun, for the log */
	uint8_t used;
};

static struct debugcon *from_device(struct device *dev)
{
	return container_of(dev, struct debugcon, dev);
}

static void log_line(struct debugcon *d)
{
	uint64_t held;

	if (d->used && log_enabled(LOG_INFO) && log_limit_pass(&d->limit, &held))
		log_info("%s: %.*s", d->dev.id, (int)d->used, (const char *)d->line);
	d->used = 0;
}

/* Guests write what they like; the log gets printable characters. */
static void log_byte(struct debugcon *d, uint8_t byte)
{
	if (byte == '\n') {
		log_line(d);
	} else if (byte != '\r') {
		d->line[d->used++] = byte >= 0x20 && byte < 0x7f ? byte : '?';
		if (d->used == sizeof(d->line))
			log_line(d);
	}
}

static void debugcon_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	memset(data, READ_VALUE, len);
}

static void debugcon_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct debugcon *d = arg;

	if (d->chardev) {
		chardev_write(d->chardev, data, len);
		return;
	}
	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < len; i++)
		log_byte(d, ((const uint8_t *)data)[i]);
	pthread_mutex_unlock(&d->lock);
}

static const struct bus_ops debugcon_bus_ops = {
	.read = debugcon_read,
	.write = debugcon_write,
};

static int debugcon_realize(struct device *dev, struct err *err)
{
	return bus_add(dev->host->pio, &from_device(dev)->range, err);
}

static void debugcon_unrealize(struct device *dev)
{
	bus_remove(dev->host->pio, &from_device(dev)->range);
}

static void debugcon_reset(struct device *dev)
{
	struct debugcon *d = from_device(dev);

	pthread_mutex_lock(&d->lock);
	log_line(d);
	pthread_mutex_unlock(&d->lock);
}

static const struct state_field debugcon_fields[] = {
	STATE_ARRAY(STATE_U8, struct debugcon, line),
	STATE_FIELD(STATE_U8, struct debugcon, used),
};

static const struct state_layout debugcon_layout = {
	.name = "debugcon",
	.version = 1,
	.fields = debugcon_fields,
	.num_fields = ARRAY_SIZE(debugcon_fields),
	.struct_size = sizeof(struct debugcon),
};

static int debugcon_save(struct device *dev, struct buf *out)
{
	return state_save(out, &debugcon_layout, from_device(dev));
}

static int debugcon_load(struct device *dev, struct cursor *in, struct err *err)
{
	struct debugcon *d = from_device(dev);
	int rc;

	pthread_mutex_lock(&d->lock);
	rc = state_load(in, &debugcon_layout, d, err);
	if (rc >= 0 && d->used >= sizeof(d->line))
		d->used = 0;
	for (unsigned i = 0; rc >= 0 && i < d->used; i++)
		if (d->line[i] < 0x20 || d->line[i] >= 0x7f)
			d->line[i] = '?';
	pthread_mutex_unlock(&d->lock);
	return rc;
}

static void debugcon_free(struct device *dev)
{
	struct debugcon *d = from_device(dev);

	pthread_mutex_destroy(&d->lock);
	free(d);
}

static const struct device_ops debugcon_ops = {
	.kind = "debugcon",
	.realize = debugcon_realize,
	.unrealize = debugcon_unrealize,
	.reset = debugcon_reset,
	.save = debugcon_save,
	.load = debugcon_load,
	.free = debugcon_free,
};

int debugcon_new(const struct device_host *host, const char *id, uint16_t port,
		 struct chardev *chardev, struct device **ret_dev, struct err *err)
{
	struct debugcon *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return err_set_errno(err, -ENOMEM, "Cannot create the debug console");
	rc = device_init(&d->dev, &debugcon_ops, host, id, err);
	if (rc < 0) {
		free(d);
		return rc;
	}
	d->range = (struct bus_range){
		.name = "debugcon",
		.ops = &debugcon_bus_ops,
		.arg = d,
		.base = port,
		.size_bytes = 1,
	};
	d->chardev = chardev;
	d->limit.burst = LOG_BURST;
	pthread_mutex_init(&d->lock, NULL);
	*ret_dev = &d->dev;
	return 0;
}
