/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/acpi_pm.h"

#include "base/endian.h"
#include "base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define NSEC_PER_SEC 1000000000U

struct acpi_pm {
	struct device dev;
	struct bus_range sleep_register;
	struct bus_range timer;
	pthread_mutex_t lock; /* all below */
	bool stopped;
	uint64_t base_ns;    /* when the timer was 0, while it runs */
	uint64_t elapsed_ns; /* since then, while it is stopped */
};

static struct acpi_pm *from_device(struct device *dev)
{
	return container_of(dev, struct acpi_pm, dev);
}

static void sleep_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	memset(data, 0, len);
}

static void sleep_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct acpi_pm *pm = arg;
	const struct device_host *host = pm->dev.host;
	uint8_t value = *(const uint8_t *)data;

	if (value == LAYOUT_ACPI_RESET_VALUE)
		host->guest_request(host->arg, GUEST_RESET);
	else if (value == LAYOUT_ACPI_S5_VALUE)
		host->guest_request(host->arg, GUEST_POWER_OFF);
}

static uint64_t elapsed(const struct acpi_pm *pm)
{
	return pm->stopped ? pm->elapsed_ns : loop_now_ns() - pm->base_ns;
}

static void timer_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct acpi_pm *pm = arg;
	uint64_t ns;
	uint32_t ticks;

	pthread_mutex_lock(&pm->lock);
	ns = elapsed(pm);
	pthread_mutex_unlock(&pm->lock);
	/* Whole seconds apart, so that nothing overflows. */
	ticks = (uint32_t)(ns / NSEC_PER_SEC * ACPI_PM_TIMER_HZ +
			   ns % NSEC_PER_SEC * ACPI_PM_TIMER_HZ / NSEC_PER_SEC);
	le_store(data, ticks >> (offset * 8), len);
}

static void timer_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	/* read only */
}

static const struct bus_ops sleep_ops = {
	.read = sleep_read,
	.write = sleep_write,
};

static const struct bus_ops timer_ops = {
	.read = timer_read,
	.write = timer_write,
};

static int acpi_pm_realize(struct device *dev, struct err *err)
{
	struct acpi_pm *pm = from_device(dev);
	int rc = bus_add(dev->host->pio, &pm->sleep_register, err);

	return rc < 0 ? rc : bus_add(dev->host->pio, &pm->timer, err);
}

static void acpi_pm_unrealize(struct device *dev)
{
	struct acpi_pm *pm = from_device(dev);

	bus_remove(dev->host->pio, &pm->sleep_register);
	bus_remove(dev->host->pio, &pm->timer);
}

static void set_elapsed(struct acpi_pm *pm, uint64_t ns)
{
	pm->elapsed_ns = ns;
	pm->base_ns = loop_now_ns() - ns;
}

static void acpi_pm_reset(struct device *dev)
{
	struct acpi_pm *pm = from_device(dev);

	pthread_mutex_lock(&pm->lock);
	set_elapsed(pm, 0);
	pthread_mutex_unlock(&pm->lock);
}

static void acpi_pm_quiesce(struct device *dev, struct quiesce *q)
{
	struct acpi_pm *pm = from_device(dev);

	pthread_mutex_lock(&pm->lock);
	set_elapsed(pm, elapsed(pm));
	pm->stopped = true;
	pthread_mutex_unlock(&pm->lock);
}

static void acpi_pm_resume(struct device *dev)
{
	struct acpi_pm *pm = from_device(dev);

	pthread_mutex_lock(&pm->lock);
	set_elapsed(pm, elapsed(pm));
	pm->stopped = false;
	pthread_mutex_unlock(&pm->lock);
}

struct acpi_pm_image {
	uint64_t elapsed_ns;
};

static const struct state_field acpi_pm_fields[] = {
	STATE_FIELD(STATE_U64, struct acpi_pm_image, elapsed_ns),
};

static const struct state_layout acpi_pm_layout = {
	.name = "acpi_pm",
	.version = 1,
	.fields = acpi_pm_fields,
	.num_fields = ARRAY_SIZE(acpi_pm_fields),
	.struct_size = sizeof(struct acpi_pm_image),
};

static int acpi_pm_save(struct device *dev, struct buf *out)
{
	struct acpi_pm *pm = from_device(dev);
	struct acpi_pm_image image;

	pthread_mutex_lock(&pm->lock);
	image.elapsed_ns = elapsed(pm);
	pthread_mutex_unlock(&pm->lock);
	return state_save(out, &acpi_pm_layout, &image);
}

static int acpi_pm_load(struct device *dev, struct cursor *in, struct err *err)
{
	struct acpi_pm *pm = from_device(dev);
	struct acpi_pm_image image;
	int rc = state_load(in, &acpi_pm_layout, &image, err);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&pm->lock);
	set_elapsed(pm, image.elapsed_ns);
	pthread_mutex_unlock(&pm->lock);
	return 0;
}

static void acpi_pm_free(struct device *dev)
{
	struct acpi_pm *pm = from_device(dev);

	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static const struct device_ops acpi_pm_ops = {
	.kind = "acpi_pm",
	.realize = acpi_pm_realize,
	.unrealize = acpi_pm_unrealize,
	.reset = acpi_pm_reset,
	.quiesce = acpi_pm_quiesce,
	.resume = acpi_pm_resume,
	.save = acpi_pm_save,
	.load = acpi_pm_load,
	.free = acpi_pm_free,
};

int acpi_pm_new(const struct device_host *host, struct device **ret_dev, struct err *err)
{
	struct acpi_pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return err_set_errno(err, -ENOMEM, "Cannot create the ACPI registers");
	device_init(&pm->dev, &acpi_pm_ops, host, "__acpi_pm", NULL);
	pm->sleep_register = (struct bus_range){
		.name = "acpi-sleep",
		.ops = &sleep_ops,
		.arg = pm,
		.base = LAYOUT_PORT_ACPI_RESET,
		.size_bytes = 1,
	};
	pm->timer = (struct bus_range){
		.name = "acpi-pm-timer",
		.ops = &timer_ops,
		.arg = pm,
		.base = LAYOUT_PORT_PM_TIMER,
		.size_bytes = 4,
	};
	pthread_mutex_init(&pm->lock, NULL);
	acpi_pm_reset(&pm->dev);
	*ret_dev = &pm->dev;
	return 0;
}
