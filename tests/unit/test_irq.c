/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus/irq.h"

#include "tests/unit/device_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MSI_TO_0 0xfee00000ULL

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

static void raised_msi_arrives_at_the_vcpu(void **state)
{
	struct device_rig *rig = *state;
	struct irq_msi msi = {.fd = -1};

	DEVICE_RIG_NEEDS_KVM(rig);
	assert_int_equal(irq_msi_init(rig->host.irq, &msi), 0);
	assert_true(msi.gsi >= 24);
	irq_msi_route(rig->host.irq, &msi, MSI_TO_0, 0x41);
	assert_int_equal(irq_commit(rig->host.irq), 0);
	assert_false(device_rig_irr(rig, 0x41));
	irq_msi_raise(&msi);
	assert_true(device_rig_wait_irr(rig, 0x41));
	irq_msi_fini(rig->host.irq, &msi);
	assert_int_equal(msi.fd, -1);
}

static void route_takes_effect_at_commit(void **state)
{
	struct device_rig *rig = *state;
	struct irq_msi msi = {.fd = -1};

	DEVICE_RIG_NEEDS_KVM(rig);
	device_rig_clear_irr(rig);
	assert_int_equal(irq_msi_init(rig->host.irq, &msi), 0);
	irq_msi_route(rig->host.irq, &msi, MSI_TO_0, 0x51);
	assert_int_equal(irq_commit(rig->host.irq), 0);
	irq_msi_route(rig->host.irq, &msi, MSI_TO_0, 0x52);
	irq_msi_raise(&msi);
	assert_true(device_rig_wait_irr(rig, 0x51));
	assert_false(device_rig_irr(rig, 0x52));
	assert_int_equal(irq_commit(rig->host.irq), 0);
	irq_msi_raise(&msi);
	assert_true(device_rig_wait_irr(rig, 0x52));
	irq_msi_fini(rig->host.irq, &msi);
}

static void gsis_are_given_back_and_run_out_cleanly(void **state)
{
	enum { MANY = 64 };
	struct device_rig *rig = *state;
	struct kvm_vm small;
	struct irq_router *router = NULL;
	struct irq_msi msi[MANY];

	DEVICE_RIG_NEEDS_KVM(rig);
	small = *rig->vm;
	small.caps.max_irq_routes = 24 + MANY / 2;
	assert_int_equal(irq_router_new(&small, &router), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			int rc = irq_msi_init(router, &msi[i]);

			assert_int_equal(rc, i < MANY / 2 ? 0 : -ENOSPC);
			if (rc < 0)
				assert_int_equal(msi[i].fd, -1);
		}
		for (unsigned i = 0; i < MANY; i++)
			irq_msi_fini(router, &msi[i]);
	}
	irq_router_free(router);
}

static void a_full_table_is_accepted(void **state)
{
	struct device_rig *rig = *state;
	struct irq_router *router = NULL;
	struct irq_msi *msi = calloc(4096, sizeof(*msi));
	unsigned n = 0;

	if (!rig->has_kvm)
		free(msi);
	DEVICE_RIG_NEEDS_KVM(rig);
	assert_int_equal(irq_router_new(rig->vm, &router), 0);
	/* As many as descriptors allow; each holds one. */
	while (n < 800 && irq_msi_init(router, &msi[n]) == 0) {
		irq_msi_route(router, &msi[n], MSI_TO_0, 0x20 + n % 200);
		n++;
	}
	assert_true(n >= 500);
	assert_int_equal(irq_commit(router), 0);
	for (unsigned i = 0; i < n; i++)
		irq_msi_fini(router, &msi[i]);
	assert_int_equal(irq_commit(router), 0);
	irq_router_free(router);
	free(msi);
}

static void unready_msi_is_harmless(void **state)
{
	struct device_rig *rig = *state;
	struct irq_msi zero = {0}, unset = {.fd = -1};
	int flags = fcntl(0, F_GETFD);

	irq_msi_raise(&zero);
	irq_msi_raise(&unset);
	irq_msi_route(rig->host.irq, &zero, MSI_TO_0, 1);
	irq_msi_fini(rig->host.irq, &zero);
	irq_msi_fini(rig->host.irq, &unset);
	/* Descriptor 0 is nobody's to close here. */
	assert_int_equal(fcntl(0, F_GETFD), flags);
	irq_pin_route(rig->host.irq, 24, true, MSI_TO_0, 0x30);
	irq_pin_route(rig->host.irq, UINT32_MAX, true, MSI_TO_0, 0x30);
}

static void unchanged_table_is_not_handed_over(void **state)
{
	struct kvm_vm broken = {.dev_fd = -1, .fd = -1, .caps.max_irq_routes = 64};
	struct irq_router *router = NULL;

	/* Its ioctl can only fail, so success means that there was none. */
	assert_int_equal(irq_router_new(&broken, &router), 0);
	assert_int_equal(irq_commit(router), 0);
	irq_pin_route(router, 5, true, MSI_TO_0, 0x30);
	assert_true(irq_commit(router) < 0);
	assert_true(irq_commit(router) < 0);
	irq_pin_route(router, 5, false, 0, 0);
	assert_true(irq_commit(router) < 0);
	irq_router_free(router);
}

static void failed_msi_leaves_nothing_behind(void **state)
{
	struct kvm_vm broken = {.dev_fd = -1, .fd = -1, .caps.max_irq_routes = 26};
	struct irq_router *router = NULL;
	struct irq_msi msi = {.fd = -1};
	int before, after;

	assert_int_equal(irq_router_new(&broken, &router), 0);
	before = dup(2);
	close(before);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(irq_msi_init(router, &msi), -EBADF);
		assert_int_equal(msi.fd, -1);
	}
	after = dup(2);
	close(after);
	assert_int_equal(before, after);
	irq_router_free(router);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(raised_msi_arrives_at_the_vcpu),
		cmocka_unit_test(route_takes_effect_at_commit),
		cmocka_unit_test(gsis_are_given_back_and_run_out_cleanly),
		cmocka_unit_test(a_full_table_is_accepted),
		cmocka_unit_test(unready_msi_is_harmless),
		cmocka_unit_test(unchanged_table_is_not_handed_over),
		cmocka_unit_test(failed_msi_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
