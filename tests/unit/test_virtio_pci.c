/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport: the function, and the common configuration structure. */
#include "tests/unit/pci_guest.h"
#include "vmm/memory/layout.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* --- the function ------------------------------------------------------------------------- */

static void function_is_a_modern_virtio_device(void **state)
{
	struct pci_guest *t = guest_new(false);

	assert_int_equal(guest_config(t, 0, 2), 0x1af4);
	assert_int_equal(guest_config(t, 2, 2), 0x1040 + VIRTIO_ID_CONSOLE);
	assert_int_equal(guest_config(t, 8, 1), 1);
	assert_int_equal(guest_config(t, 0x2c, 2), 0x1af4);
	assert_int_equal(guest_config(t, 0x2e, 2), 0x1040 + VIRTIO_ID_CONSOLE);
	assert_int_equal(guest_config(t, 0x10, 4) & 0xf, 4); /* 64 bits */
	assert_string_equal(t->node->id, "_virtio-pci-con0");
	assert_string_equal(t->vdev->dev.parent, "_virtio-pci-con0");
	assert_int_equal(virtio_pci_function(t->node)->slot, SLOT);
	guest_free(t);

	t = guest_new(true);
	assert_int_equal(guest_config(t, 0x10, 4) & 0xf, 0);
	assert_true(t->bar >= LAYOUT_MMIO32_START && t->bar < 4 * GIB);
	guest_bring_up(t);
	guest_assert_works(t);
	guest_free(t);
}

static void capabilities_say_where_everything_is(void **state)
{
	static const struct {
		unsigned type, cap_len;
		uint32_t offset, length;
	} expected[] = {
		{VIRTIO_PCI_CAP_COMMON_CFG, 16, 0, 56},
		{VIRTIO_PCI_CAP_ISR_CFG, 16, ISR, 1},
		{VIRTIO_PCI_CAP_DEVICE_CFG, 16, DEVICE, 0x1000},
		{VIRTIO_PCI_CAP_NOTIFY_CFG, 20, NOTIFY, 0x1000},
		{VIRTIO_PCI_CAP_PCI_CFG, 20, 0, 0},
	};
	struct pci_guest *t = guest_new(false);
	unsigned at;

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		at = guest_find_capability(t, expected[i].type);
		assert_int_equal(guest_config(t, at + 2, 1), expected[i].cap_len);
		assert_int_equal(guest_config(t, at + 4, 1), 0);
		assert_int_equal(guest_config(t, at + 8, 4), expected[i].offset);
		assert_int_equal(guest_config(t, at + 12, 4), expected[i].length);
	}
	assert_int_equal(
		guest_config(t, guest_find_capability(t, VIRTIO_PCI_CAP_NOTIFY_CFG) + 16, 4), 4);
	at = guest_find_capability(t, 0);
	assert_int_equal(guest_config(t, at + 2, 2) & 0x7ff, QUEUES); /* vectors - 1 */
	assert_int_equal(guest_config(t, at + 4, 4), TABLE);
	assert_int_equal(guest_config(t, at + 8, 4), PBA);
	guest_free(t);
}

/* --- common configuration ----------------------------------------------------------------- */

static void driver_brings_the_device_up_through_registers(void **state)
{
	struct pci_guest *t = guest_new(false);

	assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	for (unsigned i = 0; i < 3; i++) {
		guest_bring_up(t);
		for (unsigned k = 0; k < 20; k++)
			guest_assert_works(t);
		guest_reset(t);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		guest_set(t, VIRTIO_PCI_COMMON_Q_SELECT, TX, 2);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 256);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
	}
	assert_int_equal(t->f.activated, 3);
	assert_int_equal(t->f.resets, 3);
	guest_free(t);
}

static void feature_words_beyond_the_second_are_zero(void **state)
{
	struct pci_guest *t = guest_new(false);
	const uint32_t words[] = {2, 3, 31, 32, 64, 0x80000000, 0xffffffff};

	guest_set(t, VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_DF, 4), 1);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		guest_set(t, VIRTIO_PCI_COMMON_DFSELECT, words[i], 4);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_DF, 4), 0);
		guest_set(t, VIRTIO_PCI_COMMON_GFSELECT, words[i], 4);
		guest_set(t, VIRTIO_PCI_COMMON_GF, 0xffffffff, 4);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_GF, 4), 0);
	}
	guest_free(t);
}

static void addresses_take_halves_and_whole_words(void **state)
{
	struct pci_guest *t = guest_new(false);
	const uint64_t addr = 0x123456789abcde00;

	guest_negotiate(t);
	for (unsigned field = VIRTIO_PCI_COMMON_Q_DESCLO; field < 56; field += 8) {
		guest_set(t, field, addr, 8);
		assert_int_equal(guest_get(t, field, 8), addr);
		guest_set(t, field, 0x11, 1); /* other widths are no access to the field */
		guest_set(t, field, 0x1111, 2);
		assert_int_equal(guest_get(t, field, 8), addr);
		guest_set(t, field + 4, 0xaabbccdd, 4);
		assert_int_equal(guest_get(t, field + 4, 4), 0xaabbccdd);
		assert_int_equal(guest_get(t, field, 4), addr & 0xffffffff);
	}
	guest_free(t);
}

static void queues_that_do_not_exist_have_no_size_and_take_nothing(void **state)
{
	struct pci_guest *t = guest_new(false);

	guest_negotiate(t);
	for (unsigned queue = QUEUES; queue <= 0xffff; queue++) {
		guest_set(t, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
		guest_set(t, VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
		guest_set(t, VIRTIO_PCI_COMMON_Q_DESCLO, 0x1000, 8);
		guest_set(t, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
	}
	guest_free(t);
}

static void vectors_that_do_not_exist_read_back_as_none(void **state)
{
	struct pci_guest *t = guest_new(false);

	guest_set(t, VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	for (unsigned vector = 0; vector <= 0xffff; vector++) {
		unsigned expected = vector <= QUEUES ? vector : VIRTIO_MSI_NO_VECTOR;

		guest_set(t, VIRTIO_PCI_COMMON_MSIX, vector, 2);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_MSIX, 2), expected);
		guest_set(t, VIRTIO_PCI_COMMON_Q_MSIX, vector, 2);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), expected);
	}
	guest_free(t);
}

static void queue_registers_are_frozen_once_enabled_or_going(void **state)
{
	struct pci_guest *t = guest_new(false);

	guest_bring_up(t);
	for (uint16_t queue = 0; queue < QUEUES; queue++) {
		guest_set(t, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
		guest_set(t, VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
		for (unsigned size = 1; size <= 256; size *= 2)
			guest_set(t, VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
		guest_set(t, VIRTIO_PCI_COMMON_Q_SIZE, 0, 2);
		for (unsigned field = VIRTIO_PCI_COMMON_Q_DESCLO; field < 56; field += 4)
			guest_set(t, field, 0xffffffff, 4);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_DESCLO, 8),
				 t->rings[queue].config.desc.v);
	}
	for (unsigned i = 0; i < 40; i++)
		guest_assert_works(t);
	guest_free(t);
}

/* Every width at every offset, in every state of the device: it never steps out of bounds, and
 * works after a reset. */
static void accesses_of_any_width_in_any_state_do_no_harm(void **state)
{
	struct pci_guest *t = guest_new(false);
	const uint64_t values[] = {0, 1, 0xff, 0xffff, 0x8000, UINT64_MAX};
	const uint8_t states[] = {0, ACK, ACK | DRIVER, ACK | DRIVER | FEATURES_OK, 0xff};

	for (size_t s = 0; s < ARRAY_SIZE(states); s++) {
		for (uint64_t offset = 0; offset < 0x60; offset++) {
			for (unsigned len = 1; len <= 8; len *= 2) {
				for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
					guest_reset(t);
					if (states[s] == 0xff)
						guest_bring_up(t);
					else if (states[s] & FEATURES_OK)
						guest_negotiate(t);
					else if (states[s])
						guest_set_status(t, states[s]);
					guest_set(t, offset, values[v], len);
					guest_get(t, offset, len);
				}
			}
		}
	}
	guest_reset(t);
	guest_bring_up(t);
	guest_assert_works(t);
	guest_free(t);
}

static void the_rest_of_the_bar_is_within_bounds_too(void **state)
{
	struct pci_guest *t = guest_new(false);

	guest_bring_up(t);
	for (uint64_t offset = 0x40; offset < SIZE + 8; offset += offset % 0x1000 < 0x80 ? 1 : 61)
		for (unsigned len = 1; len <= 8; len *= 2) {
			guest_get(t, offset, len);
			guest_set(t, offset, UINT64_MAX, len);
		}
	for (uint64_t offset = SIZE - 16; offset < SIZE + 8; offset++)
		for (unsigned len = 1; len <= 8; len *= 2) {
			guest_get(t, offset, len);
			guest_set(t, offset, UINT64_MAX, len);
		}
	guest_assert_works(t);
	guest_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(function_is_a_modern_virtio_device),
		cmocka_unit_test(capabilities_say_where_everything_is),
		cmocka_unit_test(driver_brings_the_device_up_through_registers),
		cmocka_unit_test(feature_words_beyond_the_second_are_zero),
		cmocka_unit_test(addresses_take_halves_and_whole_words),
		cmocka_unit_test(queues_that_do_not_exist_have_no_size_and_take_nothing),
		cmocka_unit_test(vectors_that_do_not_exist_read_back_as_none),
		cmocka_unit_test(queue_registers_are_frozen_once_enabled_or_going),
		cmocka_unit_test(accesses_of_any_width_in_any_state_do_no_harm),
		cmocka_unit_test(the_rest_of_the_bar_is_within_bounds_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
