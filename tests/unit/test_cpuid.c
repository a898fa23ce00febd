/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu/cpuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define INTEL_EBX 0x756e6547
#define AMD_EBX	  0x68747541

#define SUB KVM_CPUID_FLAG_SIGNIFCANT_INDEX

static struct kvm_cpuid2 *table(const struct kvm_cpuid_entry2 *entries, uint32_t n)
{
	struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + n * sizeof(entries[0]));

	assert_non_null(t);
	t->nent = n;
	if (n)
		memcpy(t->entries, entries, n * sizeof(entries[0]));
	return t;
}

/* What KVM says on an Intel host, as far as it matters here. */
static struct kvm_cpuid2 *intel(void)
{
	static const struct kvm_cpuid_entry2 entries[] = {
		{.function = 0, .eax = 0x20, .ebx = INTEL_EBX},
		{.function = 1, .ebx = 0x77ff0800, .ecx = 1u << 5 | 1u << 24, .edx = 1u << 28},
		{.function = 4, .index = 0, .flags = SUB, .eax = 0xfc03c121}, /* L1 */
		{.function = 4, .index = 1, .flags = SUB, .eax = 0xfc03c143}, /* L2 */
		{.function = 4, .index = 2, .flags = SUB, .eax = 0xfc0fc163}, /* L3 */
		{.function = 4, .index = 3, .flags = SUB},
		{.function = 7, .index = 0, .flags = SUB, .eax = 1, .edx = 7u << 22},
		{.function = 7, .index = 1, .flags = SUB, .eax = 1u << 21},
		{.function = 0xb, .index = 0, .flags = SUB, .eax = 9, .edx = 0x77},
		{.function = 0xd, .index = 0, .flags = SUB, .eax = 0x602e7},
		{.function = 0xd, .index = 18, .flags = SUB, .eax = 8192, .ebx = 2816},
		{.function = 0x15, .eax = 2, .ebx = 200, .ecx = 24000000},
		{.function = 0x1d, .index = 1, .flags = SUB, .eax = 1},
		{.function = 0x1f, .index = 0, .flags = SUB, .eax = 9, .edx = 0x77},
		{.function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b},
		{.function = 0x40000001, .eax = 0x0100feffu & ~(1u << 15)},
		{.function = 0x80000000, .eax = 0x80000008},
		{.function = 0x80000008, .eax = 0x3034},
	};

	return table(entries, ARRAY_SIZE(entries));
}

static struct kvm_cpuid2 *amd(void)
{
	static const struct kvm_cpuid_entry2 entries[] = {
		{.function = 0, .eax = 0x10, .ebx = AMD_EBX},
		{.function = 1, .ebx = 0x77ff0800},
		{.function = 0xb, .index = 0, .flags = SUB, .eax = 9, .edx = 0x77},
		{.function = 0x40000000, .eax = 0x40000001},
		{.function = 0x40000001},
		{.function = 0x80000000, .eax = 0x80000026},
		{.function = 0x80000001, .ecx = 1u << 2 | 1u << 22},
		{.function = 0x80000008, .eax = 0x303030, .ecx = 0x707f},
		{.function = 0x8000000a, .eax = 1},
		{.function = 0x8000001d, .index = 0, .flags = SUB, .eax = 0x4121},
		{.function = 0x8000001d, .index = 3, .flags = SUB, .eax = 0x3c163},
		{.function = 0x8000001e, .eax = 0x77, .ebx = 0x101, .ecx = 0x300},
		{.function = 0x80000026, .index = 0, .flags = SUB, .eax = 1},
	};

	return table(entries, ARRAY_SIZE(entries));
}

static struct cpuid_params params(unsigned threads, unsigned cores, unsigned dies,
				  unsigned packages)
{
	return (struct cpuid_params){
		.topology = {threads, cores, dies, packages},
		.phys_bits = 46,
		.tsc_khz = 2500000,
		.tsc_deadline = true,
		.nested = true,
	};
}

static struct kvm_cpuid2 *build(struct kvm_cpuid2 *supported, struct cpuid_params p)
{
	struct kvm_cpuid2 *out = NULL;

	assert_int_equal(cpuid_build(supported, &p, &out), 0);
	free(supported);
	return out;
}

static const struct kvm_cpuid_entry2 *get(const struct kvm_cpuid2 *t, uint32_t function,
					  uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(t, function, index);

	if (!e)
		fail_msg("leaf 0x%x.%u is missing", function, index);
	return e;
}

static void test_apic_ids_leave_gaps_where_counts_are_no_powers_of_two(void **state)
{
	struct cpu_topology t = {
		.threads_per_core = 2, .cores_per_die = 3, .dies_per_package = 1, .packages = 2};
	static const uint32_t want[] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(cpu_topology_apic_id(&t, i), want[i]);
	t = (struct cpu_topology){1, 2, 3, 2};
	assert_int_equal(cpu_topology_apic_id(&t, 5), 5);
	assert_int_equal(cpu_topology_apic_id(&t, 6), 8);
	t = cpu_topology_flat(300);
	assert_int_equal(cpu_topology_apic_id(&t, 299), 299);
	t = cpu_topology_flat(1);
	assert_int_equal(cpu_topology_apic_id(&t, 0), 0);
}

static void test_guest_is_told_that_there_is_a_hypervisor(void **state)
{
	struct kvm_cpuid2 *t = build(intel(), params(1, 1, 1, 1));

	(void)state;
	assert_true(get(t, 1, 0)->ecx & 1u << 31);
	assert_true(get(t, 1, 0)->ecx & 1u << 24);
	assert_true(get(t, 1, 0)->edx & 1u << 12);
	free(t);
}

static void test_features_that_kvm_or_the_user_denies_are_hidden(void **state)
{
	struct cpuid_params p = params(1, 1, 1, 1);
	struct kvm_cpuid2 *t;

	(void)state;
	p.nested = false;
	p.tsc_deadline = false;
	t = build(intel(), p);
	assert_false(get(t, 1, 0)->ecx & 1u << 5);
	assert_false(get(t, 1, 0)->ecx & 1u << 24);
	free(t);
	t = build(amd(), p);
	assert_false(get(t, 0x80000001, 0)->ecx & 1u << 2);
	assert_null(cpuid_find(t, 0x8000000a, 0));
	free(t);
	p.nested = true;
	t = build(amd(), p);
	assert_true(get(t, 0x80000001, 0)->ecx & 1u << 2);
	assert_non_null(cpuid_find(t, 0x8000000a, 0));
	free(t);
	t = build(intel(), p);
	assert_true(get(t, 1, 0)->ecx & 1u << 5);
	free(t);
}

static void test_amx_is_there_only_when_asked_for(void **state)
{
	struct cpuid_params p = params(1, 1, 1, 1);
	struct kvm_cpuid2 *t = build(intel(), p);

	(void)state;
	assert_int_equal(get(t, 7, 0)->edx & (1u << 22 | 1u << 24), 0);
	assert_int_equal(get(t, 7, 1)->eax & 1u << 21, 0);
	assert_int_equal(get(t, 0xd, 0)->eax, 0x2e7);
	assert_int_equal(get(t, 0xd, 18)->eax, 0);
	assert_null(cpuid_find(t, 0x1d, 1));
	free(t);
	p.amx = true;
	t = build(intel(), p);
	assert_true(get(t, 7, 0)->edx & 1u << 24);
	assert_int_equal(get(t, 0xd, 0)->eax, 0x602e7);
	assert_int_equal(get(t, 0xd, 18)->eax, 8192);
	free(t);
}

static void test_physical_address_bits_are_limited(void **state)
{
	struct kvm_cpuid2 *t = build(intel(), params(1, 1, 1, 1));

	(void)state;
	assert_int_equal(cpuid_phys_bits(t), 46);
	assert_int_equal(get(t, 0x80000008, 0)->eax, 0x302e);
	free(t);
	t = build(amd(), params(1, 1, 1, 1));
	assert_int_equal(get(t, 0x80000008, 0)->eax, 0x00302e);
	free(t);
	t = intel();
	assert_int_equal(cpuid_phys_bits(t), 0x34);
	t->nent = 1;
	assert_int_equal(cpuid_phys_bits(t), 36);
	free(t);
}

static void test_tsc_frequency_is_told(void **state)
{
	struct cpuid_params p = params(1, 1, 1, 1);
	struct kvm_cpuid2 *t = build(intel(), p);
	const struct kvm_cpuid_entry2 *e;

	(void)state;
	assert_true(get(t, 0x40000000, 0)->eax >= 0x40000010);
	assert_int_equal(get(t, 0x40000010, 0)->eax, 2500000);
	assert_int_equal(get(t, 0x40000010, 0)->ebx, 1000000);
	e = get(t, 0x15, 0);
	assert_int_equal((uint64_t)e->ecx * e->ebx / e->eax, 2500000000);
	free(t);
	t = build(amd(), p);
	assert_null(cpuid_find(t, 0x15, 0));
	assert_int_equal(get(t, 0x40000010, 0)->eax, 2500000);
	free(t);
	p.tsc_khz = 0;
	t = build(intel(), p);
	assert_null(cpuid_find(t, 0x15, 0));
	assert_null(cpuid_find(t, 0x40000010, 0));
	assert_int_equal(get(t, 0x40000000, 0)->eax, 0x40000001);
	free(t);
}

static void test_msi_extended_destination_is_told_when_asked_for(void **state)
{
	struct cpuid_params p = params(1, 1, 1, 1);
	struct kvm_cpuid2 *t = build(intel(), p);

	(void)state;
	assert_false(get(t, 0x40000001, 0)->eax & 1u << 15);
	free(t);
	p.msi_ext_dest_id = true;
	t = build(intel(), p);
	assert_true(get(t, 0x40000001, 0)->eax & 1u << 15);
	free(t);
}

static void test_leaf_b_describes_threads_and_cores(void **state)
{
	struct kvm_cpuid2 *t = build(intel(), params(2, 3, 1, 2));

	(void)state;
	assert_int_equal(get(t, 0xb, 0)->eax, 1);
	assert_int_equal(get(t, 0xb, 0)->ebx, 2);
	assert_int_equal(get(t, 0xb, 0)->ecx, 0x100);
	assert_int_equal(get(t, 0xb, 1)->eax, 3);
	assert_int_equal(get(t, 0xb, 1)->ebx, 6);
	assert_int_equal(get(t, 0xb, 1)->ecx, 0x201);
	assert_int_equal(get(t, 0xb, 2)->ebx, 0);
	assert_int_equal(get(t, 0xb, 2)->ecx, 2);
	assert_int_equal(get(t, 1, 0)->ebx >> 16 & 0xff, 8);
	assert_true(get(t, 1, 0)->edx & 1u << 28);
	free(t);
}

static void test_leaf_1f_describes_dies_on_intel_only(void **state)
{
	struct kvm_cpuid2 *t = build(intel(), params(1, 4, 2, 1));

	(void)state;
	assert_int_equal(get(t, 0x1f, 0)->ecx, 0x100);
	assert_int_equal(get(t, 0x1f, 1)->ecx, 0x201);
	assert_int_equal(get(t, 0x1f, 1)->eax, 2);
	assert_int_equal(get(t, 0x1f, 1)->ebx, 4);
	assert_int_equal(get(t, 0x1f, 2)->ecx, 0x502);
	assert_int_equal(get(t, 0x1f, 2)->eax, 3);
	assert_int_equal(get(t, 0x1f, 2)->ebx, 8);
	assert_int_equal(get(t, 0x1f, 3)->ecx, 3);
	free(t);
	t = build(amd(), params(1, 4, 2, 1));
	assert_null(cpuid_find(t, 0x1f, 0));
	free(t);
}

static void test_single_processor_is_no_multithreaded_package(void **state)
{
	struct kvm_cpuid2 *t = build(intel(), params(1, 1, 1, 1));

	(void)state;
	assert_false(get(t, 1, 0)->edx & 1u << 28);
	assert_int_equal(get(t, 1, 0)->ebx >> 16 & 0xff, 1);
	assert_int_equal(get(t, 0xb, 0)->eax, 0);
	assert_int_equal(get(t, 0xb, 1)->eax, 0);
	assert_int_equal(get(t, 4, 0)->eax, 0x121);
	free(t);
}

static void test_caches_are_shared_by_the_guests_cores_not_the_hosts(void **state)
{
	struct kvm_cpuid2 *t = build(intel(), params(2, 4, 1, 1));

	(void)state;
	assert_int_equal(get(t, 4, 0)->eax >> 14 & 0xfff, 1);
	assert_int_equal(get(t, 4, 1)->eax >> 14 & 0xfff, 1);
	assert_int_equal(get(t, 4, 2)->eax >> 14 & 0xfff, 7);
	assert_int_equal(get(t, 4, 2)->eax >> 26, 3);
	assert_int_equal(get(t, 4, 3)->eax, 0);
	free(t);
	t = build(amd(), params(2, 4, 1, 1));
	assert_int_equal(get(t, 0x8000001d, 0)->eax >> 14 & 0xfff, 1);
	assert_int_equal(get(t, 0x8000001d, 3)->eax >> 14 & 0xfff, 7);
	free(t);
}

static void test_amd_leaves_follow_the_guests_topology(void **state)
{
	struct cpuid_params p = params(2, 4, 2, 2);
	struct kvm_cpuid2 *t = build(amd(), p);

	(void)state;
	assert_int_equal(get(t, 0x80000008, 0)->ecx & 0xff, 15);
	assert_int_equal(get(t, 0x80000008, 0)->ecx >> 12 & 0xf, 4);
	assert_true(get(t, 0x80000001, 0)->ecx & 1u << 1);
	assert_null(cpuid_find(t, 0x80000026, 0));
	cpuid_set_apic_id(t, &p.topology, cpu_topology_apic_id(&p.topology, 27));
	/* Package 1, die 1, core 1, thread 1. */
	assert_int_equal(get(t, 0x8000001e, 0)->eax, 27);
	assert_int_equal(get(t, 0x8000001e, 0)->ebx, 1 << 8 | 5);
	assert_int_equal(get(t, 0x8000001e, 0)->ecx, 1 << 8 | 3);
	free(t);
}

static void test_each_vcpu_has_its_apic_id_in_every_leaf(void **state)
{
	struct cpuid_params p = params(1, 300, 1, 1);
	struct kvm_cpuid2 *t = build(intel(), p);

	(void)state;
	cpuid_set_apic_id(t, &p.topology, 0x123);
	assert_int_equal(get(t, 1, 0)->ebx >> 24, 0x23);
	assert_int_equal(get(t, 1, 0)->ebx >> 8 & 0xff, 8); /* CLFLUSH line stays */
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(get(t, 0xb, i)->edx, 0x123);
		assert_int_equal(get(t, 0x1f, i)->edx, 0x123);
	}
	assert_int_equal(get(t, 1, 0)->ebx >> 16 & 0xff, 255);
	free(t);
}

static void test_empty_table_is_survived(void **state)
{
	struct kvm_cpuid2 *t = build(table(NULL, 0), params(2, 2, 2, 2));

	(void)state;
	assert_non_null(cpuid_find(t, 0xb, 0));
	free(t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_apic_ids_leave_gaps_where_counts_are_no_powers_of_two),
		cmocka_unit_test(test_guest_is_told_that_there_is_a_hypervisor),
		cmocka_unit_test(test_features_that_kvm_or_the_user_denies_are_hidden),
		cmocka_unit_test(test_amx_is_there_only_when_asked_for),
		cmocka_unit_test(test_physical_address_bits_are_limited),
		cmocka_unit_test(test_tsc_frequency_is_told),
		cmocka_unit_test(test_msi_extended_destination_is_told_when_asked_for),
		cmocka_unit_test(test_leaf_b_describes_threads_and_cores),
		cmocka_unit_test(test_leaf_1f_describes_dies_on_intel_only),
		cmocka_unit_test(test_single_processor_is_no_multithreaded_package),
		cmocka_unit_test(test_caches_are_shared_by_the_guests_cores_not_the_hosts),
		cmocka_unit_test(test_amd_leaves_follow_the_guests_topology),
		cmocka_unit_test(test_each_vcpu_has_its_apic_id_in_every_leaf),
		cmocka_unit_test(test_empty_table_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
