/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/device_rig.h"

#include "base/cursor.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MASKED	   (1ULL << 16)
#define LEVEL	   (1ULL << 15)
#define REMOTE_IRR (1ULL << 14)

static int setup(void **state)
{
	struct device_rig *rig = calloc(1, sizeof(*rig));

	*state = rig;
	return rig && device_rig_init(rig) ? 0 : -1;
}

static int teardown(void **state)
{
	device_rig_fini(*state);
	free(*state);
	return 0;
}

static uint32_t reg_read(struct device_rig *rig, unsigned index)
{
	rig_out(rig->host.mmio, LAYOUT_IOAPIC, index, 4);
	return (uint32_t)rig_in(rig->host.mmio, LAYOUT_IOAPIC + 0x10, 4);
}

static void reg_write(struct device_rig *rig, unsigned index, uint32_t value)
{
	rig_out(rig->host.mmio, LAYOUT_IOAPIC, index, 4);
	rig_out(rig->host.mmio, LAYOUT_IOAPIC + 0x10, value, 4);
}

static uint64_t entry_read(struct device_rig *rig, unsigned pin)
{
	return reg_read(rig, 0x10 + pin * 2) | (uint64_t)reg_read(rig, 0x11 + pin * 2) << 32;
}

static void entry_write(struct device_rig *rig, unsigned pin, uint64_t entry)
{
	reg_write(rig, 0x11 + pin * 2, (uint32_t)(entry >> 32));
	reg_write(rig, 0x10 + pin * 2, (uint32_t)entry);
}

static void registers_are_those_of_the_chip(void **state)
{
	struct device_rig *rig = *state;

	assert_int_equal(reg_read(rig, 1), 0x170011);
	reg_write(rig, 1, 0);
	assert_int_equal(reg_read(rig, 1), 0x170011);
	reg_write(rig, 0, UINT32_MAX);
	assert_int_equal(reg_read(rig, 0), 0x0f000000);
	assert_int_equal(reg_read(rig, 2), 0x0f000000);
	for (unsigned pin = 0; pin < 24; pin++)
		assert_true(entry_read(rig, pin) == MASKED);
}

static void status_bits_of_an_entry_are_read_only(void **state)
{
	struct device_rig *rig = *state;

	entry_write(rig, 3, UINT64_MAX);
	assert_true(entry_read(rig, 3) == (0xffff00000001ffffULL & ~(1ULL << 12 | REMOTE_IRR)));
	entry_write(rig, 3, MASKED);
}

static void every_index_offset_and_width_is_survived(void **state)
{
	struct device_rig *rig = *state;

	for (unsigned index = 0; index < 0x200; index++)
		for (unsigned offset = 0; offset < 0x24; offset++)
			for (unsigned len = 1; len <= 8; len++) {
				rig_out(rig->host.mmio, LAYOUT_IOAPIC, index, 4);
				rig_in(rig->host.mmio, LAYOUT_IOAPIC + offset, len);
				/* The mask stays set: nothing may be sent by all this. */
				rig_out(rig->host.mmio, LAYOUT_IOAPIC, index, 4);
				rig_out(rig->host.mmio, LAYOUT_IOAPIC + offset, ~0ULL, len);
			}
	ioapic_set(rig->host.ioapic, 24, true);
	ioapic_set(rig->host.ioapic, UINT32_MAX, true);
	ioapic_eoi(rig->host.ioapic, UINT32_MAX);
	ioapic_reset(rig->host.ioapic);
}

static void message_is_translated_as_the_manual_says(void **state)
{
	uint64_t address;
	uint32_t data;

	/* Fixed, physical destination 3, vector 0x31, edge. */
	assert_true(ioapic_message(3ULL << 56 | 0x31, &address, &data));
	assert_true(address == 0xfee03000);
	assert_int_equal(data, 0x31);
	/* Lowest priority, logical, level. */
	assert_true(
		ioapic_message(0xffULL << 56 | LEVEL | 1 << 11 | 1 << 8 | 0x80, &address, &data));
	assert_true(address == 0xfeeff004);
	assert_int_equal(data, 0xc180);
	/* Destination bits 14:8. */
	assert_true(ioapic_message(1ULL << 56 | 1ULL << 49 | 0x31, &address, &data));
	assert_true(address == 0xfee01020);
	/* NMI needs no vector. */
	assert_true(ioapic_message(4 << 8, &address, &data));
	assert_int_equal(data, 0x400);
}

static void entries_that_send_nothing(void **state)
{
	uint64_t address;
	uint32_t data;

	assert_false(ioapic_message(MASKED | 0x31, &address, &data));
	assert_false(ioapic_message(7 << 8 | 0x31, &address, &data)); /* ExtINT */
	assert_false(ioapic_message(3 << 8 | 0x31, &address, &data)); /* reserved */
	assert_false(ioapic_message(6 << 8 | 0x31, &address, &data)); /* reserved */
	for (unsigned vector = 0; vector < 16; vector++)
		assert_false(ioapic_message(vector, &address, &data));
}

static void edge_pin_fires_once_per_rise(void **state)
{
	struct device_rig *rig = *state;

	DEVICE_RIG_NEEDS_KVM(rig);
	device_rig_clear_irr(rig);
	entry_write(rig, 4, 0x61);
	ioapic_set(rig->host.ioapic, 4, true);
	assert_true(device_rig_irr(rig, 0x61));
	device_rig_clear_irr(rig);
	ioapic_set(rig->host.ioapic, 4, true);
	assert_false(device_rig_irr(rig, 0x61));
	ioapic_set(rig->host.ioapic, 4, false);
	assert_false(device_rig_irr(rig, 0x61));
	ioapic_pulse(rig->host.ioapic, 4);
	assert_true(device_rig_irr(rig, 0x61));
	assert_false(entry_read(rig, 4) & REMOTE_IRR);
	entry_write(rig, 4, MASKED);
}

static void edge_while_masked_is_lost(void **state)
{
	struct device_rig *rig = *state;

	DEVICE_RIG_NEEDS_KVM(rig);
	device_rig_clear_irr(rig);
	entry_write(rig, 6, MASKED | 0x62);
	ioapic_set(rig->host.ioapic, 6, true);
	entry_write(rig, 6, 0x62);
	assert_false(device_rig_irr(rig, 0x62));
	ioapic_set(rig->host.ioapic, 6, false);
	entry_write(rig, 6, MASKED);
}

static void level_pin_fires_again_after_eoi_while_high(void **state)
{
	struct device_rig *rig = *state;

	DEVICE_RIG_NEEDS_KVM(rig);
	device_rig_clear_irr(rig);
	/* High while masked: fires when unmasked. */
	ioapic_set(rig->host.ioapic, 9, true);
	entry_write(rig, 9, LEVEL | MASKED | 0x63);
	assert_false(device_rig_irr(rig, 0x63));
	entry_write(rig, 9, LEVEL | 0x63);
	assert_true(device_rig_irr(rig, 0x63));
	assert_true(entry_read(rig, 9) & REMOTE_IRR);
	/* Not again before the EOI. */
	device_rig_clear_irr(rig);
	ioapic_set(rig->host.ioapic, 9, true);
	assert_false(device_rig_irr(rig, 0x63));
	ioapic_eoi(rig->host.ioapic, 0x64); /* another vector's */
	assert_false(device_rig_irr(rig, 0x63));
	ioapic_eoi(rig->host.ioapic, 0x63);
	assert_true(device_rig_irr(rig, 0x63));
	/* Low at the EOI: done. */
	device_rig_clear_irr(rig);
	ioapic_set(rig->host.ioapic, 9, false);
	ioapic_eoi(rig->host.ioapic, 0x63);
	assert_false(device_rig_irr(rig, 0x63));
	assert_false(entry_read(rig, 9) & REMOTE_IRR);
	entry_write(rig, 9, MASKED);
}

static void passing_through_edge_mode_clears_remote_irr(void **state)
{
	struct device_rig *rig = *state;

	DEVICE_RIG_NEEDS_KVM(rig);
	entry_write(rig, 10, LEVEL | 0x65);
	ioapic_set(rig->host.ioapic, 10, true);
	assert_true(entry_read(rig, 10) & REMOTE_IRR);
	ioapic_set(rig->host.ioapic, 10, false);
	entry_write(rig, 10, MASKED | 0x65);
	assert_false(entry_read(rig, 10) & REMOTE_IRR);
}

static void state_survives_save_and_load(void **state)
{
	struct device_rig *rig = *state;
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;

	entry_write(rig, 11, 5ULL << 56 | MASKED | 0x77);
	reg_write(rig, 0, 0x03000000);
	assert_int_equal(ioapic_save(rig->host.ioapic, &out), 0);
	ioapic_reset(rig->host.ioapic);
	assert_true(entry_read(rig, 11) == MASKED);
	in = cursor_init(out.data, out.len);
	assert_int_equal(ioapic_load(rig->host.ioapic, &in, &err), 0);
	assert_true(entry_read(rig, 11) == (5ULL << 56 | MASKED | 0x77));
	assert_int_equal(reg_read(rig, 0), 0x03000000);
	for (size_t len = 0; len < out.len; len++) {
		in = cursor_init(out.data, len);
		assert_true(ioapic_load(rig->host.ioapic, &in, &err) < 0);
	}
	/* The body may hold anything. */
	memset(out.data + 20, 0xff, out.len - 20);
	in = cursor_init(out.data, out.len);
	ioapic_load(rig->host.ioapic, &in, &err);
	ioapic_reset(rig->host.ioapic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_are_those_of_the_chip),
		cmocka_unit_test(status_bits_of_an_entry_are_read_only),
		cmocka_unit_test(every_index_offset_and_width_is_survived),
		cmocka_unit_test(message_is_translated_as_the_manual_says),
		cmocka_unit_test(entries_that_send_nothing),
		cmocka_unit_test(edge_pin_fires_once_per_rise),
		cmocka_unit_test(edge_while_masked_is_lost),
		cmocka_unit_test(level_pin_fires_again_after_eoi_while_high),
		cmocka_unit_test(passing_through_edge_mode_clears_remote_irr),
		cmocka_unit_test(state_survives_save_and_load),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
