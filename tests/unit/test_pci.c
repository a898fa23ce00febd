/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/pci.h"

#include "tests/unit/device_rig.h"

#include "base/cursor.h"
#include "vmm/memory/guest_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ECAM	  0xe8000000ULL
#define WINDOW32  0xc0000000ULL
#define WINDOW64  0x1000000000ULL
#define RAM64_END (4 * GIB + 64 * MIB)

/* A function whose BARs answer with their index and offset. */
struct card {
	struct pci_device pdev;
	unsigned accesses;
	uint64_t last_offset;
	unsigned last_bar;
	uint64_t base[PCI_NUM_BARS];
	bool mapped[PCI_NUM_BARS];
	unsigned moves;
	unsigned hook_writes, hook_reads;
};

struct board {
	struct bus *mmio, *pio;
	struct pci_segment *segment;
	struct guest_memory memory;
	struct card cards[3];
};

static struct card *card_of(struct pci_device *pdev)
{
	return container_of(pdev, struct card, pdev);
}

static void card_read(struct pci_device *pdev, unsigned bar, uint64_t offset, void *data,
		      unsigned len)
{
	struct card *c = card_of(pdev);

	assert_true(offset + len <= pdev->bars[bar].size_bytes);
	c->accesses++;
	c->last_bar = bar;
	c->last_offset = offset;
	memset(data, 0x40 + (int)bar, len);
}

static void card_write(struct pci_device *pdev, unsigned bar, uint64_t offset, const void *data,
		       unsigned len)
{
	struct card *c = card_of(pdev);

	assert_true(offset + len <= pdev->bars[bar].size_bytes);
	c->accesses++;
}

static void card_moved(struct pci_device *pdev, unsigned bar, uint64_t base, bool mapped)
{
	struct card *c = card_of(pdev);

	/* Off before on again, so that the old place's ioeventfds can go. */
	assert_true(c->mapped[bar] != mapped);
	assert_true(mapped || base == 0);
	c->base[bar] = base;
	c->mapped[bar] = mapped;
	c->moves++;
}

static void card_config_written(struct pci_device *pdev, unsigned offset, unsigned len)
{
	card_of(pdev)->hook_writes++;
}

static void card_config_reading(struct pci_device *pdev, unsigned offset, unsigned len)
{
	card_of(pdev)->hook_reads++;
}

static const struct pci_device_ops card_ops = {
	.bar_read = card_read,
	.bar_write = card_write,
	.bar_moved = card_moved,
	.config_written = card_config_written,
	.config_reading = card_config_reading,
};

static const struct pci_device_id card_id = {
	.vendor = 0x1af4,
	.device = 0x1042,
	.subsystem_vendor = 0x1af4,
	.subsystem = 2,
	.revision = 1,
	.class_code = 1,
};

/* A 64-bit BAR of 512 KiB, a 32-bit one of 4 KiB, and a 64-bit one of 1 MiB. */
static void card_init(struct card *c, const char *name)
{
	memset(c, 0, sizeof(*c));
	assert_int_equal(pci_device_init(&c->pdev, &card_ops, name, &card_id), 0);
	assert_int_equal(pci_device_add_bar(&c->pdev, 0, 512 * KIB, true, true), 0);
	assert_int_equal(pci_device_add_bar(&c->pdev, 2, 4 * KIB, false, false), 0);
	assert_int_equal(pci_device_add_bar(&c->pdev, 4, MIB, true, false), 0);
}

static int setup(void **state)
{
	struct board *b = calloc(1, sizeof(*b));
	struct pci_segment_params params = {
		.ecam_base = ECAM,
		.mmio32_base = WINDOW32,
		.mmio32_size = 640 * MIB,
		/* Reaches down over RAM on purpose: the RAM must be refused all the same. */
		.mmio64_base = 4 * GIB,
		.mmio64_size = 256 * GIB,
	};

	*state = b;
	if (!b || bus_new("mmio", &b->mmio) < 0 || bus_new("pio", &b->pio) < 0)
		return -1;
	b->memory.num_regions = 2;
	b->memory.regions[0] = (struct guest_region){.size_bytes = 3 * GIB};
	b->memory.regions[1] =
		(struct guest_region){.start = {4 * GIB}, .size_bytes = RAM64_END - 4 * GIB};
	params.memory = &b->memory;
	if (pci_segment_new(&params, b->mmio, b->pio, &b->segment, NULL) < 0)
		return -1;
	for (unsigned i = 0; i < ARRAY_SIZE(b->cards); i++) {
		char name[16];

		snprintf(name, sizeof(name), "card%u", i);
		card_init(&b->cards[i], name);
		if (pci_attach(b->segment, &b->cards[i].pdev, -1, NULL) < 0)
			return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	struct board *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(b->cards); i++) {
		pci_detach(&b->cards[i].pdev);
		pci_device_fini(&b->cards[i].pdev);
	}
	pci_segment_free(b->segment);
	bus_free(b->mmio);
	bus_free(b->pio);
	free(b);
	return 0;
}

static uint64_t ecam(unsigned slot, unsigned offset)
{
	return ECAM + slot * 0x8000ULL + offset;
}

static uint32_t config_in(struct board *b, unsigned slot, unsigned offset, unsigned len)
{
	return (uint32_t)rig_in(b->mmio, ecam(slot, offset), len);
}

static void config_out(struct board *b, unsigned slot, unsigned offset, uint32_t value,
		       unsigned len)
{
	rig_out(b->mmio, ecam(slot, offset), value, len);
}

static void set_bar64(struct board *b, unsigned slot, unsigned index, uint64_t base)
{
	config_out(b, slot, 0x10 + index * 4, (uint32_t)base, 4);
	config_out(b, slot, 0x14 + index * 4, (uint32_t)(base >> 32), 4);
}

static uint64_t get_bar64(struct board *b, unsigned slot, unsigned index)
{
	return (config_in(b, slot, 0x10 + index * 4, 4) & ~0xfU) |
	       (uint64_t)config_in(b, slot, 0x14 + index * 4, 4) << 32;
}

static bool answers(struct board *b, uint64_t addr, struct card *card, unsigned bar)
{
	unsigned before = card->accesses;

	rig_in(b->mmio, addr, 4);
	return card->accesses == before + 1 && card->last_bar == bar;
}

/* --- configuration space --- */

static void host_bridge_is_in_slot_0(void **state)
{
	assert_int_equal(config_in(*state, 0, 0, 4), 0x0d578086);
	assert_int_equal(config_in(*state, 0, 8, 4), 0x06000000);
	/* It has no BARs: nothing sizes. */
	for (unsigned i = 0; i < 6; i++) {
		config_out(*state, 0, 0x10 + i * 4, UINT32_MAX, 4);
		assert_int_equal(config_in(*state, 0, 0x10 + i * 4, 4), 0);
	}
}

static void header_shows_the_identity(void **state)
{
	assert_int_equal(config_in(*state, 1, 0, 4), 0x10421af4);
	assert_int_equal(config_in(*state, 1, 0x2c, 4), 0x00021af4);
	assert_int_equal(config_in(*state, 1, 8, 1), 1);
	assert_int_equal(config_in(*state, 1, 0xb, 1), 1);
	assert_int_equal(config_in(*state, 1, 0xe, 1), 0);
	config_out(*state, 1, 0, 0, 4);
	assert_int_equal(config_in(*state, 1, 0, 4), 0x10421af4);
	config_out(*state, 1, 0x3c, 0xffff, 2);
	assert_int_equal(config_in(*state, 1, 0x3c, 2), 0x00ff);
}

static void absent_slots_and_functions_read_ones(void **state)
{
	struct board *b = *state;

	assert_int_equal(config_in(b, 4, 0, 4), UINT32_MAX);
	assert_int_equal(config_in(b, 31, 0, 2), 0xffff);
	for (unsigned function = 1; function < 8; function++)
		assert_int_equal(config_in(b, 1, function * 0x1000, 4), UINT32_MAX);
}

static void extended_space_is_empty(void **state)
{
	for (unsigned offset = 0x100; offset < 0x1000; offset += 4) {
		config_out(*state, 1, offset, UINT32_MAX, 4);
		assert_int_equal(config_in(*state, 1, offset, 4), 0);
	}
}

static void accesses_across_dwords_read_ones_and_write_nothing(void **state)
{
	struct board *b = *state;

	for (unsigned offset = 0; offset < 0x108; offset++)
		for (unsigned len = 1; len <= 8; len++) {
			bool legal = (len == 1 || len == 2 || len == 4) && (offset & 3) + len <= 4;
			uint64_t all = len == 8 ? UINT64_MAX : (1ULL << len * 8) - 1;
			uint64_t value = rig_in(b->mmio, ecam(1, offset), len);

			if (!legal) {
				assert_true(value == all);
				rig_out(b->mmio, ecam(1, offset), 0, len);
			} else if (offset >= 0x100) {
				assert_true(value == 0);
			}
		}
	assert_int_equal(config_in(b, 1, 0x34, 1), 0);
	assert_int_equal(config_in(b, 1, 4, 2), 2);
}

static void ports_reach_the_same_space(void **state)
{
	struct board *b = *state;

	rig_out(b->pio, 0xcf8, 0x80000800, 4);
	assert_true(rig_in(b->pio, 0xcf8, 4) == 0x80000800);
	assert_true(rig_in(b->pio, 0xcfc, 4) == 0x10421af4);
	assert_true(rig_in(b->pio, 0xcfe, 2) == 0x1042);
	assert_true(rig_in(b->pio, 0xcfd, 1) == 0x1a);
	/* A byte written in the middle. */
	rig_out(b->pio, 0xcf8, 0x8000083c, 4);
	rig_out(b->pio, 0xcfc, 0x0b, 1);
	assert_int_equal(config_in(b, 1, 0x3c, 1), 0x0b);
}

static void ports_ignore_what_is_no_configuration_access(void **state)
{
	struct board *b = *state;

	rig_out(b->pio, 0xcf8, 0x00000800, 4); /* not enabled */
	assert_true(rig_in(b->pio, 0xcfc, 4) == UINT32_MAX);
	rig_out(b->pio, 0xcf8, 0x80010800, 4); /* bus 1 */
	assert_true(rig_in(b->pio, 0xcfc, 4) == UINT32_MAX);
	rig_out(b->pio, 0xcf8, 0x80000800, 4);
	rig_out(b->pio, 0xcfb, 0x01, 1); /* a byte of the address: the classic probe */
	rig_out(b->pio, 0xcf8, 0, 2);
	assert_true(rig_in(b->pio, 0xcf8, 4) == 0x80000800);
	assert_true(rig_in(b->pio, 0xcf9, 1) == 0xff);
	/* Straddling address and data, the end, and eight bytes. */
	assert_true(rig_in(b->pio, 0xcfa, 4) == UINT32_MAX);
	assert_true(rig_in(b->pio, 0xcfd, 4) == UINT32_MAX);
	assert_true(rig_in(b->pio, 0xcff, 2) == 0xffff);
	assert_true(rig_in(b->pio, 0xcf8, 8) == UINT64_MAX);
	/* Extended registers through bits 27:24 are the extended space, not an alias. */
	rig_out(b->pio, 0xcf8, 0x81000800, 4);
	assert_true(rig_in(b->pio, 0xcfc, 4) == 0);
}

static void every_port_width_and_address_is_survived(void **state)
{
	struct board *b = *state;

	for (unsigned bit = 0; bit < 32; bit++)
		for (unsigned port = 0xcf6; port < 0xd02; port++)
			for (unsigned len = 1; len <= 8; len++) {
				rig_out(b->pio, 0xcf8, 0x80000000 | 1U << bit, 4);
				rig_in(b->pio, port, len);
				rig_out(b->pio, port, 0, len);
			}
	for (unsigned i = 0; i < ARRAY_SIZE(b->cards); i++)
		pci_device_reset(&b->cards[i].pdev);
}

/* --- BARs --- */

static void bars_are_assigned_aligned_apart_and_decoded(void **state)
{
	struct board *b = *state;

	assert_int_equal(config_in(b, 1, 4, 2), 2);
	for (unsigned i = 0; i < ARRAY_SIZE(b->cards); i++) {
		struct card *c = &b->cards[i];
		uint64_t bar0 = get_bar64(b, i + 1, 0), bar4 = get_bar64(b, i + 1, 4);
		uint32_t bar2 = config_in(b, i + 1, 0x18, 4);

		assert_true(bar0 % (512 * KIB) == 0 && bar0 >= RAM64_END);
		assert_true(bar4 % MIB == 0 && bar4 >= RAM64_END);
		assert_true(bar2 % 4096 == 0 && bar2 >= WINDOW32);
		assert_true(answers(b, bar0, c, 0));
		assert_true(answers(b, bar0 + 512 * KIB - 4, c, 0));
		assert_true(answers(b, bar2, c, 2));
		assert_true(answers(b, bar4 + MIB - 4, c, 4));
		assert_true(c->mapped[0] && c->base[0] == bar0);
	}
}

static void sizing_shows_the_size_and_restoring_the_address_the_bar(void **state)
{
	struct board *b = *state;
	uint64_t bar0 = get_bar64(b, 1, 0);
	uint32_t bar2 = config_in(b, 1, 0x18, 4);

	set_bar64(b, 1, 0, UINT64_MAX);
	assert_int_equal(config_in(b, 1, 0x10, 4), 0xfff8000c);
	assert_int_equal(config_in(b, 1, 0x14, 4), 0xffffffff);
	assert_false(b->cards[0].mapped[0]);
	set_bar64(b, 1, 0, bar0);
	assert_true(answers(b, bar0, &b->cards[0], 0));
	config_out(b, 1, 0x18, UINT32_MAX, 4);
	assert_int_equal(config_in(b, 1, 0x18, 4), 0xfffff000);
	config_out(b, 1, 0x18, bar2, 4);
	assert_true(answers(b, bar2, &b->cards[0], 2));
	/* Byte by byte works too. */
	for (unsigned i = 0; i < 4; i++)
		config_out(b, 1, 0x18 + i, 0xff, 1);
	assert_int_equal(config_in(b, 1, 0x18, 4), 0xfffff000);
	config_out(b, 1, 0x18, bar2, 4);
	/* Registers of no BAR have no size. */
	config_out(b, 1, 0x1c, UINT32_MAX, 4);
	assert_int_equal(config_in(b, 1, 0x1c, 4), 0);
}

static void moved_bar_answers_at_its_new_place_only(void **state)
{
	struct board *b = *state;
	struct card *c = &b->cards[0];
	uint64_t old = get_bar64(b, 1, 0);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t place = WINDOW64 + i * GIB;

		set_bar64(b, 1, 0, place);
		assert_true(answers(b, place, c, 0));
		assert_true(c->base[0] == place);
		assert_false(answers(b, old, c, 0));
	}
	set_bar64(b, 1, 0, old);
	assert_true(answers(b, old, c, 0));
	/* A 64-bit BAR may lie below 4 GiB as well. */
	set_bar64(b, 1, 0, WINDOW32 + 256 * MIB);
	assert_true(answers(b, WINDOW32 + 256 * MIB, c, 0));
	set_bar64(b, 1, 0, old);
}

static void bar_where_it_must_not_be_is_undecoded_until_it_moves(void **state)
{
	static const uint64_t bad[] = {
		0,		       /* RAM */
		2 * GIB,	       /* RAM */
		4 * GIB,	       /* RAM inside the window */
		RAM64_END - 512 * KIB, /* its last bytes */
		0xe8000000,	       /* ECAM: outside the window */
		0xfec00000,	       /* IOAPIC */
		0xfee00000,	       /* local APIC */
		WINDOW32 - 512 * KIB,  /* just below */
		WINDOW32 + 640 * MIB,  /* just above */
		260 * GIB,	       /* just above the other */
		UINT64_MAX & ~(512 * KIB - 1),
		1ULL << 63,
	};
	struct board *b = *state;
	struct card *c = &b->cards[0];
	uint64_t home = get_bar64(b, 1, 0);

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		unsigned before;

		set_bar64(b, 1, 0, bad[i]);
		assert_true(get_bar64(b, 1, 0) == bad[i]);
		assert_false(c->mapped[0]);
		before = c->accesses;
		rig_in(b->mmio, bad[i], 4);
		rig_in(b->mmio, home, 4);
		assert_int_equal(c->accesses, before);
		/* Twice makes no difference. */
		set_bar64(b, 1, 0, bad[i]);
		assert_false(c->mapped[0]);
		set_bar64(b, 1, 0, home);
		assert_true(answers(b, home, c, 0));
	}
	/* ECAM still works. */
	assert_int_equal(config_in(b, 1, 0, 4), 0x10421af4);
}

static void bar_over_another_gives_way_to_it(void **state)
{
	struct board *b = *state;
	uint64_t mine = get_bar64(b, 1, 0), theirs = get_bar64(b, 2, 4);

	set_bar64(b, 1, 0, theirs);
	assert_false(b->cards[0].mapped[0]);
	assert_true(answers(b, theirs, &b->cards[1], 4));
	/* Partly over it as well: the second half of a 1 MiB BAR. */
	set_bar64(b, 1, 0, theirs + 512 * KIB);
	assert_false(b->cards[0].mapped[0]);
	/* Over its own second BAR. */
	set_bar64(b, 1, 0, get_bar64(b, 1, 4));
	assert_false(b->cards[0].mapped[0]);
	assert_true(answers(b, get_bar64(b, 1, 4), &b->cards[0], 4));
	set_bar64(b, 1, 0, mine);
	assert_true(answers(b, mine, &b->cards[0], 0));
}

static void memory_decode_switches_all_bars(void **state)
{
	struct board *b = *state;
	struct card *c = &b->cards[0];
	uint64_t bar0 = get_bar64(b, 1, 0);

	config_out(b, 1, 4, 0, 2);
	assert_false(c->mapped[0] || c->mapped[2] || c->mapped[4]);
	assert_true(rig_in(b->mmio, bar0, 4) == UINT32_MAX);
	/* Moved while off: decodes there when on. */
	set_bar64(b, 1, 0, WINDOW64);
	assert_false(c->mapped[0]);
	config_out(b, 1, 4, 6, 2);
	assert_true(answers(b, WINDOW64, c, 0));
	config_out(b, 1, 4, 0xffff, 2);
	assert_int_equal(config_in(b, 1, 4, 2), 0x0546);
	set_bar64(b, 1, 0, bar0);
	config_out(b, 1, 4, 2, 2);
}

static void reset_undoes_what_the_guest_did(void **state)
{
	struct board *b = *state;
	uint64_t first = get_bar64(b, 1, 0), second = get_bar64(b, 2, 0);

	/* Swapped, so that each one's home is taken while the first is reset. */
	set_bar64(b, 1, 0, WINDOW64);
	set_bar64(b, 2, 0, first);
	set_bar64(b, 1, 0, second);
	assert_true(answers(b, second, &b->cards[0], 0));
	config_out(b, 1, 4, 6, 2);
	pci_device_reset(&b->cards[0].pdev);
	pci_device_reset(&b->cards[1].pdev);
	assert_int_equal(config_in(b, 1, 4, 2), 2);
	assert_true(answers(b, first, &b->cards[0], 0));
	assert_true(answers(b, second, &b->cards[1], 0));
}

static void random_bar_and_command_writes_keep_the_bus_consistent(void **state)
{
	struct board *b = *state;
	uint64_t seed = 1;

	for (unsigned i = 0; i < 20000; i++) {
		unsigned slot, offset, len;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		slot = (unsigned)(seed >> 60) % 4;
		offset = (unsigned)(seed >> 50 & 0x3f);
		len = 1U << (seed >> 48 & 3);
		rig_out(b->mmio, ecam(slot, offset), seed >> 7, len);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(b->cards); i++)
		pci_device_reset(&b->cards[i].pdev);
	bars_are_assigned_aligned_apart_and_decoded(state);
}

/* --- slots and space --- */

static void taken_and_impossible_slots_are_refused(void **state)
{
	struct board *b = *state;
	struct err err = ERR_INIT;
	struct card c;

	card_init(&c, "late");
	assert_int_equal(pci_attach(b->segment, &c.pdev, 1, &err), -EBUSY);
	assert_int_equal(pci_attach(b->segment, &c.pdev, 32, &err), -EINVAL);
	assert_int_equal(pci_attach(b->segment, &c.pdev, 0, &err), -EBUSY);
	assert_int_equal(pci_attach(b->segment, &c.pdev, 31, &err), 31);
	assert_int_equal(pci_attach(b->segment, &c.pdev, 30, &err), -EBUSY);
	assert_int_equal(config_in(b, 31, 0, 4), 0x10421af4);
	pci_detach(&c.pdev);
	assert_int_equal(config_in(b, 31, 0, 4), UINT32_MAX);
	assert_false(c.mapped[0]);
	pci_detach(&c.pdev);
	/* And again: nothing was left behind. */
	assert_int_equal(pci_attach(b->segment, &c.pdev, -1, &err), 4);
	pci_detach(&c.pdev);
	pci_device_fini(&c.pdev);
}

static void exhausted_window_is_refused_and_nothing_kept(void **state)
{
	struct board *b = *state;
	struct err err = ERR_INIT;
	struct pci_device big;

	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(pci_device_init(&big, &card_ops, "big", &card_id), 0);
		/* The first fits, the second does not. */
		assert_int_equal(pci_device_add_bar(&big, 0, 256 * MIB, false, false), 0);
		assert_int_equal(pci_device_add_bar(&big, 1, GIB, false, false), 0);
		assert_int_equal(pci_attach(b->segment, &big, -1, &err), -ENOSPC);
		pci_device_fini(&big);
	}
}

static void other_segments_have_no_bridge_and_no_ports(void **state)
{
	struct board *b = *state;
	const struct pci_segment_params params = {
		.number = 1,
		.ecam_base = ECAM + MIB,
		.mmio32_base = WINDOW32,
		.mmio32_size = MIB,
	};
	struct pci_segment *segment = NULL;
	char bdf[16];
	struct pci_device pdev;

	assert_int_equal(pci_segment_new(&params, b->mmio, b->pio, &segment, NULL), 0);
	assert_true(rig_in(b->mmio, ECAM + MIB, 4) == UINT32_MAX);
	assert_int_equal(pci_device_init(&pdev, NULL, "x", &card_id), 0);
	assert_int_equal(pci_attach(segment, &pdev, -1, NULL), 0);
	pci_device_bdf(&pdev, bdf, sizeof(bdf));
	assert_string_equal(bdf, "0001:00:00.0");
	pci_device_bdf(&b->cards[2].pdev, bdf, sizeof(bdf));
	assert_string_equal(bdf, "0000:00:03.0");
	pci_detach(&pdev);
	pci_device_fini(&pdev);
	pci_segment_free(segment);
}

/* --- capabilities --- */

static void capabilities_are_linked_masked_and_hooked(void **state)
{
	static const uint8_t body[14] = {1, 2, 3}, mask[14] = {0, 0xf0};
	struct board *b = *state;
	struct card c;
	int first, second;

	card_init(&c, "caps");
	first = pci_device_add_capability(&c.pdev, 9, body, 14, mask, false);
	second = pci_device_add_capability(&c.pdev, 9, body, 3, NULL, true);
	assert_int_equal(first, 0x40);
	assert_int_equal(second, 0x50);
	assert_int_equal(pci_attach(b->segment, &c.pdev, 10, NULL), 10);
	assert_int_equal(config_in(b, 10, 6, 2) & 0x10, 0x10);
	assert_int_equal(config_in(b, 10, 0x34, 1), 0x40);
	assert_int_equal(config_in(b, 10, 0x40, 4), 0x02015009);
	assert_int_equal(config_in(b, 10, 0x51, 1), 0);
	config_out(b, 10, 0x40, 0xffffffff, 4);
	assert_int_equal(config_in(b, 10, 0x40, 4), 0xf2015009);
	assert_int_equal(c.hook_reads + c.hook_writes, 0);
	config_in(b, 10, 0x50, 4);
	config_out(b, 10, 0x54, 0, 1);
	assert_int_equal(c.hook_reads, 1);
	assert_int_equal(c.hook_writes, 1);
	pci_detach(&c.pdev);
	pci_device_fini(&c.pdev);
}

/* --- state --- */

static void state_survives_save_and_load(void **state)
{
	struct board *b = *state;
	struct card *c = &b->cards[0];
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;

	set_bar64(b, 1, 0, WINDOW64);
	config_out(b, 1, 0x3c, 0x2a, 1);
	assert_int_equal(pci_device_save(&c->pdev, &out), 0);
	pci_device_reset(&c->pdev);
	in = cursor_init(out.data, out.len);
	assert_int_equal(pci_device_load(&c->pdev, &in, &err), 0);
	assert_true(answers(b, WINDOW64, c, 0));
	assert_int_equal(config_in(b, 1, 0x3c, 1), 0x2a);
	pci_device_reset(&c->pdev);
}

static void hostile_state_cannot_change_what_the_guest_could_not(void **state)
{
	struct board *b = *state;
	struct card *c = &b->cards[0];
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;
	size_t header;

	assert_int_equal(pci_device_save(&c->pdev, &out), 0);
	header = out.len - 256 - 48;
	for (size_t len = 0; len < out.len; len++) {
		in = cursor_init(out.data, len);
		assert_true(pci_device_load(&c->pdev, &in, &err) < 0);
	}
	memset(out.data + header, 0xff, 256);
	in = cursor_init(out.data, out.len);
	assert_int_equal(pci_device_load(&c->pdev, &in, &err), 0);
	assert_int_equal(config_in(b, 1, 0, 4), 0x10421af4);
	assert_int_equal(config_in(b, 1, 4, 2), 0x0546);
	assert_false(c->mapped[0] || c->mapped[2] || c->mapped[4]);
	/* Homes over RAM would decode there at the next reset. */
	memset(out.data + header + 256, 0, 8);
	in = cursor_init(out.data, out.len);
	assert_int_equal(pci_device_load(&c->pdev, &in, &err), -EBADMSG);
	pci_device_reset(&c->pdev);
}

static void segment_keeps_the_selected_address(void **state)
{
	struct board *b = *state;
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;

	rig_out(b->pio, 0xcf8, 0x80000808, 4);
	assert_int_equal(pci_segment_save(b->segment, &out), 0);
	pci_segment_reset(b->segment);
	assert_true(rig_in(b->pio, 0xcf8, 4) == 0);
	in = cursor_init(out.data, out.len);
	assert_int_equal(pci_segment_load(b->segment, &in, &err), 0);
	assert_true(rig_in(b->pio, 0xcf8, 4) == 0x80000808);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_bridge_is_in_slot_0),
		cmocka_unit_test(header_shows_the_identity),
		cmocka_unit_test(absent_slots_and_functions_read_ones),
		cmocka_unit_test(extended_space_is_empty),
		cmocka_unit_test(accesses_across_dwords_read_ones_and_write_nothing),
		cmocka_unit_test(ports_reach_the_same_space),
		cmocka_unit_test(ports_ignore_what_is_no_configuration_access),
		cmocka_unit_test(every_port_width_and_address_is_survived),
		cmocka_unit_test(bars_are_assigned_aligned_apart_and_decoded),
		cmocka_unit_test(sizing_shows_the_size_and_restoring_the_address_the_bar),
		cmocka_unit_test(moved_bar_answers_at_its_new_place_only),
		cmocka_unit_test(bar_where_it_must_not_be_is_undecoded_until_it_moves),
		cmocka_unit_test(bar_over_another_gives_way_to_it),
		cmocka_unit_test(memory_decode_switches_all_bars),
		cmocka_unit_test(reset_undoes_what_the_guest_did),
		cmocka_unit_test(random_bar_and_command_writes_keep_the_bus_consistent),
		cmocka_unit_test(taken_and_impossible_slots_are_refused),
		cmocka_unit_test(exhausted_window_is_refused_and_nothing_kept),
		cmocka_unit_test(other_segments_have_no_bridge_and_no_ports),
		cmocka_unit_test(capabilities_are_linked_masked_and_hooked),
		cmocka_unit_test(state_survives_save_and_load),
		cmocka_unit_test(hostile_state_cannot_change_what_the_guest_could_not),
		cmocka_unit_test(segment_keeps_the_selected_address),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
