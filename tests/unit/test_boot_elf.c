/* SPDX-License-Identifier: Apache-2.0 */
#include "base/endian.h"
#include "tests/unit/boot_image_file.h"
#include "vmm/boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LOAD 0x200000
#define RSDP 0xa0000

/* A kernel: header, notes, then one page of code that is loaded to LOAD, with a BSS behind it. */
struct image {
	Elf64_Ehdr header;
	Elf64_Phdr load;
	Elf64_Phdr notes;
	struct {
		Elf64_Nhdr other;
		char other_name[8];
		uint8_t other_desc[4];
		Elf64_Nhdr head;
		char name[4];
		uint64_t entry;
	} __attribute__((packed)) note;
	uint8_t code[4096];
};

#define BSS 0x3000

static void image_init(struct image *im)
{
	*im = (struct image){
		.header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			   .e_type = ET_EXEC,
			   .e_machine = EM_X86_64,
			   .e_phoff = offsetof(struct image, load),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 2},
		.load = {.p_type = PT_LOAD,
			 .p_offset = offsetof(struct image, code),
			 .p_vaddr = 0xffffffff81000000,
			 .p_paddr = LOAD,
			 .p_filesz = sizeof(im->code),
			 .p_memsz = sizeof(im->code) + BSS},
		.notes = {.p_type = PT_NOTE,
			  .p_offset = offsetof(struct image, note),
			  .p_filesz = sizeof(im->note),
			  .p_align = 4},
		.note = {.other = {.n_namesz = 6, .n_descsz = 4, .n_type = 18},
			 .other_name = "Linux",
			 .head = {.n_namesz = 4, .n_descsz = 8, .n_type = 18},
			 .name = "Xen",
			 .entry = LOAD + 0x40},
	};
	for (size_t i = 0; i < sizeof(im->code); i++)
		im->code[i] = (uint8_t)(i * 7);
}

struct fixture {
	struct guest_memory *memory;
	struct e820_map e820;
	struct boot_params params;
	struct boot_entry entry;
	struct err err;
};

static int set_up(void **state)
{
	struct guest_memory_params params = {.size_bytes = 64 * MIB};
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || guest_memory_new(&params, NULL, &f->memory, NULL) < 0)
		return -1;
	e820_map_init(&f->e820, f->memory);
	f->params = (struct boot_params){.e820 = &f->e820, .rsdp = RSDP};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guest_memory_free(f->memory);
	free(f);
	return 0;
}

static int load_bytes(struct fixture *f, const void *bytes, size_t len)
{
	AUTO_IMAGE_FILE struct image_file file = image_file_make(bytes, len);

	assert_true(file.fd >= 0);
	f->params.kernel = file.path;
	f->err = (struct err)ERR_INIT;
	return boot_load(&f->params, f->memory, NULL, &f->entry, &f->err);
}

static int load(struct fixture *f, const struct image *im)
{
	return load_bytes(f, im, sizeof(*im));
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

static void assert_refused(struct fixture *f, const struct image *im, int code, const char *why)
{
	int rc = load(f, im);

	if (rc != code)
		fail_msg("%d instead of %d: %s", rc, code, err_message(&f->err, 0));
	assert_int_equal(err_count(&f->err), 1);
	if (!strstr(err_message(&f->err, 0), why) ||
	    !strstr(err_message(&f->err, 0), "/proc/self/fd/"))
		fail_msg("\"%s\" does not say \"%s\"", err_message(&f->err, 0), why);
}

static void test_segments_are_placed_and_bss_is_zeroed(void **state)
{
	struct fixture *f = *state;
	struct image im;
	uint8_t got[sizeof(im.code)];

	image_init(&im);
	assert_int_equal(guest_memory_write(f->memory, gpa(LOAD + 0x2000), "old", 3), 0);
	assert_int_equal(load(f, &im), 0);
	assert_int_equal(f->entry.protocol, BOOT_PVH);
	assert_int_equal(f->entry.ip, LOAD + 0x40);
	assert_int_equal(f->entry.arg, LAYOUT_PVH_START_INFO);
	assert_string_equal(f->entry.name, "PVH");
	assert_int_equal(guest_memory_read(f->memory, gpa(LOAD), got, sizeof(got)), 0);
	assert_memory_equal(got, im.code, sizeof(got));
	assert_int_equal(guest64(f, LOAD + 0x2000), 0);
}

static void test_start_info_tells_map_command_line_and_rsdp(void **state)
{
	struct fixture *f = *state;
	struct image im;
	char cmdline[16] = "";

	image_init(&im);
	f->params.cmdline = "console=ttyS0";
	assert_int_equal(load(f, &im), 0);
	assert_int_equal(guest32(f, 0x6000), 0x336ec578);
	assert_int_equal(guest32(f, 0x6004), 1);
	assert_int_equal(guest32(f, 0x600c), 0); /* no module */
	assert_int_equal(guest64(f, 0x6018), LAYOUT_CMDLINE);
	assert_int_equal(guest64(f, 0x6020), RSDP);
	assert_int_equal(guest64(f, 0x6028), LAYOUT_PVH_MEMMAP);
	assert_int_equal(guest32(f, 0x6030), 3);
	assert_int_equal(guest_memory_read(f->memory, gpa(LAYOUT_CMDLINE), cmdline, 14), 0);
	assert_string_equal(cmdline, "console=ttyS0");
	/* [0, 640 KiB), [1 MiB, 64 MiB), ECAM */
	assert_int_equal(guest64(f, 0x7000), 0);
	assert_int_equal(guest64(f, 0x7008), 0xa0000);
	assert_int_equal(guest32(f, 0x7010), E820_RAM);
	assert_int_equal(guest64(f, 0x7018), 0x100000);
	assert_int_equal(guest64(f, 0x7020), 63 * MIB);
	assert_int_equal(guest64(f, 0x7030), LAYOUT_ECAM_START);
	assert_int_equal(guest64(f, 0x7038), LAYOUT_ECAM_SIZE);
	assert_int_equal(guest32(f, 0x7040), E820_RESERVED);
	/* Where old kernels look for the RSDP. */
	assert_int_equal(guest32(f, 0x40e) & 0xffff, RSDP >> 4);
}

static void test_initramfs_goes_to_the_top_of_low_ram(void **state)
{
	struct fixture *f = *state;
	uint8_t *bytes = malloc(3 * MIB + 5);
	struct image_file file;
	struct image im;
	void *host = NULL;
	uint64_t at;

	assert_non_null(bytes);
	for (size_t i = 0; i < 3 * MIB + 5; i++)
		bytes[i] = (uint8_t)(i * 31 >> 3);
	file = image_file_make(bytes, 3 * MIB + 5);
	image_init(&im);
	f->params.initramfs = file.path;
	assert_int_equal(load(f, &im), 0);
	assert_int_equal(guest32(f, 0x600c), 1);
	assert_int_equal(guest64(f, 0x6010), LAYOUT_PVH_MODLIST);
	at = guest64(f, 0x6040);
	assert_int_equal(guest64(f, 0x6048), 3 * MIB + 5);
	assert_int_equal(at, 64 * MIB - 3 * MIB - 4096);
	assert_int_equal(guest_memory_map(f->memory, gpa(at), 3 * MIB + 5, GUEST_READ, &host), 0);
	assert_memory_equal(host, bytes, 3 * MIB + 5);
	image_file_close(&file);
	free(bytes);
}

static void test_initramfs_that_would_meet_the_kernel_is_refused(void **state)
{
	struct fixture *f = *state;
	AUTO_IMAGE_FILE struct image_file file = image_file_make("", 0);
	struct image im;

	image_init(&im);
	f->params.initramfs = file.path;
	/* Free above the kernel: 64 MiB - LOAD - code - BSS. */
	assert_int_equal(ftruncate(file.fd, 64 * MIB - LOAD - 0x4000 + 1), 0);
	assert_int_equal(load(f, &im), -ENOSPC);
	assert_non_null(strstr(err_message(&f->err, 0), "does not fit"));
	assert_int_equal(ftruncate(file.fd, 64 * MIB - LOAD - 0x4000), 0);
	assert_int_equal(load(f, &im), 0);
	assert_int_equal(guest64(f, 0x6040), LOAD + 0x4000);
	assert_int_equal(ftruncate(file.fd, 1LL << 40), 0);
	assert_int_equal(load(f, &im), -ENOSPC);
	assert_int_equal(ftruncate(file.fd, 0), 0);
	assert_int_equal(load(f, &im), -EINVAL);
	assert_non_null(strstr(err_message(&f->err, 0), "Initramfs"));
	assert_non_null(strstr(err_message(&f->err, 0), "is empty"));
}

static void test_kernel_without_pvh_note_is_refused_with_advice(void **state)
{
	struct fixture *f = *state;
	struct image im;

	image_init(&im);
	im.note.head.n_type = 17;
	assert_refused(f, &im, -EINVAL, "CONFIG_PVH=y");
	image_init(&im);
	im.notes.p_type = PT_NULL;
	assert_refused(f, &im, -EINVAL, "no PVH entry point");
	image_init(&im);
	memcpy(im.note.name, "xen", 4);
	assert_refused(f, &im, -EINVAL, "no PVH entry point");
}

static void test_malformed_notes_are_refused(void **state)
{
	struct fixture *f = *state;
	struct image im;

	image_init(&im);
	im.note.other.n_namesz = UINT32_MAX;
	assert_refused(f, &im, -EINVAL, "malformed");
	image_init(&im);
	im.note.other.n_descsz = UINT32_MAX - 3;
	assert_refused(f, &im, -EINVAL, "malformed");
	image_init(&im);
	im.note.head.n_descsz = 9;
	assert_refused(f, &im, -EINVAL, "malformed");
	image_init(&im);
	im.note.head.n_descsz = 2;
	assert_refused(f, &im, -EINVAL, "malformed");
	image_init(&im);
	im.notes.p_filesz = sizeof(im.note) - 1;
	assert_refused(f, &im, -EINVAL, "malformed");
	image_init(&im);
	im.notes.p_filesz = 1ULL << 40;
	assert_refused(f, &im, -EINVAL, "too large");
	image_init(&im);
	im.notes.p_offset = UINT64_MAX - 8;
	assert_refused(f, &im, -ENODATA, "cut short");
}

static void test_segments_outside_of_free_ram_are_refused(void **state)
{
	static const struct {
		uint64_t paddr, memsz;
	} bad[] = {
		{64 * MIB - 4096, 8192},   /* over the end */
		{64 * MIB, 4096},	   /* behind it */
		{0xc0000000, 4096},	   /* the hole */
		{0x100000000, 4096},	   /* high RAM that is not there */
		{UINT64_MAX - 4095, 4096}, /* the very top */
		{UINT64_MAX - 4095, 8192}, /* wraps */
		{LOAD, UINT64_MAX},	   /* wraps */
		{0, 4096},		   /* our structures */
		{0x6000, 4096},		   /* start_info */
		{0x2f000, 8192},	   /* the command line's end */
		{0x9f000, 8192},	   /* reaches ACPI's tables */
		{0xff000, 8192},	   /* comes out of them */
	};
	struct fixture *f = *state;
	struct image im;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		image_init(&im);
		im.load.p_paddr = bad[i].paddr;
		im.load.p_memsz = bad[i].memsz;
		assert_refused(f, &im, -ENOSPC, "free guest RAM");
	}
}

static void test_inconsistent_headers_are_refused(void **state)
{
	struct fixture *f = *state;
	struct image im;

	image_init(&im);
	im.load.p_filesz = im.load.p_memsz + 1;
	assert_refused(f, &im, -EINVAL, "holds more than it occupies");
	image_init(&im);
	im.load.p_offset += 1;
	assert_refused(f, &im, -ENODATA, "cut short");
	image_init(&im);
	im.load.p_offset = UINT64_MAX;
	assert_refused(f, &im, -ENODATA, "cut short");
	image_init(&im);
	im.header.e_phoff = UINT64_MAX - 16;
	assert_refused(f, &im, -ENODATA, "cut short");
	image_init(&im);
	im.header.e_phnum = 0;
	assert_refused(f, &im, -EINVAL, "no program headers");
	image_init(&im);
	im.header.e_phnum = UINT16_MAX;
	assert_refused(f, &im, -EINVAL, "too many");
	image_init(&im);
	im.header.e_phentsize = 32;
	assert_refused(f, &im, -EINVAL, "unknown size");
	image_init(&im);
	im.header.e_machine = EM_AARCH64;
	assert_refused(f, &im, -EINVAL, "not for x86");
	image_init(&im);
	im.header.e_ident[EI_DATA] = ELFDATA2MSB;
	assert_refused(f, &im, -EINVAL, "little-endian");
	image_init(&im);
	im.header.e_ident[EI_CLASS] = 3;
	assert_refused(f, &im, -EINVAL, "unknown class");
}

static void test_entry_outside_of_the_kernel_is_refused(void **state)
{
	static const uint64_t bad[] = {0, LOAD - 1, LOAD + 0x4000, UINT64_MAX, 0x100000000 + LOAD};
	struct fixture *f = *state;
	struct image im;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		image_init(&im);
		im.note.entry = bad[i];
		assert_refused(f, &im, -EINVAL, "outside what is loaded");
	}
	image_init(&im);
	im.load.p_type = PT_NULL;
	assert_refused(f, &im, -EINVAL, "outside what is loaded");
}

static void test_every_truncation_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct image im;

	image_init(&im);
	for (size_t len = 0; len < sizeof(im); len += len < 600 ? 1 : 61) {
		assert_true(load_bytes(f, &im, len) < 0);
		assert_int_equal(err_count(&f->err), 1);
	}
}

static void test_random_damage_is_survived(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 1;
	struct image im;

	for (int i = 0; i < 20000; i++) {
		image_init(&im);
		for (int n = 0; n < 4; n++) {
			seed = seed * 1664525u + 1013904223u;
			((uint8_t *)&im)[(seed >> 8) % offsetof(struct image, code)] =
				(uint8_t)(seed >> 24);
		}
		load(f, &im);
	}
}

static void test_what_is_no_regular_file_is_refused_at_once(void **state)
{
	char dir[] = "/tmp/boot_elf_XXXXXX";
	struct fixture *f = *state;
	char fifo[64];
	struct image im;

	assert_non_null(mkdtemp(dir));
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	f->params.kernel = dir;
	assert_int_equal(boot_load(&f->params, f->memory, NULL, &f->entry, &f->err), -EISDIR);
	f->params.kernel = fifo;
	assert_int_equal(boot_load(&f->params, f->memory, NULL, &f->entry, &f->err), -EINVAL);
	f->params.kernel = "/dev/zero";
	assert_int_equal(boot_load(&f->params, f->memory, NULL, &f->entry, &f->err), -EINVAL);
	f->params.kernel = "/nonexistent/vmlinux";
	assert_int_equal(boot_load(&f->params, f->memory, NULL, &f->entry, &f->err), -ENOENT);
	assert_non_null(strstr(err_message(&f->err, 0), "Kernel \"/nonexistent/vmlinux\""));
	image_init(&im);
	f->params.initramfs = fifo;
	assert_int_equal(load(f, &im), -EINVAL);
	assert_non_null(strstr(err_message(&f->err, 0), "Initramfs"));
	unlink(fifo);
	rmdir(dir);
}

static void test_command_line_of_64_kib_is_too_long(void **state)
{
	struct fixture *f = *state;
	char *cmdline = malloc(0x10001);
	struct image im;

	assert_non_null(cmdline);
	memset(cmdline, 'x', 0x10000);
	cmdline[0x10000] = '\0';
	image_init(&im);
	f->params.cmdline = cmdline;
	assert_int_equal(load(f, &im), -E2BIG);
	cmdline[0xffff] = '\0';
	assert_int_equal(load(f, &im), 0);
	assert_int_equal(guest64(f, LAYOUT_CMDLINE + 0xfff8) >> 56, 0);
	free(cmdline);
}

static void test_cancel_ends_loading(void **state)
{
	struct fixture *f = *state;
	atomic_bool cancel = true;
	AUTO_IMAGE_FILE struct image_file file = {.fd = -1};
	struct image im;

	image_init(&im);
	file = image_file_make(&im, sizeof(im));
	f->params.kernel = file.path;
	assert_int_equal(boot_load(&f->params, f->memory, &cancel, &f->entry, &f->err), -ECANCELED);
}

static void test_32_bit_elf_is_loaded_too(void **state)
{
	struct {
		Elf32_Ehdr header;
		Elf32_Phdr ph[2];
		Elf32_Nhdr note;
		char name[4];
		uint32_t entry;
		uint8_t code[64];
	} im = {
		.header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
			   .e_type = ET_EXEC,
			   .e_machine = EM_386,
			   .e_phoff = sizeof(Elf32_Ehdr),
			   .e_phentsize = sizeof(Elf32_Phdr),
			   .e_phnum = 2},
		.note = {.n_namesz = 4, .n_descsz = 4, .n_type = 18},
		.name = "Xen",
		.entry = LOAD,
		.code = {0xf4},
	};
	struct fixture *f = *state;

	im.ph[0] = (Elf32_Phdr){.p_type = PT_LOAD,
				.p_offset = offsetof(__typeof__(im), code),
				.p_paddr = LOAD,
				.p_filesz = 64,
				.p_memsz = 64};
	im.ph[1] = (Elf32_Phdr){.p_type = PT_NOTE,
				.p_offset = offsetof(__typeof__(im), note),
				.p_filesz = sizeof(im.note) + 8};
	assert_int_equal(load_bytes(f, &im, sizeof(im)), 0);
	assert_int_equal(f->entry.ip, LOAD);
	assert_int_equal(guest32(f, LOAD), 0xf4);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		TEST(test_segments_are_placed_and_bss_is_zeroed),
		TEST(test_start_info_tells_map_command_line_and_rsdp),
		TEST(test_initramfs_goes_to_the_top_of_low_ram),
		TEST(test_initramfs_that_would_meet_the_kernel_is_refused),
		TEST(test_kernel_without_pvh_note_is_refused_with_advice),
		TEST(test_malformed_notes_are_refused),
		TEST(test_segments_outside_of_free_ram_are_refused),
		TEST(test_inconsistent_headers_are_refused),
		TEST(test_entry_outside_of_the_kernel_is_refused),
		TEST(test_every_truncation_is_an_error),
		TEST(test_random_damage_is_survived),
		TEST(test_what_is_no_regular_file_is_refused_at_once),
		TEST(test_command_line_of_64_kib_is_too_long),
		TEST(test_cancel_ends_loading),
		TEST(test_32_bit_elf_is_loaded_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
