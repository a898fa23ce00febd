/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The router keeps one slot per GSI up to KVM's limit; a slot says whether it is taken, whether it
 * is routed, and to which message. irq_commit() turns all routed slots into KVM's table in one go.
 * The mutex is held across that ioctl, so two commits cannot overtake one another; raising an
 * interrupt is a write to an eventfd and takes no lock.
 */
#include "vmm/bus/irq.h"

#include "base/fd.h"
#include "base/log.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* A message's destination bits 14:8 when it is not in remappable format (bit 4 clear); see
 * KVM_FEATURE_MSI_EXT_DEST_ID. */
#define MSI_EXT_DEST_SHIFT 5
#define MSI_EXT_DEST_MASK  0x7fU
#define MSI_REMAPPABLE	   0x10U

/* KVM's own bound on GSI numbers, whatever it reports. */
#define GSI_MAX 4096U

struct gsi_slot {
	bool taken;
	bool routed;
	uint32_t data;
	uint64_t address;
};

struct irq_router {
	struct kvm_vm *vm;
	pthread_mutex_t lock; /* all below */
	struct gsi_slot *slots;
	unsigned num_slots;
	unsigned search_from; /* no free GSI below */
	bool dirty;
	struct kvm_irq_routing *table; /* scratch for the ioctl, num_slots entries */
};

int irq_router_new(struct kvm_vm *vm, struct irq_router **ret_router)
{
	struct irq_router *router = calloc(1, sizeof(*router));
	unsigned n = MIN(vm->caps.max_irq_routes, GSI_MAX);

	if (!router)
		return -ENOMEM;
	router->num_slots = MAX(n, (unsigned)LAYOUT_IOAPIC_PINS);
	router->slots = calloc(router->num_slots, sizeof(*router->slots));
	router->table = calloc(1, sizeof(*router->table) +
					  router->num_slots * sizeof(router->table->entries[0]));
	if (!router->slots || !router->table) {
		free(router->slots);
		free(router->table);
		free(router);
		return -ENOMEM;
	}
	router->vm = vm;
	router->search_from = LAYOUT_IOAPIC_PINS;
	pthread_mutex_init(&router->lock, NULL);
	*ret_router = router;
	return 0;
}

void irq_router_free(struct irq_router *router)
{
	if (!router)
		return;
	pthread_mutex_destroy(&router->lock);
	free(router->slots);
	free(router->table);
	free(router);
}

/* A free GSI above the pins, or -ENOSPC. */
static int take_gsi(struct irq_router *router)
{
	int rc = -ENOSPC;

	pthread_mutex_lock(&router->lock);
	for (unsigned i = router->search_from; i < router->num_slots; i++) {
		if (!router->slots[i].taken) {
			router->slots[i].taken = true;
			router->search_from = i + 1;
			rc = (int)i;
			break;
		}
	}
	pthread_mutex_unlock(&router->lock);
	return rc;
}

static void set_route(struct irq_router *router, unsigned gsi, bool routed, uint64_t address,
		      uint32_t data)
{
	struct gsi_slot *slot = &router->slots[gsi];

	if (slot->routed == routed && (!routed || (slot->address == address && slot->data == data)))
		return;
	slot->routed = routed;
	slot->address = address;
	slot->data = data;
	router->dirty = true;
}

static void give_gsi(struct irq_router *router, unsigned gsi)
{
	pthread_mutex_lock(&router->lock);
	set_route(router, gsi, false, 0, 0);
	router->slots[gsi].taken = false;
	router->search_from = MIN(router->search_from, gsi);
	pthread_mutex_unlock(&router->lock);
}

/* A zeroed msi has fd 0 and GSI 0; MSIs never get a pin's number. */
static bool msi_ready(const struct irq_msi *msi)
{
	return msi->fd >= 0 && msi->gsi >= LAYOUT_IOAPIC_PINS;
}

int irq_msi_init(struct irq_router *router, struct irq_msi *msi)
{
	AUTO_FD int fd = -1;
	int gsi, rc;

	memset(msi, 0, sizeof(*msi));
	msi->fd = -1;
	fd = eventfd_new();
	if (fd < 0)
		return fd;
	gsi = take_gsi(router);
	if (gsi < 0)
		return gsi;
	rc = kvm_vm_irqfd(router->vm, (unsigned)gsi, fd, true);
	if (rc < 0) {
		give_gsi(router, (unsigned)gsi);
		return rc;
	}
	msi->gsi = (unsigned)gsi;
	msi->fd = TAKE_FD(fd);
	return 0;
}

void irq_msi_fini(struct irq_router *router, struct irq_msi *msi)
{
	if (msi_ready(msi)) {
		kvm_vm_irqfd(router->vm, msi->gsi, msi->fd, false);
		fd_close(&msi->fd);
		give_gsi(router, msi->gsi);
	}
	memset(msi, 0, sizeof(*msi));
	msi->fd = -1;
}

void irq_msi_route(struct irq_router *router, struct irq_msi *msi, uint64_t address, uint32_t data)
{
	if (!msi_ready(msi))
		return;
	pthread_mutex_lock(&router->lock);
	msi->address = address;
	msi->data = data;
	msi->routed = true;
	set_route(router, msi->gsi, true, address, data);
	pthread_mutex_unlock(&router->lock);
}

void irq_pin_route(struct irq_router *router, unsigned pin, bool routed, uint64_t address,
		   uint32_t data)
{
	if (pin >= LAYOUT_IOAPIC_PINS)
		return;
	pthread_mutex_lock(&router->lock);
	set_route(router, pin, routed, address, data);
	pthread_mutex_unlock(&router->lock);
}

/* The guest's message in the form that KVM takes: destination bits above 7 go to the upper half. */
static uint64_t kvm_address(uint64_t address)
{
	if (address & MSI_REMAPPABLE)
		return address;
	return (address & ~((uint64_t)MSI_EXT_DEST_MASK << MSI_EXT_DEST_SHIFT)) |
	       ((address >> MSI_EXT_DEST_SHIFT & MSI_EXT_DEST_MASK) << 40);
}

int irq_commit(struct irq_router *router)
{
	struct kvm_irq_routing *table = router->table;
	int rc = 0;

	pthread_mutex_lock(&router->lock);
	if (!router->dirty)
		goto out;
	table->nr = 0;
	for (unsigned i = 0; i < router->num_slots; i++) {
		const struct gsi_slot *slot = &router->slots[i];
		struct kvm_irq_routing_entry *e = &table->entries[table->nr];
		uint64_t address = kvm_address(slot->address);

		if (!slot->routed)
			continue;
		memset(e, 0, sizeof(*e));
		e->gsi = i;
		e->type = KVM_IRQ_ROUTING_MSI;
		e->u.msi.address_lo = (uint32_t)address;
		e->u.msi.address_hi = (uint32_t)(address >> 32);
		e->u.msi.data = slot->data;
		table->nr++;
	}
	rc = kvm_vm_set_gsi_routing(router->vm, table);
	if (rc >= 0) {
		rc = 0;
		router->dirty = false;
	}
out:
	pthread_mutex_unlock(&router->lock);
	return rc;
}

void irq_msi_raise(struct irq_msi *msi)
{
	if (msi_ready(msi))
		eventfd_signal(msi->fd);
}

int irq_send(struct irq_router *router, uint64_t address, uint32_t data)
{
	int rc = kvm_vm_signal_msi(router->vm, kvm_address(address), data);

	return rc > 0 ? 1 : rc;
}
