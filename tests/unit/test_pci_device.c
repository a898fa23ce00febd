/* SPDX-License-Identifier: Apache-2.0 */
/* A function before it is plugged in. */
#include "vmm/pci/pci.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct pci_device_ops card_ops;

static const struct pci_device_id card_id = {.vendor = 0x1af4, .device = 0x1042};

static void impossible_bars_are_refused(void **state)
{
	struct pci_device pdev;

	assert_int_equal(pci_device_init(&pdev, &card_ops, "x", &card_id), 0);
	assert_int_equal(pci_device_add_bar(&pdev, 6, 4096, false, false), -EINVAL);
	assert_int_equal(pci_device_add_bar(&pdev, 5, 4096, true, false), -EINVAL);
	assert_int_equal(pci_device_add_bar(&pdev, 0, 2048, false, false), -EINVAL);
	assert_int_equal(pci_device_add_bar(&pdev, 0, 12288, false, false), -EINVAL);
	assert_int_equal(pci_device_add_bar(&pdev, 0, 4096, true, false), 0);
	assert_int_equal(pci_device_add_bar(&pdev, 1, 4096, false, false), -EEXIST);
	assert_int_equal(pci_device_add_bar(&pdev, 0, 4096, false, false), -EEXIST);
	pci_device_fini(&pdev);
}

static void capabilities_stop_at_the_end_of_the_space(void **state)
{
	static const uint8_t body[300];
	struct pci_device pdev;
	int rc, count = 0;

	assert_int_equal(pci_device_init(&pdev, NULL, "x", &card_id), 0);
	assert_int_equal(pci_device_add_capability(&pdev, 9, body, 191, NULL, false), -ENOSPC);
	assert_int_equal(pci_device_add_capability(&pdev, 9, body, 300, NULL, false), -ENOSPC);
	while ((rc = pci_device_add_capability(&pdev, 9, body, 18, NULL, false)) >= 0)
		count++;
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(count, 9);
	pci_device_fini(&pdev);
}

static void name_that_is_too_long_is_refused(void **state)
{
	char name[DEVICE_ID_MAX + 1];
	struct pci_device pdev;

	memset(name, 'n', sizeof(name));
	name[DEVICE_ID_MAX] = '\0';
	assert_int_equal(pci_device_init(&pdev, &card_ops, name, &card_id), -ENAMETOOLONG);
	pci_device_fini(&pdev);
	assert_int_equal(pci_device_init(&pdev, &card_ops, name + 1, &card_id), 0);
	assert_string_equal(pdev.name, name + 1);
	pci_device_fini(&pdev);
	pci_device_fini(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(impossible_bars_are_refused),
		cmocka_unit_test(capabilities_stop_at_the_end_of_the_space),
		cmocka_unit_test(name_that_is_too_long_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
