/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt routing: MSI through irqfd, the IOAPIC's pins, and the one routing table that KVM
 * takes.
 *
 * Theory of operation
 *
 * KVM delivers an irqfd's interrupt by looking its GSI up in a table that can only be replaced as a
 * whole, at the price of a grace period. So changes only mark the table dirty, and irq_commit()
 * hands it over once: when a device's vectors are all programmed, at restore, or at once for a
 * device that runs. GSIs 0..23 are the IOAPIC's pins; MSIs get theirs above, lazily, and give them
 * back.
 */
#ifndef VMM_BUS_IRQ_H
#define VMM_BUS_IRQ_H

#include "base/cursor.h"
#include "base/err.h"

struct kvm_vm;
struct bus;
struct irq_router;

/* `vm` outlives the router. Returns 0 or -ENOMEM. */
int irq_router_new(struct kvm_vm *vm, struct irq_router **ret_router);
void irq_router_free(struct irq_router *router);

/* One message-signalled interrupt. Zero-initialise; owned by whoever embeds it. */
struct irq_msi {
	int fd; /* eventfd; signalling it raises the interrupt. -1 before irq_msi_init() */
	unsigned gsi;
	uint64_t address;
	uint32_t data;
	bool routed;
};

/* Gets an eventfd and a GSI and attaches them. Returns 0, -ENOSPC (KVM's routes used up), or
 * negative errno. Any thread. */
int irq_msi_init(struct irq_router *router, struct irq_msi *msi);
void irq_msi_fini(struct irq_router *router,
		  struct irq_msi *msi); /* a zeroed one with fd -1 is fine */

/* Sets where the message goes; takes effect at the next irq_commit(). An unchanged route is no
 * change. Any thread. */
void irq_msi_route(struct irq_router *router, struct irq_msi *msi, uint64_t address, uint32_t data);

/* Hands the table to KVM if it changed. Returns 0 or negative errno. Any thread. */
int irq_commit(struct irq_router *router);

/* Raises the interrupt now. Any thread; never blocks. */
void irq_msi_raise(struct irq_msi *msi);

/*
 * The message that stands for an IOAPIC pin (0..23), or none (routed false). KVM needs it in the
 * table only to know which vectors' EOIs to report; takes effect at the next irq_commit(). Any
 * thread.
 */
void irq_pin_route(struct irq_router *router, unsigned pin, bool routed, uint64_t address,
		   uint32_t data);

/* Sends a message now, past the table. Any thread. Returns 1, 0 when no vCPU takes it (its APIC is
 * off), or negative errno. */
int irq_send(struct irq_router *router, uint64_t address, uint32_t data);

/* --- IOAPIC (Intel 82093AA), 24 pins, in user space since KVM's irqchip is split --- */

struct ioapic;

/* Puts an IOAPIC at LAYOUT_IOAPIC on `mmio`. */
int ioapic_new(struct irq_router *router, struct bus *mmio, struct ioapic **ret_ioapic,
	       struct err *err);
void ioapic_free(struct ioapic *ioapic);

/* Sets a pin's level; an edge pin fires on 0 -> 1. Any thread, never blocks. Pins >= 24 are
 * ignored. */
void ioapic_set(struct ioapic *ioapic, unsigned pin, bool level);

/* A short pulse on an edge pin. */
void ioapic_pulse(struct ioapic *ioapic, unsigned pin);

/* KVM_EXIT_IOAPIC_EOI for `vector`. vCPU thread. */
void ioapic_eoi(struct ioapic *ioapic, unsigned vector);

/*
 * The message that a redirection entry (82093AA, 3.2.4) sends (Intel SDM volume 3, 11.11), with
 * bits 55:49 of the entry as destination bits 14:8 in the address's bits 11:5. False for an entry
 * that sends none: masked, an illegal vector, or a delivery mode that needs a PIC.
 */
bool ioapic_message(uint64_t entry, uint64_t *ret_address, uint32_t *ret_data);

void ioapic_reset(struct ioapic *ioapic);
int ioapic_save(struct ioapic *ioapic, struct buf *out);
int ioapic_load(struct ioapic *ioapic, struct cursor *in, struct err *err);

#endif
