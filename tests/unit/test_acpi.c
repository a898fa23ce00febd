/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: sums and pointers hold, and iasl takes every table apart and back without a warning.
 */
#include "base/endian.h"
#include "vmm/acpi/acpi.h"
#include "vmm/acpi/aml.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static uint32_t apic_id(const void *arg, unsigned vcpu)
{
	return vcpu * 2;
}

static struct acpi_params params(unsigned boot, unsigned max)
{
	return (struct acpi_params){
		.boot_vcpus = boot,
		.max_vcpus = max,
		.apic_id = apic_id,
		.serial = true,
		.ged_address = 0x3fffffef0000,
		.ged_irq = 5,
		.platform_base = 0x3fffffef0000,
		.platform_size_bytes = LAYOUT_PLATFORM_SIZE,
		.mmio32_base = LAYOUT_MMIO32_START,
		.mmio32_size_bytes = LAYOUT_MMIO32_SIZE,
		.mmio64_base = 0x100000000,
		.mmio64_size_bytes = 0x3ffefff00000 - 0x100000000,
	};
}

static struct guest_memory *memory_new(void)
{
	struct guest_memory_params p = {.size_bytes = 2 * MIB};
	struct guest_memory *memory;

	assert_int_equal(guest_memory_new(&p, NULL, &memory, NULL), 0);
	return memory;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s += *p++;
	return s;
}

/* Copies the table at `addr`, checking its sum. The caller frees it. */
static uint8_t *table_at(struct guest_memory *memory, uint64_t addr, const char *signature,
			 uint32_t *ret_len)
{
	uint8_t head[36];
	uint8_t *table;
	uint32_t len;

	assert_int_equal(guest_memory_read(memory, gpa(addr), head, sizeof(head)), 0);
	assert_memory_equal(head, signature, 4);
	len = (uint32_t)le_load(head + 4, 4);
	assert_in_range(len, 36, 0x50000);
	table = malloc(len);
	assert_non_null(table);
	assert_int_equal(guest_memory_read(memory, gpa(addr), table, len), 0);
	assert_int_equal(sum(table, len), 0);
	*ret_len = len;
	return table;
}

static void iasl_accepts(const uint8_t *table, uint32_t len, const char *name)
{
	char dir[] = "/tmp/coracle-acpi-XXXXXX";
	char cmd[512], line[256], path[128];
	bool clean = false;
	FILE *f;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(table, 1, len, f), len);
	fclose(f);
	snprintf(cmd, sizeof(cmd), "cd %s && iasl -d %s.dat >/dev/null 2>&1 && iasl -f %s.dsl 2>&1",
		 dir, name, name);
	f = popen(cmd, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, "0 Errors, 0 Warnings"))
			clean = true;
		else if (strstr(line, "Warning") || strstr(line, "Error "))
			print_message("%s", line);
	}
	assert_int_equal(pclose(f), 0);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
	if (!clean)
		fail_msg("iasl is not content with %s", name);
}

static void all_tables_are_sound(unsigned boot, unsigned max)
{
	struct guest_memory *memory = memory_new();
	struct acpi_params p = params(boot, max);
	uint8_t rsdp[36], *xsdt, *table;
	uint32_t len, xsdt_len;
	uint64_t addr, root;

	assert_int_equal(acpi_build(&p, memory, &root, NULL), 0);
	assert_int_equal(root, LAYOUT_RSDP);
	assert_int_equal(guest_memory_read(memory, gpa(root), rsdp, sizeof(rsdp)), 0);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, sizeof(rsdp)), 0);

	xsdt = table_at(memory, le_load(rsdp + 24, 8), "XSDT", &xsdt_len);
	assert_int_equal(xsdt_len, 36 + 3 * 8);
	table = table_at(memory, le_load(xsdt + 36, 8), "FACP", &len);
	iasl_accepts(table, len, "facp");
	addr = le_load(table + 140, 8); /* X_DSDT */
	free(table);
	table = table_at(memory, addr, "DSDT", &len);
	iasl_accepts(table, len, "dsdt");
	free(table);
	table = table_at(memory, le_load(xsdt + 44, 8), "APIC", &len);
	assert_int_equal(len, 44 + 16 * max + 12 + 10);
	iasl_accepts(table, len, "apic");
	free(table);
	table = table_at(memory, le_load(xsdt + 52, 8), "MCFG", &len);
	iasl_accepts(table, len, "mcfg");
	free(table);
	free(xsdt);
	guest_memory_free(memory);
}

static void tables_for_one_vcpu_are_sound(void **state)
{
	all_tables_are_sound(1, 1);
}

static void tables_for_255_vcpus_are_sound(void **state)
{
	all_tables_are_sound(64, 255);
}

static void madt_tells_present_from_possible_processors(void **state)
{
	struct guest_memory *memory = memory_new();
	struct acpi_params p = params(2, 3);
	uint8_t rsdp[36], *xsdt, *madt;
	uint32_t len;
	uint64_t root;

	assert_int_equal(acpi_build(&p, memory, &root, NULL), 0);
	assert_int_equal(guest_memory_read(memory, gpa(root), rsdp, sizeof(rsdp)), 0);
	xsdt = table_at(memory, le_load(rsdp + 24, 8), "XSDT", &len);
	madt = table_at(memory, le_load(xsdt + 44, 8), "APIC", &len);
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *entry = madt + 44 + 16 * i;

		assert_int_equal(entry[0], 9);
		assert_int_equal(le_load(entry + 4, 4), i * 2);
		assert_int_equal(le_load(entry + 8, 4), i < 2 ? 1 : 2);
		assert_int_equal(le_load(entry + 12, 4), i);
	}
	free(madt);
	free(xsdt);
	guest_memory_free(memory);
}

static void too_many_vcpus_are_refused_not_written_past_the_area(void **state)
{
	struct guest_memory *memory = memory_new();
	struct acpi_params p = params(1, 20000);
	struct err err = ERR_INIT;
	uint64_t root;
	uint8_t after;

	assert_int_equal(acpi_build(&p, memory, &root, &err), -E2BIG);
	assert_non_null(strstr(err_message(&err, 0), "20000"));
	assert_int_equal(guest_memory_read(memory, gpa(LAYOUT_ACPI_END), &after, 1), 0);
	assert_int_equal(after, 0);
	guest_memory_free(memory);
}

static void package_lengths_cover_all_widths(void **state)
{
	static const size_t bodies[] = {0, 10, 62, 63, 100, 4090, 4094, 5000, 0xffff0, 0x100000};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		struct buf b = {0};
		size_t n, len, mark = b.len;

		for (size_t k = 0; k < bodies[i]; k++)
			buf_u8(&b, 0xa3);
		aml_close(&b, mark);
		assert_true(buf_ok(&b));
		n = (b.data[0] >> 6) + 1;
		len = n == 1 ? b.data[0] : b.data[0] & 0xf;
		for (size_t k = 1; k < n; k++)
			len |= (size_t)b.data[k] << (4 + 8 * (k - 1));
		assert_int_equal(len, b.len);
		assert_int_equal(b.len, bodies[i] + n);
		buf_fini(&b);
	}
}

static void a_name_that_is_none_fails_the_build(void **state)
{
	static const char *const bad[] = {"", "ABC", "ABCDE", "ABCD.", "abcd", "1BCD", "ABCD.EF"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct buf b = {0};

		aml_path(&b, bad[i]);
		assert_false(buf_ok(&b));
		buf_fini(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_for_one_vcpu_are_sound),
		cmocka_unit_test(tables_for_255_vcpus_are_sound),
		cmocka_unit_test(madt_tells_present_from_possible_processors),
		cmocka_unit_test(too_many_vcpus_are_refused_not_written_past_the_area),
		cmocka_unit_test(package_lengths_cover_all_widths),
		cmocka_unit_test(a_name_that_is_none_fails_the_build),
	};

	return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
