/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel 82093AA I/O APIC; register names and section numbers are its data sheet's.
 *
 * Theory of operation
 *
 * A pin has its input level and a redirection entry. An edge pin sends its message when the input
 * rises while the entry is unmasked; what rises while masked is lost, as the data sheet has it. A
 * level pin sends when the input is high, the entry unmasked and remote IRR clear; sending sets
 * remote IRR, and the EOI that KVM reports for the vector clears it and sends again if the input is
 * still high.
 *
 * Messages are sent directly (irq_send). Entries of level pins are in the routing table besides,
 * because that is from where KVM learns which EOIs to report. Handing over that table takes long,
 * so it happens after the lock is released.
 */
#include "base/endian.h"
#include "base/log.h"
#include "base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define PINS LAYOUT_IOAPIC_PINS

#define REG_SELECT 0x00
#define REG_WINDOW 0x10

#define INDEX_ID	  0x00
#define INDEX_VERSION	  0x01
#define INDEX_ARBITRATION 0x02
#define INDEX_REDIRECTION 0x10
#define ID_MASK		  0x0f000000U
#define VERSION_VALUE	  (0x11U | (PINS - 1) << 16)

#define RTE_VECTOR	  0xffULL
#define RTE_DELIVERY_MODE (7ULL << 8)
#define RTE_LOGICAL	  (1ULL << 11)
#define RTE_STATUS	  (1ULL << 12) /* delivery status: always idle here */
#define RTE_REMOTE_IRR	  (1ULL << 14)
#define RTE_LEVEL	  (1ULL << 15)
#define RTE_MASKED	  (1ULL << 16)
#define RTE_READ_ONLY	  (RTE_STATUS | RTE_REMOTE_IRR)
/* Bits 47:17 are reserved and read zero. Bits 55:48 too on the chip; they hold the destination's
 * upper bits here. */
#define RTE_VALID (0x1ffffULL | 0xffffULL << 48)

enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_NMI = 4, MODE_INIT = 5, MODE_EXTINT = 7 };

#define MSI_BASE	   0xfee00000ULL
#define MSI_LOGICAL	   (1ULL << 2)
#define MSI_DATA_ASSERT	   (1U << 14)
#define MSI_DATA_LEVEL	   (1U << 15)
#define FIRST_LEGAL_VECTOR 16

struct ioapic {
	struct irq_router *router;
	struct bus *mmio;
	struct bus_range range;
	pthread_mutex_t lock; /* all below */
	uint32_t select;
	uint32_t id;
	uint32_t levels; /* bit n = input of pin n */
	uint64_t entries[PINS];
};

bool ioapic_message(uint64_t entry, uint64_t *ret_address, uint32_t *ret_data)
{
	unsigned mode = (unsigned)((entry & RTE_DELIVERY_MODE) >> 8);
	unsigned vector = (unsigned)(entry & RTE_VECTOR);

	*ret_address = 0;
	*ret_data = 0;
	if (entry & RTE_MASKED || mode == MODE_EXTINT || mode == 3 || mode == 6)
		return false;
	if (mode <= MODE_LOWEST && vector < FIRST_LEGAL_VECTOR)
		return false;
	/* Bits 63:48 of the entry become bits 19:4 of the address. Bit 48 would ask for an
	 * interrupt remapper. */
	*ret_address = MSI_BASE | ((entry >> 49 & 0x7fff) << 5);
	if (entry & RTE_LOGICAL)
		*ret_address |= MSI_LOGICAL;
	*ret_data = vector | (uint32_t)mode << 8;
	if (entry & RTE_LEVEL)
		*ret_data |= MSI_DATA_LEVEL | MSI_DATA_ASSERT;
	return true;
}

static void send(struct ioapic *ioapic, unsigned pin)
{
	uint64_t address;
	uint32_t data;
	int rc;

	if (!ioapic_message(ioapic->entries[pin], &address, &data))
		return;
	rc = irq_send(ioapic->router, address, data);
	if (rc < 0) {
		log_warn_limited("IOAPIC pin %u: vector %u was not delivered: %s", pin,
				 data & 0xffU, strerror(-rc));
		return;
	}
	/* What nobody took will not be ended by an EOI either. */
	if (rc > 0 && ioapic->entries[pin] & RTE_LEVEL)
		ioapic->entries[pin] |= RTE_REMOTE_IRR;
}

/* Sends for a level pin that has something to say. */
static void service_level(struct ioapic *ioapic, unsigned pin)
{
	uint64_t entry = ioapic->entries[pin];

	if (ioapic->levels & 1U << pin && entry & RTE_LEVEL &&
	    !(entry & (RTE_MASKED | RTE_REMOTE_IRR)))
		send(ioapic, pin);
}

/* Tells the router what KVM has to know of the pin. The caller commits without the lock. */
static void route(struct ioapic *ioapic, unsigned pin)
{
	uint64_t address;
	uint32_t data;
	bool sends = ioapic_message(ioapic->entries[pin], &address, &data);

	irq_pin_route(ioapic->router, pin, sends && data & MSI_DATA_LEVEL, address, data);
}

static void commit(struct ioapic *ioapic)
{
	int rc = irq_commit(ioapic->router);

	if (rc < 0)
		log_warn_limited("Cannot hand KVM the interrupt routes: %s", strerror(-rc));
}

void ioapic_set(struct ioapic *ioapic, unsigned pin, bool level)
{
	uint32_t bit;
	bool rises;

	if (pin >= PINS)
		return;
	bit = 1U << pin;
	pthread_mutex_lock(&ioapic->lock);
	rises = level && !(ioapic->levels & bit);
	ioapic->levels = level ? ioapic->levels | bit : ioapic->levels & ~bit;
	if (ioapic->entries[pin] & RTE_LEVEL)
		service_level(ioapic, pin);
	else if (rises)
		send(ioapic, pin);
	pthread_mutex_unlock(&ioapic->lock);
}

void ioapic_pulse(struct ioapic *ioapic, unsigned pin)
{
	ioapic_set(ioapic, pin, true);
	ioapic_set(ioapic, pin, false);
}

void ioapic_eoi(struct ioapic *ioapic, unsigned vector)
{
	pthread_mutex_lock(&ioapic->lock);
	for (unsigned pin = 0; pin < PINS; pin++) {
		uint64_t entry = ioapic->entries[pin];

		if (!(entry & RTE_LEVEL) || (entry & RTE_VECTOR) != vector)
			continue;
		ioapic->entries[pin] = entry & ~RTE_REMOTE_IRR;
		service_level(ioapic, pin);
	}
	pthread_mutex_unlock(&ioapic->lock);
}

static uint32_t read_register(const struct ioapic *ioapic)
{
	unsigned pin = (ioapic->select - INDEX_REDIRECTION) / 2;

	switch (ioapic->select) {
	case INDEX_ID:
	case INDEX_ARBITRATION: return ioapic->id;
	case INDEX_VERSION: return VERSION_VALUE;
	default: break;
	}
	if (ioapic->select < INDEX_REDIRECTION || pin >= PINS)
		return 0;
	return (uint32_t)(ioapic->entries[pin] >> (ioapic->select & 1 ? 32 : 0));
}

/* Writes half a redirection entry. */
static void write_entry(struct ioapic *ioapic, unsigned pin, bool high, uint32_t value)
{
	uint64_t old = ioapic->entries[pin];
	uint64_t entry = high ? (old & UINT32_MAX) | (uint64_t)value << 32
			      : (old & ~(uint64_t)UINT32_MAX) | value;

	entry &= RTE_VALID & ~RTE_READ_ONLY;
	/* Software without an EOI register ends a level interrupt by passing through edge mode. */
	if (entry & RTE_LEVEL)
		entry |= old & RTE_REMOTE_IRR;
	ioapic->entries[pin] = entry;
	route(ioapic, pin);
	service_level(ioapic, pin);
}

/* Returns whether a redirection entry changed. */
static bool write_register(struct ioapic *ioapic, uint32_t value)
{
	unsigned pin = (ioapic->select - INDEX_REDIRECTION) / 2;

	if (ioapic->select == INDEX_ID)
		ioapic->id = value & ID_MASK;
	if (ioapic->select < INDEX_REDIRECTION || pin >= PINS)
		return false;
	write_entry(ioapic, pin, ioapic->select & 1, value);
	return true;
}

static void ioapic_mmio_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct ioapic *ioapic = arg;
	uint32_t value = 0;

	pthread_mutex_lock(&ioapic->lock);
	if (offset == REG_SELECT)
		value = ioapic->select;
	else if (offset == REG_WINDOW)
		value = read_register(ioapic);
	pthread_mutex_unlock(&ioapic->lock);
	le_store(data, value, len);
}

static void ioapic_mmio_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct ioapic *ioapic = arg;
	uint32_t value = (uint32_t)le_load(data, len);
	bool changed = false;

	pthread_mutex_lock(&ioapic->lock);
	if (offset == REG_SELECT)
		ioapic->select = value & 0xff;
	else if (offset == REG_WINDOW && len >= 4) /* registers are written as 32 bits, 3.1 */
		changed = write_register(ioapic, value);
	pthread_mutex_unlock(&ioapic->lock);
	if (changed)
		commit(ioapic);
}

static const struct bus_ops ioapic_bus_ops = {
	.read = ioapic_mmio_read,
	.write = ioapic_mmio_write,
};

static void clear(struct ioapic *ioapic)
{
	ioapic->select = 0;
	ioapic->id = 0;
	ioapic->levels = 0;
	for (unsigned pin = 0; pin < PINS; pin++)
		ioapic->entries[pin] = RTE_MASKED;
}

int ioapic_new(struct irq_router *router, struct bus *mmio, struct ioapic **ret_ioapic,
	       struct err *err)
{
	struct ioapic *ioapic = calloc(1, sizeof(*ioapic));
	int rc;

	if (!ioapic)
		return err_set_errno(err, -ENOMEM, "Cannot create the IOAPIC");
	ioapic->router = router;
	ioapic->mmio = mmio;
	ioapic->range = (struct bus_range){
		.name = "ioapic",
		.ops = &ioapic_bus_ops,
		.arg = ioapic,
		.base = LAYOUT_IOAPIC,
		.size_bytes = LAYOUT_IOAPIC_SIZE,
	};
	clear(ioapic);
	pthread_mutex_init(&ioapic->lock, NULL);
	rc = bus_add(mmio, &ioapic->range, err);
	if (rc < 0) {
		pthread_mutex_destroy(&ioapic->lock);
		free(ioapic);
		return rc;
	}
	*ret_ioapic = ioapic;
	return 0;
}

void ioapic_free(struct ioapic *ioapic)
{
	if (!ioapic)
		return;
	bus_remove(ioapic->mmio, &ioapic->range);
	pthread_mutex_destroy(&ioapic->lock);
	free(ioapic);
}

void ioapic_reset(struct ioapic *ioapic)
{
	pthread_mutex_lock(&ioapic->lock);
	clear(ioapic);
	for (unsigned pin = 0; pin < PINS; pin++)
		route(ioapic, pin);
	pthread_mutex_unlock(&ioapic->lock);
	commit(ioapic);
}

static const struct state_field ioapic_fields[] = {
	STATE_FIELD(STATE_U32, struct ioapic, select),
	STATE_FIELD(STATE_U32, struct ioapic, id),
	STATE_FIELD(STATE_U32, struct ioapic, levels),
	STATE_ARRAY(STATE_U64, struct ioapic, entries),
};

static const struct state_layout ioapic_layout = {
	.name = "ioapic",
	.version = 1,
	.fields = ioapic_fields,
	.num_fields = ARRAY_SIZE(ioapic_fields),
	.struct_size = sizeof(struct ioapic),
};

int ioapic_save(struct ioapic *ioapic, struct buf *out)
{
	int rc;

	pthread_mutex_lock(&ioapic->lock);
	rc = state_save(out, &ioapic_layout, ioapic);
	pthread_mutex_unlock(&ioapic->lock);
	return rc;
}

int ioapic_load(struct ioapic *ioapic, struct cursor *in, struct err *err)
{
	int rc;

	pthread_mutex_lock(&ioapic->lock);
	rc = state_load(in, &ioapic_layout, ioapic, err);
	if (rc >= 0) {
		ioapic->select &= 0xff;
		ioapic->id &= ID_MASK;
		ioapic->levels &= (1U << PINS) - 1;
		for (unsigned pin = 0; pin < PINS; pin++) {
			ioapic->entries[pin] &= RTE_VALID & ~RTE_STATUS;
			route(ioapic, pin);
		}
	}
	pthread_mutex_unlock(&ioapic->lock);
	if (rc >= 0)
		commit(ioapic);
	return rc;
}
