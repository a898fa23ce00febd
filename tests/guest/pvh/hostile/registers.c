/* SPDX-License-Identifier: Apache-2.0 */
/* The registers of a virtio function: every one, in every width and state. */
#include "tests/guest/pvh/hostile/attacks.h"

#define NO_VECTOR 0xffff
#define SIZE	  16

static const unsigned widths[] = {1, 2, 4, 8};

/* What to write: nothing, everything, something. */
static uint64_t value_of(unsigned i)
{
	return i == 0 ? 0 : i == 1 ? ~0ULL : any();
}

/* --- common configuration --- */

static const uint8_t states[] = {
	0,
	STATUS_ACKNOWLEDGE,
	STATUS_ACKNOWLEDGE | STATUS_DRIVER,
	STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK,
	STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK,
	STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FAILED,
};

static void enter_state(struct vdev *d, uint8_t state)
{
	if (state & STATUS_DRIVER_OK) {
		start_device(d, SIZE);
		return;
	}
	reset_device(d);
	if (state & STATUS_FEATURES_OK)
		negotiate(d, d->features);
	else
		*mmio8(d->common + COMMON_STATUS) = state;
}

static void every_register(struct vdev *d, uint8_t state)
{
	for (unsigned v = 0; v < 3; v++)
		for (unsigned w = 0; w < 4; w++) {
			enter_state(d, state);
			for (unsigned at = 0; at < COMMON_END + 8; at++) {
				/* Status has an attack of its own; here it would only end the
				 * state. */
				if (at <= COMMON_STATUS && at + widths[w] > COMMON_STATUS &&
				    widths[w] == 1)
					continue;
				read_width(d->common + at, widths[w]);
				write_width(d->common + at, widths[w], value_of(v));
			}
		}
}

void attack_registers(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++)
		for (unsigned s = 0; s < sizeof(states); s++)
			every_register(&vdevs[i], states[s]);
}

void attack_status(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++) {
		volatile uint8_t *status = mmio8(vdevs[i].common + COMMON_STATUS);

		for (unsigned v = 0; v < 256; v += v < 32 ? 1 : 13) {
			reset_device(&vdevs[i]);
			*status = (uint8_t)v;
		}
		/* Orders that a specification cannot foresee; the reset is not waited for. */
		for (unsigned n = 0; n < 500; n++)
			*status = n % 16 ? (uint8_t)any() : 15;
		for (unsigned n = 0; n < 30; n++) {
			start_device(&vdevs[i], SIZE);
			*status = 0;
			*status = 15;
		}
	}
}

/* What was given before DRIVER_OK stays. */
void attack_activated(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++) {
		struct vdev *d = &vdevs[i];
		unsigned q = d->num_queues > 1;

		start_device(d, SIZE);
		*mmio16(d->common + COMMON_Q_SELECT) = (uint16_t)q;
		for (unsigned size = 0; size < 0x10000; size += size < 300 ? 1 : 0x111) {
			*mmio16(d->common + COMMON_Q_SIZE) = (uint16_t)size;
			*mmio16(d->common + COMMON_Q_ENABLE) = (uint16_t)size;
		}
		*mmio16(d->common + COMMON_Q_SIZE) = 256;
		for (unsigned n = 0; n < 100; n++)
			*mmio64(d->common + COMMON_Q_DESC + 8 * below(3)) = any();
		*mmio16(d->common + COMMON_Q_ENABLE) = 0;
		*mmio32(d->common + COMMON_GF) = 0;
		if (*mmio16(d->common + COMMON_Q_SIZE) != SIZE)
			complain(d, "took another queue size", *mmio16(d->common + COMMON_Q_SIZE));
		if (*mmio64(d->common + COMMON_Q_DESC) != (uintptr_t)d->queues[q].memory->desc)
			complain(d, "took another ring", *mmio64(d->common + COMMON_Q_DESC));
		good_chain(d, q);
		for (unsigned n = 1; n <= 3 * SIZE; n++) {
			offer(d, q, 0);
			notify(d, q);
			if (wait_for(d, q, (uint16_t)n, 1000) != ANSWERED) {
				complain(d, "does not answer request", n);
				break;
			}
		}
	}
}

/* --- selectors: a queue, a vector, a word of features that does not exist --- */

static unsigned next_number(unsigned n)
{
	return n + (n < 80 ? 1 : n < 0xff80 ? 0x95 : 7);
}

void attack_selectors(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++) {
		struct vdev *d = &vdevs[i];
		unsigned num_queues;

		reset_device(d);
		negotiate(d, d->features);
		num_queues = *mmio16(d->common + COMMON_NUMQ);
		for (unsigned n = num_queues; n < 0x10000; n = next_number(n)) {
			*mmio16(d->common + COMMON_Q_SELECT) = (uint16_t)n;
			*mmio16(d->common + COMMON_Q_SIZE) = 16;
			*mmio16(d->common + COMMON_Q_MSIX) = 0;
			*mmio64(d->common + COMMON_Q_USED) = ~0ULL;
			*mmio16(d->common + COMMON_Q_ENABLE) = 1;
			if (*mmio16(d->common + COMMON_Q_SIZE) ||
			    *mmio16(d->common + COMMON_Q_ENABLE))
				complain(d, "has a queue", n);
		}
		for (unsigned n = 0; n < 200; n++) {
			*mmio32(d->common + COMMON_DFSELECT) = (uint32_t)any();
			*mmio32(d->common + COMMON_GFSELECT) = (uint32_t)any();
			*mmio32(d->common + COMMON_GF) = (uint32_t)any();
			read_width(d->common + COMMON_DF, 4);
			read_width(d->common + COMMON_GF, 4);
		}
	}
}

void attack_vectors(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++) {
		struct vdev *d = &vdevs[i];

		start_device(d, SIZE);
		*mmio16(d->common + COMMON_Q_SELECT) = 0;
		for (unsigned n = 0; n < 0x10000; n = next_number(n))
			for (unsigned at = COMMON_MSIX; at <= COMMON_Q_MSIX;
			     at += COMMON_Q_MSIX - COMMON_MSIX) {
				uint16_t got;

				*mmio16(d->common + at) = (uint16_t)n;
				got = *mmio16(d->common + at);
				if (got != (n < d->num_vectors ? n : NO_VECTOR))
					complain(d, "took vector", n);
			}
	}
}

/* --- notifications, and all the rest of the BAR --- */

void attack_notify(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++)
		for (unsigned started = 0; started < 2; started++) {
			struct vdev *d = &vdevs[i];

			reset_device(d);
			if (started)
				start_device(d, SIZE);
			for (unsigned at = 0; at < 0x1000; at += at < 64 ? 1 : 61)
				for (unsigned w = 0; w < 4; w++)
					write_width(d->notify + at, widths[w], any());
			for (unsigned n = 0; n < 0x10000; n = next_number(n))
				*mmio16(d->notify) = (uint16_t)n;
		}
}

/* Around each edge of what the capabilities name, and through the rest in large steps. */
void attack_bar(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++) {
		struct vdev *d = &vdevs[i];
		const uint64_t edges[] = {
			d->common,
			d->common + COMMON_END,
			d->isr,
			d->config,
			d->config + 0x1000,
			d->notify,
			d->notify + 0x1000,
			d->bar + d->table,
			d->bar + d->pba,
			d->bar + d->bar_size - 8,
		};

		start_device(d, SIZE);
		for (unsigned w = 0; w < 4; w++) {
			for (unsigned e = 0; e < sizeof(edges) / sizeof(edges[0]); e++)
				for (unsigned n = 0; n < 24; n++) {
					uint64_t at = edges[e] - 8 + n;

					if (at < d->bar || at >= d->bar + d->bar_size)
						continue;
					read_width(at, widths[w]);
					/* Behind it may be a device that has done nothing. */
					if (at + widths[w] <= d->bar + d->bar_size)
						write_width(at, widths[w], value_of(n % 3));
				}
			for (unsigned at = 0; at < d->bar_size - 8; at += 997) {
				read_width(d->bar + at, widths[w]);
				write_width(d->bar + at, widths[w], any());
			}
			for (unsigned at = 0; at < 0x80; at++) {
				read_width(d->config + at, widths[w]);
				write_width(d->config + at, widths[w], any());
			}
		}
	}
}

/* --- MSI-X --- */

static void enable_msix(const struct vdev *d, uint16_t control)
{
	guest_pci_write(d->slot, d->msix, (uint32_t)control << 16);
}

static void every_table_access(struct vdev *d)
{
	uint64_t table = d->bar + d->table, pba = d->bar + d->pba;
	unsigned bytes = d->num_vectors * 16;

	for (unsigned w = 0; w < 4; w++) {
		for (unsigned at = 0; at < bytes + 40; at++) {
			read_width(table + at, widths[w]);
			write_width(table + at, widths[w], any());
		}
		for (unsigned at = 0; at < 24; at++) {
			read_width(pba + at, widths[w]);
			write_width(pba + at, widths[w], any());
		}
	}
	/* The last vector that a table could have, and beyond. */
	for (unsigned at = 0x7f00; at < 0x8020; at += 12) {
		read_width(table + at, 4);
		write_width(table + at, 4, any());
	}
}

/* Messages to places where no interrupt controller is, with masks that change all the time, while
 * the device has reason to send them. */
static void wild_messages(struct vdev *d)
{
	unsigned q = d->num_queues > 1;

	start_device(d, SIZE);
	*mmio16(d->common + COMMON_MSIX) = 0;
	*mmio16(d->common + COMMON_Q_SELECT) = (uint16_t)q;
	*mmio16(d->common + COMMON_Q_MSIX) = (uint16_t)(1 % d->num_vectors);
	enable_msix(d, 0x8000);
	good_chain(d, q);
	for (unsigned n = 0; n < 60; n++) {
		unsigned v = below(d->num_vectors);
		uint64_t entry = d->bar + d->table + (uint64_t)v * 16;

		*mmio64(entry) = n % 2 ? any() : 0xfee00000 | (any() & 0xffffc);
		*mmio32(entry + 8) = (uint32_t)any();
		*mmio32(entry + 12) = n % 4 == 3;
		offer(d, q, 0);
		notify(d, q);
		if (n % 8 == 0)
			enable_msix(d, (uint16_t)any());
		enable_msix(d, 0x8000);
	}
	enable_msix(d, 0);
}

void attack_msix(const char *value)
{
	static const uint16_t controls[] = {0, 0x8000, 0xc000, 0x4000};

	for (unsigned i = 0; i < num_vdevs; i++) {
		for (unsigned c = 0; c < 4; c++) {
			enable_msix(&vdevs[i], controls[c]);
			every_table_access(&vdevs[i]);
		}
		wild_messages(&vdevs[i]);
	}
}
