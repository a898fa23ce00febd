/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space by both its ways, BARs that move, and the window into a BAR. */
#include "tests/guest/pvh/hostile/attacks.h"

#define BAR0	      0x10
#define COMMAND	      0x04
#define PCI_ABSENT    0xffffffff
#define WINDOW_BAR    4
#define WINDOW_OFFSET 8
#define WINDOW_LENGTH 12
#define WINDOW_DATA   16

static const unsigned widths[] = {1, 2, 4, 8};

/* --- configuration space --- */

/* By the ports, in a width; also where no width fits. */
static uint32_t port_access(unsigned slot, unsigned offset, unsigned width, bool write,
			    uint32_t value)
{
	uint16_t port = (uint16_t)(GUEST_PCI_DATA + (offset & 3));

	out32(GUEST_PCI_ADDRESS, 0x80000000 | slot << 11 | (offset & 0xfc));
	if (write) {
		if (width == 1)
			out8(port, (uint8_t)value);
		else if (width == 2)
			out16(port, (uint16_t)value);
		else
			out32(port, value);
		return 0;
	}
	return width == 1 ? in8(port) : width == 2 ? in16(port) : in32(port);
}

static void every_offset(unsigned slot)
{
	for (unsigned w = 0; w < 4; w++)
		for (unsigned at = 0; at < 256 + 8; at++) {
			uint64_t ecam = guest_ecam(slot, at);
			uint64_t value = at % 3 == 0 ? 0 : at % 3 == 1 ? ~0ULL : any();

			read_width(ecam, widths[w]);
			write_width(ecam, widths[w], value);
			if (widths[w] > 4)
				continue;
			port_access(slot, at & 0xff, widths[w], false, 0);
			port_access(slot, at & 0xff, widths[w], true, (uint32_t)~value);
		}
}

static void far_offsets(unsigned slot)
{
	for (unsigned function = 0; function < 8; function++)
		for (unsigned at = 0; at < 4096; at += 251) {
			uint64_t ecam = guest_ecam(slot, at) + function * 4096;

			read_width(ecam, 4);
			if (function || at >= 256)
				write_width(ecam, 4, any());
		}
}

void attack_config(const char *value)
{
	for (unsigned slot = 0; slot < GUEST_PCI_SLOTS; slot++) {
		bool there = guest_pci_read(slot, 0) != PCI_ABSENT;

		if (there || slot % 8 == 7) {
			every_offset(slot);
			far_offsets(slot);
		}
	}
	/* Addresses with buses, functions and bits that are reserved, in widths that are none. */
	for (unsigned n = 0; n < 500; n++) {
		out32(GUEST_PCI_ADDRESS, (uint32_t)any());
		port_access(below(32), below(256), 1U << below(3), n % 2, (uint32_t)any());
		out16(GUEST_PCI_ADDRESS + 1, (uint16_t)any());
		out8((uint16_t)(GUEST_PCI_ADDRESS + below(8)), (uint8_t)any());
		in32((uint16_t)(GUEST_PCI_ADDRESS + below(8)));
	}
	/* The ends of ECAM. */
	for (unsigned w = 0; w < 4; w++)
		for (unsigned n = 0; n < 16; n++) {
			read_width(GUEST_ECAM + 0x100000 - 8 + n, widths[w]);
			write_width(GUEST_ECAM + 0x100000 - 8 + n, widths[w], any());
		}
}

/* --- BARs --- */

static void move_bar(const struct vdev *d, uint64_t to)
{
	guest_pci_write(d->slot, BAR0, (uint32_t)to);
	guest_pci_write(d->slot, BAR0 + 4, (uint32_t)(to >> 32));
}

static const uint64_t places[] = {
	0,	     /* RAM */
	0x3f80000,   /* its end */
	RAM_END,     /* the hole behind it */
	0xbff80000,  /* across the start of the window */
	0xc0000000,  /* the window */
	0xe7f80000,  /* its end */
	0xe8000000,  /* ECAM */
	0xf8000000,  /* KVM's pages */
	0xfec00000,  /* IOAPIC */
	0xfee00000,  /* local APIC */
	0xfff80000,  /* up to 4 GiB */
	0x100000000, /* where the other BARs are */
	0x180000000, 0x8000000000, 0xfffffff80000, 0xfffffffffff80000,
};

#define NUM_PLACES (sizeof(places) / sizeof(places[0]))

/* RAM stays RAM, whatever lies over it. */
static void check_ram(const struct vdev *d)
{
	volatile uint64_t *word = mmio64(0x3f80000 + COMMON_Q_DESC);
	uint64_t value = any();

	*word = value;
	if (*word != value)
		complain(d, "lies over RAM", (uintptr_t)word);
}

static void onto_each_other(void)
{
	for (unsigned i = 0; i < num_vdevs; i++)
		for (unsigned j = 0; j < num_vdevs; j++) {
			move_bar(&vdevs[i], vdevs[j].bar);
			read_width(vdevs[j].bar, 4);
			write_width(vdevs[j].notify, 2, 0);
			/* By half a BAR, if the alignment were not what it is. */
			move_bar(&vdevs[i], vdevs[j].bar + vdevs[j].bar_size / 2);
			read_width(vdevs[j].bar, 4);
		}
	for (unsigned i = 0; i < num_vdevs; i++)
		restore_function(&vdevs[i]);
}

void attack_bars(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++) {
		struct vdev *d = &vdevs[i];

		start_device(d, 16);
		for (unsigned p = 0; p < NUM_PLACES; p++) {
			move_bar(d, places[p]);
			move_bar(d, places[p]);
			check_ram(d);
			if (places[p] >= 0xc0000000 && places[p] < 0x200000000) {
				read_width(places[p] + COMMON_STATUS, 1);
				write_width(places[p] + 0x6000, 2, 0);
			}
			guest_pci_write(d->slot, COMMAND, 0);
			guest_pci_write(d->slot, COMMAND, 0xffff);
		}
		restore_function(d);
		/* Sized while it is decoded and at work. */
		for (unsigned n = 0; n < 20; n++) {
			guest_pci_write(d->slot, BAR0, 0xffffffff);
			guest_pci_read(d->slot, BAR0);
			guest_pci_write(d->slot, BAR0 + 4, 0xffffffff);
			notify(d, 0);
			move_bar(d, d->bar);
			notify(d, 0);
		}
		for (unsigned n = 0; n < 50; n++)
			guest_pci_write(d->slot, COMMAND, (uint32_t)any());
		restore_function(d);
	}
	onto_each_other();
}

/* --- the configuration access capability --- */

static void use_window(const struct vdev *d, uint32_t bar, uint32_t offset, uint32_t length)
{
	uint64_t window = guest_ecam(d->slot, d->window);

	write_width(window + WINDOW_BAR, 1, bar);
	write_width(window + WINDOW_OFFSET, 4, offset);
	write_width(window + WINDOW_LENGTH, 4, length);
	for (unsigned w = 0; w < 3; w++)
		for (unsigned at = 0; at < 4; at += widths[w]) {
			read_width(window + WINDOW_DATA + at, widths[w]);
			write_width(window + WINDOW_DATA + at, widths[w], any());
		}
}

void attack_window(const char *value)
{
	static const uint32_t lengths[] = {0, 1,  2,   3,	4,	    5,
					   8, 16, 255, 0x10000, 0x80000000, 0xffffffff};

	for (unsigned i = 0; i < num_vdevs; i++) {
		struct vdev *d = &vdevs[i];
		const uint32_t offsets[] = {
			0,
			1,
			COMMON_STATUS,
			0x2000,
			0x4000,
			0x6000,
			0x6ffe,
			d->table,
			d->table + 2,
			d->pba,
			d->bar_size,
			d->bar_size - 1,
			d->bar_size - 2,
			d->bar_size - 4,
			0x7fffffff,
			0xfffffffc,
			0xffffffff,
		};

		start_device(d, 16);
		for (unsigned o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++)
			for (unsigned l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++)
				use_window(d, 0, offsets[o], lengths[l]);
		for (unsigned bar = 0; bar < 256; bar += bar < 16 ? 1 : 17)
			use_window(d, bar, 0, 4);
		for (unsigned n = 0; n < 200; n++)
			use_window(d, 0, below(d->bar_size), 1U << below(3));
	}
}
