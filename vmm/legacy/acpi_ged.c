/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/acpi_ged.h"

#include "base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"

#include <errno.h>
#include <string.h>

#define EVENTS_ALL (ACPI_GED_CPU | ACPI_GED_MEMORY | ACPI_GED_PCI | ACPI_GED_POWER_BUTTON)

struct acpi_ged {
	struct device dev;
	struct bus_range range;
	unsigned gsi;
	_Atomic uint8_t events; /* not yet read by the guest */
};

static struct acpi_ged *from_device(struct device *dev)
{
	return container_of(dev, struct acpi_ged, dev);
}

static void ged_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct acpi_ged *g = arg;

	*(uint8_t *)data = atomic_exchange(&g->events, 0);
}

static void ged_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	/* read only */
}

static const struct bus_ops ged_bus_ops = {
	.read = ged_read,
	.write = ged_write,
};

void acpi_ged_notify(struct device *dev, unsigned events)
{
	struct acpi_ged *g = from_device(dev);

	atomic_fetch_or(&g->events, (uint8_t)(events & EVENTS_ALL));
	ioapic_pulse(dev->host->ioapic, g->gsi);
}

static int ged_realize(struct device *dev, struct err *err)
{
	return bus_add(dev->host->mmio, &from_device(dev)->range, err);
}

static void ged_unrealize(struct device *dev)
{
	bus_remove(dev->host->mmio, &from_device(dev)->range);
}

static void ged_reset(struct device *dev)
{
	from_device(dev)->events = 0;
}

struct ged_image {
	uint8_t events;
};

static const struct state_field ged_fields[] = {
	STATE_FIELD(STATE_U8, struct ged_image, events),
};

static const struct state_layout ged_layout = {
	.name = "acpi_ged",
	.version = 1,
	.fields = ged_fields,
	.num_fields = ARRAY_SIZE(ged_fields),
	.struct_size = sizeof(struct ged_image),
};

static int ged_save(struct device *dev, struct buf *out)
{
	struct ged_image image = {.events = from_device(dev)->events};

	return state_save(out, &ged_layout, &image);
}

static int ged_load(struct device *dev, struct cursor *in, struct err *err)
{
	struct ged_image image;
	int rc = state_load(in, &ged_layout, &image, err);

	if (rc >= 0)
		from_device(dev)->events = image.events & EVENTS_ALL;
	return rc;
}

static void ged_free(struct device *dev)
{
	free(from_device(dev));
}

static const struct device_ops ged_ops = {
	.kind = "acpi_ged",
	.realize = ged_realize,
	.unrealize = ged_unrealize,
	.reset = ged_reset,
	.save = ged_save,
	.load = ged_load,
	.free = ged_free,
};

int acpi_ged_new(const struct device_host *host, uint64_t mmio_address, unsigned gsi,
		 struct device **ret_dev, struct err *err)
{
	struct acpi_ged *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set_errno(err, -ENOMEM, "Cannot create the ACPI event device");
	device_init(&g->dev, &ged_ops, host, "__ged", NULL);
	g->range = (struct bus_range){
		.name = "acpi_ged",
		.ops = &ged_bus_ops,
		.arg = g,
		.base = mmio_address,
		.size_bytes = 1,
	};
	g->gsi = gsi;
	*ret_dev = &g->dev;
	return 0;
}
