/* SPDX-License-Identifier: Apache-2.0 */
/* What Linux is handed by its own boot protocol: the zero page (struct boot_params of the kernel's
 * uapi asm/bootparam.h), and for the 64-bit entry an identity map. */
#include "base/endian.h"
#include "vmm/boot/boot_image.h"

#include <errno.h>
#include <string.h>

/* Offsets in the zero page. */
#define ACPI_RSDP_ADDR	  0x070
#define EXT_RAMDISK_IMAGE 0x0c0
#define EXT_RAMDISK_SIZE  0x0c4
#define EXT_CMD_LINE_PTR  0x0c8
#define E820_ENTRIES	  0x1e8
#define TYPE_OF_LOADER	  0x210
#define CODE32_START	  0x214
#define RAMDISK_IMAGE	  0x218
#define RAMDISK_SIZE	  0x21c
#define CMD_LINE_PTR	  0x228
#define SETUP_DATA	  0x250
#define E820_TABLE	  0x2d0
#define E820_ENTRY_SIZE	  20
#define LOADER_UNDEFINED  0xff
#define ZERO_PAGE_SIZE	  4096

static_assert(E820_TABLE + E820_MAX_ENTRIES * E820_ENTRY_SIZE <= ZERO_PAGE_SIZE,
	      "the zero page holds the whole table");

static void put_e820(uint8_t *page, const struct e820_map *map)
{
	uint8_t *p = page + E820_TABLE;

	page[E820_ENTRIES] = (uint8_t)map->num_entries;
	for (size_t i = 0; i < map->num_entries; i++, p += E820_ENTRY_SIZE) {
		le_store(p, map->entries[i].start, 8);
		le_store(p + 8, map->entries[i].size_bytes, 8);
		le_store(p + 16, map->entries[i].type, 4);
	}
}

int boot_zero_page_write(const struct boot_params *params, const struct boot_image *image,
			 const struct boot_extras *extras, struct guest_memory *memory,
			 struct err *err)
{
	uint8_t page[ZERO_PAGE_SIZE] = {0};
	int rc;

	memcpy(page + BOOT_SETUP_HEADER, image->setup_header, image->setup_header_len);
	page[TYPE_OF_LOADER] = LOADER_UNDEFINED;
	le_store(page + CODE32_START, image->load_address, 4);
	le_store(page + SETUP_DATA, 0, 8);
	le_store(page + RAMDISK_IMAGE, extras->initramfs, 4);
	le_store(page + RAMDISK_SIZE, extras->initramfs_bytes, 4);
	le_store(page + EXT_RAMDISK_IMAGE, extras->initramfs >> 32, 4);
	le_store(page + EXT_RAMDISK_SIZE, extras->initramfs_bytes >> 32, 4);
	le_store(page + CMD_LINE_PTR, extras->cmdline, 4);
	le_store(page + EXT_CMD_LINE_PTR, extras->cmdline >> 32, 4);
	le_store(page + ACPI_RSDP_ADDR, params->rsdp, 8);
	put_e820(page, params->e820);
	rc = guest_memory_write(memory, gpa(LAYOUT_ZERO_PAGE), page, sizeof(page));
	if (rc < 0)
		return err_set(err, rc, "Guest RAM is too small for the zero page");
	return 0;
}

/* --- descriptor and page tables: Intel SDM volume 3, 3.4.5 and 4.5 ---------------------------- */

#define PAGE_PRESENT  0x01ULL
#define PAGE_WRITABLE 0x02ULL
#define PAGE_LARGE    0x80ULL
#define TABLE_ENTRIES 512
#define IDENTITY_GIB  4

/* Flat segments: base 0, limit 4 GiB, marked accessed. cpus_set_boot_state() loads the same values,
 * so a kernel that reloads a segment register finds what it had. */
#define GDT_CODE_32 0x00cf9b000000ffffULL
#define GDT_CODE_64 0x00af9b000000ffffULL
#define GDT_DATA    0x00cf93000000ffffULL

#define PML4 LAYOUT_PAGE_TABLES
#define PDPT (PML4 + LAYOUT_PAGE_SIZE)
#define PD   (PDPT + LAYOUT_PAGE_SIZE)

static_assert(PD + IDENTITY_GIB * LAYOUT_PAGE_SIZE <= LAYOUT_CMDLINE,
	      "the page tables must not reach the command line");

static int put64(struct guest_memory *memory, uint64_t at, uint64_t value)
{
	le64_t v = le64(value);

	return guest_memory_write(memory, gpa(at), &v, sizeof(v));
}

static int write_page_tables(struct guest_memory *memory)
{
	le64_t table[TABLE_ENTRIES] = {0};
	int rc;

	table[0] = le64(PDPT | PAGE_PRESENT | PAGE_WRITABLE);
	rc = guest_memory_write(memory, gpa(PML4), table, sizeof(table));
	for (size_t i = 0; i < IDENTITY_GIB; i++)
		table[i] = le64((PD + i * LAYOUT_PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITABLE);
	if (rc == 0)
		rc = guest_memory_write(memory, gpa(PDPT), table, sizeof(table));
	for (uint64_t g = 0; rc == 0 && g < IDENTITY_GIB; g++) {
		for (size_t i = 0; i < TABLE_ENTRIES; i++)
			table[i] = le64((g * GIB + i * 2 * MIB) | PAGE_PRESENT | PAGE_WRITABLE |
					PAGE_LARGE);
		rc = guest_memory_write(memory, gpa(PD + g * LAYOUT_PAGE_SIZE), table,
					sizeof(table));
	}
	return rc;
}

int boot_tables_write(struct guest_memory *memory, bool long_mode, struct err *err)
{
	int rc;

	rc = put64(memory, LAYOUT_GDT, 0);
	if (rc == 0)
		rc = put64(memory, LAYOUT_GDT + 8, 0);
	if (rc == 0)
		rc = put64(memory, LAYOUT_GDT + BOOT_SELECTOR_CODE,
			   long_mode ? GDT_CODE_64 : GDT_CODE_32);
	if (rc == 0)
		rc = put64(memory, LAYOUT_GDT + BOOT_SELECTOR_DATA, GDT_DATA);
	if (rc == 0 && long_mode)
		rc = write_page_tables(memory);
	if (rc < 0)
		return err_set(err, rc, "Guest RAM is too small for the boot tables");
	return 0;
}
