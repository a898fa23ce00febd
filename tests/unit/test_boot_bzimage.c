/* SPDX-License-Identifier: Apache-2.0 */
#include "base/endian.h"
#include "tests/unit/boot_image_file.h"
#include "vmm/boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SETUP_SECTS 3
#define START	    ((SETUP_SECTS + 1) * 512)
#define BODY	    0x8000
#define INIT_SIZE   0x200000
#define PREFERRED   0x1000000

struct fixture {
	struct guest_memory *memory;
	struct e820_map e820;
	struct boot_params params;
	struct boot_entry entry;
	struct err err;
	uint8_t image[START + BODY];
	size_t len;
};

static void put(struct fixture *f, size_t at, uint64_t value, size_t len)
{
	le_store(f->image + at, value, len);
}

static void image_init(struct fixture *f)
{
	memset(f->image, 0, sizeof(f->image));
	f->len = sizeof(f->image);
	put(f, 0x1f1, SETUP_SECTS, 1);
	put(f, 0x1f4, BODY / 16, 4);
	put(f, 0x1fe, 0xaa55, 2);
	put(f, 0x200, 0x6aeb, 2); /* jmp over the header: it ends at 0x26c */
	memcpy(f->image + 0x202, "HdrS", 4);
	put(f, 0x206, 0x020f, 2);
	put(f, 0x211, 1, 1);
	put(f, 0x22c, 0x7fffffff, 4);
	put(f, 0x230, 0x200000, 4);
	put(f, 0x234, 1, 1);
	put(f, 0x236, 1, 2);
	put(f, 0x238, 2047, 4);
	put(f, 0x258, PREFERRED, 8);
	put(f, 0x260, INIT_SIZE, 4);
	for (size_t i = 0; i < BODY; i++)
		f->image[START + i] = (uint8_t)(i * 13 >> 2);
}

static struct fixture *new_fixture(uint64_t memory_size)
{
	struct guest_memory_params params = {.size_bytes = memory_size};
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || guest_memory_new(&params, NULL, &f->memory, NULL) < 0)
		return NULL;
	e820_map_init(&f->e820, f->memory);
	f->params = (struct boot_params){.e820 = &f->e820, .rsdp = 0xa0000, .cmdline = "quiet"};
	image_init(f);
	return f;
}

static int set_up(void **state)
{
	*state = new_fixture(64 * MIB);
	return *state ? 0 : -1;
}

static void free_fixture(struct fixture *f)
{
	guest_memory_free(f->memory);
	free(f);
}

static int tear_down(void **state)
{
	free_fixture(*state);
	return 0;
}

static int load(struct fixture *f)
{
	AUTO_IMAGE_FILE struct image_file file = image_file_make(f->image, f->len);

	assert_true(file.fd >= 0);
	f->params.kernel = file.path;
	f->err = (struct err)ERR_INIT;
	return boot_load(&f->params, f->memory, NULL, &f->entry, &f->err);
}

static uint64_t guest64(struct fixture *f, uint64_t at)
{
	le64_t v = {0};

	assert_int_equal(guest_memory_read(f->memory, gpa(at), &v, sizeof(v)), 0);
	return le64_get(v);
}

static uint32_t guest32(struct fixture *f, uint64_t at)
{
	return (uint32_t)guest64(f, at);
}

static void assert_refused(struct fixture *f, int code, const char *why)
{
	int rc = load(f);

	if (rc != code)
		fail_msg("%d instead of %d: %s", rc, code, err_message(&f->err, 0));
	assert_int_equal(err_count(&f->err), 1);
	if (!strstr(err_message(&f->err, 0), why))
		fail_msg("\"%s\" does not say \"%s\"", err_message(&f->err, 0), why);
	image_init(f);
}

static void test_kernel_lies_where_it_prefers_and_is_entered_in_long_mode(void **state)
{
	struct fixture *f = *state;
	void *host = NULL;

	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.protocol, BOOT_LINUX_64);
	assert_int_equal(f->entry.ip, PREFERRED + 0x200);
	assert_int_equal(f->entry.arg, LAYOUT_ZERO_PAGE);
	assert_int_equal(guest_memory_map(f->memory, gpa(PREFERRED), BODY, GUEST_READ, &host), 0);
	assert_memory_equal(host, f->image + START, BODY);
}

static void test_kernel_without_64_bit_entry_is_entered_at_its_start(void **state)
{
	struct fixture *f = *state;

	put(f, 0x236, 0, 2);
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.protocol, BOOT_LINUX_32);
	assert_int_equal(f->entry.ip, PREFERRED);
	/* The code segment of the table must suit: 32-bit, not long. */
	assert_int_equal(guest64(f, LAYOUT_GDT + BOOT_SELECTOR_CODE), 0x00cf9b000000ffff);
}

static void test_zero_page_has_header_map_and_pointers(void **state)
{
	struct fixture *f = *state;
	char cmdline[8] = "";

	assert_int_equal(load(f), 0);
	assert_int_equal(guest32(f, 0x7000 + 0x202), 0x53726448); /* "HdrS" */
	assert_int_equal(guest32(f, 0x7000 + 0x206) & 0xffff, 0x020f);
	assert_int_equal(guest32(f, 0x7000 + 0x210) & 0xff, 0xff);
	assert_int_equal(guest32(f, 0x7000 + 0x214), PREFERRED);
	assert_int_equal(guest32(f, 0x7000 + 0x260), INIT_SIZE);
	assert_int_equal(guest64(f, 0x7000 + 0x70), 0xa0000);
	assert_int_equal(guest32(f, 0x7000 + 0x228), LAYOUT_CMDLINE);
	assert_int_equal(guest32(f, 0x7000 + 0x218), 0);
	assert_int_equal(guest32(f, 0x7000 + 0x21c), 0);
	assert_int_equal(guest32(f, 0x7000 + 0x1e8) & 0xff, 3);
	assert_int_equal(guest64(f, 0x7000 + 0x2d0), 0);
	assert_int_equal(guest64(f, 0x7000 + 0x2d8), 0xa0000);
	assert_int_equal(guest32(f, 0x7000 + 0x2e0), E820_RAM);
	assert_int_equal(guest64(f, 0x7000 + 0x2e4), 0x100000);
	assert_int_equal(guest64(f, 0x7000 + 0x2ec), 63 * MIB);
	assert_int_equal(guest_memory_read(f->memory, gpa(LAYOUT_CMDLINE), cmdline, 6), 0);
	assert_string_equal(cmdline, "quiet");
}

static void test_identity_map_covers_4_gib(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(load(f), 0);
	assert_int_equal(guest64(f, LAYOUT_PAGE_TABLES), 0xb003);
	assert_int_equal(guest64(f, LAYOUT_PAGE_TABLES + 8), 0);
	for (uint64_t g = 0; g < 4; g++)
		assert_int_equal(guest64(f, 0xb000 + g * 8), (0xc000 + g * 0x1000) | 3);
	assert_int_equal(guest64(f, 0xb000 + 4 * 8), 0);
	for (uint64_t i = 0; i < 2048; i++)
		assert_int_equal(guest64(f, 0xc000 + i * 8), i * 2 * MIB | 0x83);
	assert_int_equal(guest64(f, LAYOUT_GDT + BOOT_SELECTOR_CODE), 0x00af9b000000ffff);
	assert_int_equal(guest64(f, LAYOUT_GDT + BOOT_SELECTOR_DATA), 0x00cf93000000ffff);
}

static void test_initramfs_respects_the_kernels_limit(void **state)
{
	struct fixture *f = *state;
	AUTO_IMAGE_FILE struct image_file file = image_file_make("initramfs", 9);

	f->params.initramfs = file.path;
	assert_int_equal(load(f), 0);
	assert_int_equal(guest32(f, 0x7000 + 0x218), 64 * MIB - 4096);
	assert_int_equal(guest32(f, 0x7000 + 0x21c), 9);
	put(f, 0x22c, 0x2ffffff, 4);
	assert_int_equal(load(f), 0);
	assert_int_equal(guest32(f, 0x7000 + 0x218), 0x3000000 - 4096);
	assert_int_equal(guest64(f, 0x3000000 - 4096), 0x666d617274696e69);
	/* A limit below the kernel leaves no room at all. */
	put(f, 0x22c, 0xfffff, 4);
	assert_int_equal(load(f), -ENOSPC);
	put(f, 0x22c, 0, 4);
	assert_int_equal(load(f), -ENOSPC);
	put(f, 0x22c, UINT32_MAX, 4);
	assert_int_equal(load(f), 0);
}

static void test_initramfs_stays_clear_of_what_the_kernel_unpacks_to(void **state)
{
	struct fixture *f = *state;
	AUTO_IMAGE_FILE struct image_file file = image_file_make("", 0);

	f->params.initramfs = file.path;
	assert_int_equal(ftruncate(file.fd, 64 * MIB - PREFERRED - INIT_SIZE + 1), 0);
	assert_int_equal(load(f), -ENOSPC);
	assert_int_equal(ftruncate(file.fd, 64 * MIB - PREFERRED - INIT_SIZE), 0);
	assert_int_equal(load(f), 0);
}

static void test_relocatable_kernel_goes_lower_in_a_small_machine(void **state)
{
	struct fixture *f = new_fixture(8 * MIB);

	(void)state;
	assert_non_null(f);
	assert_int_equal(load(f), 0);
	assert_int_equal(f->entry.ip, 2 * MIB + 0x200);
	put(f, 0x234, 0, 1);
	assert_refused(f, -ENOSPC, "does not fit in guest RAM");
	put(f, 0x260, 8 * MIB, 4);
	assert_refused(f, -ENOSPC, "does not fit in guest RAM");
	free_fixture(f);
}

static void test_impossible_addresses_and_sizes_are_refused(void **state)
{
	static const uint64_t nowhere[] = {
		0,	    0x7000,	 0xa0000,    0xc0000000,
		0xffffffff, 0x100000000, UINT64_MAX, UINT64_MAX - 0x1fff};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
		put(f, 0x258, nowhere[i], 8);
		put(f, 0x234, 0, 1);
		assert_refused(f, -ENOSPC, "does not fit");
	}
	put(f, 0x260, UINT32_MAX, 4);
	assert_refused(f, -ENOSPC, "does not fit");
	put(f, 0x258, 0, 8);
	put(f, 0x230, 3, 4);
	assert_refused(f, -EINVAL, "impossible alignment");
	put(f, 0x258, 0, 8);
	put(f, 0x230, 0, 4);
	assert_refused(f, -EINVAL, "impossible alignment");
	put(f, 0x258, 0, 8);
	put(f, 0x230, 0x80000000, 4);
	assert_refused(f, -EINVAL, "impossible alignment");
}

static void test_old_and_broken_headers_are_refused(void **state)
{
	struct fixture *f = *state;

	put(f, 0x206, 0x020b, 2);
	assert_refused(f, -EINVAL, "2.11");
	put(f, 0x1fe, 0, 2);
	assert_refused(f, -EINVAL, "boot flag");
	put(f, 0x211, 0, 1);
	assert_refused(f, -EINVAL, "zImage");
	put(f, 0x201, 0x20, 1);
	assert_refused(f, -EINVAL, "too short");
	put(f, 0x1f4, 0, 4);
	assert_refused(f, -EINVAL, "without a kernel");
	put(f, 0x1f4, UINT32_MAX, 4);
	assert_refused(f, -ENODATA, "cut short");
	put(f, 0x1f1, 255, 1);
	assert_refused(f, -ENODATA, "cut short");
	memcpy(f->image + 0x202, "hdrs", 4);
	assert_refused(f, -EINVAL, "neither an ELF image nor a bzImage");
}

static void test_setup_header_that_claims_to_be_long_is_cut(void **state)
{
	struct fixture *f = *state;

	put(f, 0x201, 0xff, 1);
	memset(f->image + 0x26c, 0xee, 0x100);
	assert_int_equal(load(f), 0);
	/* The zero page goes on with something else at 0x290. */
	assert_int_equal(guest32(f, 0x7000 + 0x28c), 0xeeeeeeee);
	assert_int_equal(guest32(f, 0x7000 + 0x290), 0);
}

static void test_command_line_longer_than_the_kernel_takes_is_refused(void **state)
{
	struct fixture *f = *state;
	char cmdline[2049];

	memset(cmdline, 'x', sizeof(cmdline) - 1);
	cmdline[2048] = '\0';
	f->params.cmdline = cmdline;
	assert_int_equal(load(f), -E2BIG);
	assert_non_null(strstr(err_message(&f->err, 0), "2047"));
	cmdline[2047] = '\0';
	assert_int_equal(load(f), 0);
}

static void test_every_truncation_is_an_error(void **state)
{
	struct fixture *f = *state;

	for (f->len = 0; f->len < sizeof(f->image); f->len += f->len < 700 ? 1 : 333) {
		assert_true(load(f) < 0);
		assert_int_equal(err_count(&f->err), 1);
	}
}

static void test_random_damage_is_survived(void **state)
{
	struct fixture *f = *state;
	AUTO_IMAGE_FILE struct image_file file = image_file_make("initramfs", 9);
	uint32_t seed = 7;

	f->params.initramfs = file.path;
	for (int i = 0; i < 5000; i++) {
		image_init(f);
		for (int n = 0; n < 4; n++) {
			seed = seed * 1664525u + 1013904223u;
			f->image[0x1f1 + (seed >> 8) % 0x80] = (uint8_t)(seed >> 24);
		}
		load(f);
	}
}

static void test_kernels_of_this_machine_load(void **state)
{
	glob_t g = {0};
	struct fixture *f;

	(void)state;
	if (glob("/boot/vmlinuz-*", 0, NULL, &g) != 0)
		print_message("no kernels in /boot\n");
	for (size_t i = 0; i < g.gl_pathc; i++) {
		char text[512];

		if (access(g.gl_pathv[i], R_OK) < 0)
			continue;
		f = new_fixture(512 * MIB);
		assert_non_null(f);
		f->params.kernel = g.gl_pathv[i];
		if (boot_load(&f->params, f->memory, NULL, &f->entry, &f->err) < 0)
			fail_msg("%s", err_format(&f->err, text, sizeof(text)));
		assert_int_equal(f->entry.protocol, BOOT_LINUX_64);
		free_fixture(f);
	}
	globfree(&g);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		TEST(test_kernel_lies_where_it_prefers_and_is_entered_in_long_mode),
		TEST(test_kernel_without_64_bit_entry_is_entered_at_its_start),
		TEST(test_zero_page_has_header_map_and_pointers),
		TEST(test_identity_map_covers_4_gib),
		TEST(test_initramfs_respects_the_kernels_limit),
		TEST(test_initramfs_stays_clear_of_what_the_kernel_unpacks_to),
		TEST(test_relocatable_kernel_goes_lower_in_a_small_machine),
		TEST(test_impossible_addresses_and_sizes_are_refused),
		TEST(test_old_and_broken_headers_are_refused),
		TEST(test_setup_header_that_claims_to_be_long_is_cut),
		TEST(test_command_line_longer_than_the_kernel_takes_is_refused),
		TEST(test_every_truncation_is_an_error),
		TEST(test_random_damage_is_survived),
		TEST(test_kernels_of_this_machine_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
