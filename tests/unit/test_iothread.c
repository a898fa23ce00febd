/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/iothread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void thread_of_a_queue_is_known_by_its_kind_whatever_the_id(void **state)
{
	static const struct {
		const char *id;
		unsigned index;
		const char *name;
	} cases[] = {
		{"_disk0", 0, "_disk0_q0"},
		{"disk-a", 3, "_disk-a_q3"},
		{"root", 1, "_disk_root_q1"},
		{"", 0, "_disk__q0"},
		{"a-volume-of-a-long-name", 12, "_disk_a-vol_q12"},
		{"%s%n", 100, "_disk_%s%n_q0"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[IOTHREAD_NAME_MAX];

		iothread_queue_name(cases[i].id, "disk", "q", cases[i].index, name);
		assert_string_equal(name, cases[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thread_of_a_queue_is_known_by_its_kind_whatever_the_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
