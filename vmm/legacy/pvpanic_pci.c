/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/pvpanic_pci.h"

#include "vmm/pci/pci.h"

#include <errno.h>
#include <string.h>

#define EVENT_PANICKED	   0x01
#define EVENT_CRASH_LOADED 0x02
#define EVENT_SHUTDOWN	   0x04
#define EVENTS_ALL	   (EVENT_PANICKED | EVENT_CRASH_LOADED | EVENT_SHUTDOWN)

#define BAR_SIZE 4096

struct pvpanic {
	struct device dev;
	struct pci_device pci;
	struct pci_segment *segment;
	int slot;
};

static struct pvpanic *from_device(struct device *dev)
{
	return container_of(dev, struct pvpanic, dev);
}

static void bar_read(struct pci_device *pdev, unsigned bar, uint64_t offset, void *data,
		     unsigned len)
{
	memset(data, 0, len);
	if (offset == 0)
		*(uint8_t *)data = EVENTS_ALL;
}

static void bar_write(struct pci_device *pdev, unsigned bar, uint64_t offset, const void *data,
		      unsigned len)
{
	const struct device_host *host = container_of(pdev, struct pvpanic, pci)->dev.host;
	uint8_t events = *(const uint8_t *)data;

	if (offset != 0)
		return;
	if (events & EVENT_PANICKED)
		host->guest_request(host->arg, GUEST_PANIC);
	if (events & EVENT_CRASH_LOADED)
		host->guest_request(host->arg, GUEST_CRASH_LOADED);
	if (events & EVENT_SHUTDOWN)
		host->guest_request(host->arg, GUEST_PANIC_SHUTDOWN);
}

static const struct pci_device_ops pvpanic_pci_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
};

static int pvpanic_realize(struct device *dev, struct err *err)
{
	struct pvpanic *p = from_device(dev);
	int rc = pci_attach(p->segment, &p->pci, p->slot, err);

	return rc < 0 ? rc : 0;
}

static void pvpanic_unrealize(struct device *dev)
{
	pci_detach(&from_device(dev)->pci);
}

static void pvpanic_reset(struct device *dev)
{
	pci_device_reset(&from_device(dev)->pci);
}

static int pvpanic_save(struct device *dev, struct buf *out)
{
	return pci_device_save(&from_device(dev)->pci, out);
}

static int pvpanic_load(struct device *dev, struct cursor *in, struct err *err)
{
	return pci_device_load(&from_device(dev)->pci, in, err);
}

static void pvpanic_free(struct device *dev)
{
	struct pvpanic *p = from_device(dev);

	pci_device_fini(&p->pci);
	free(p);
}

static const struct device_ops pvpanic_ops = {
	.kind = "pvpanic_pci",
	.realize = pvpanic_realize,
	.unrealize = pvpanic_unrealize,
	.reset = pvpanic_reset,
	.save = pvpanic_save,
	.load = pvpanic_load,
	.free = pvpanic_free,
};

struct pci_device *pvpanic_pci_function(struct device *dev)
{
	return &from_device(dev)->pci;
}

int pvpanic_pci_new(const struct device_host *host, struct pci_segment *segment, int slot,
		    struct device **ret_dev, struct err *err)
{
	static const struct pci_device_id id = {
		.vendor = 0x1b36,
		.device = 0x0011,
		.subsystem_vendor = 0x1af4,
		.subsystem = 0x1100,
		.revision = 1,
		.class_code = 0x08, /* base system peripheral */
		.subclass = 0x80,   /* other */
	};
	struct pvpanic *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set_errno(err, -ENOMEM, "Cannot create the pvpanic device");
	device_init(&p->dev, &pvpanic_ops, host, "__pvpanic", NULL);
	p->segment = segment;
	p->slot = slot;
	rc = pci_device_init(&p->pci, &pvpanic_pci_ops, p->dev.id, &id);
	if (rc >= 0)
		rc = pci_device_add_bar(&p->pci, 0, BAR_SIZE, false, false);
	if (rc < 0) {
		pvpanic_free(&p->dev);
		return err_set_errno(err, rc, "Cannot create the pvpanic device");
	}
	*ret_dev = &p->dev;
	return 0;
}
