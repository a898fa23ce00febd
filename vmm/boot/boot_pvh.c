/* SPDX-License-Identifier: Apache-2.0 */
/* What a PVH kernel is handed: hvm_start_info version 1 (Xen's public interface,
 * arch-x86/hvm/start_info.h). */
#include "base/endian.h"
#include "vmm/boot/boot_image.h"

#include <errno.h>

#define START_MAGIC 0x336ec578

struct hvm_start_info {
	le32_t magic;
	le32_t version;
	le32_t flags;
	le32_t nr_modules;
	le64_t modlist_paddr;
	le64_t cmdline_paddr;
	le64_t rsdp_paddr;
	le64_t memmap_paddr;
	le32_t memmap_entries;
	le32_t reserved;
};
static_assert(sizeof(struct hvm_start_info) == 56, "layout is Xen's");
static_assert(LAYOUT_PVH_START_INFO + sizeof(struct hvm_start_info) <= LAYOUT_PVH_MODLIST,
	      "start_info and module list must not meet");

struct hvm_modlist_entry {
	le64_t paddr;
	le64_t size;
	le64_t cmdline_paddr;
	le64_t reserved;
};
static_assert(sizeof(struct hvm_modlist_entry) == 32, "layout is Xen's");

struct hvm_memmap_entry {
	le64_t addr;
	le64_t size;
	le32_t type;
	le32_t reserved;
};
static_assert(sizeof(struct hvm_memmap_entry) == 24, "layout is Xen's");
static_assert(LAYOUT_PVH_MEMMAP + E820_MAX_ENTRIES * sizeof(struct hvm_memmap_entry) <=
		      LAYOUT_PAGE_TABLES,
	      "the memory map must not reach the page tables");

int boot_pvh_write(const struct boot_params *params, const struct boot_extras *extras,
		   struct guest_memory *memory, struct err *err)
{
	const struct e820_map *map = params->e820;
	struct hvm_modlist_entry module = {
		.paddr = le64(extras->initramfs),
		.size = le64(extras->initramfs_bytes),
	};
	struct hvm_start_info info = {
		.magic = le32(START_MAGIC),
		.version = le32(1),
		.nr_modules = le32(extras->initramfs_bytes ? 1 : 0),
		.modlist_paddr = le64(extras->initramfs_bytes ? LAYOUT_PVH_MODLIST : 0),
		.cmdline_paddr = le64(extras->cmdline),
		.rsdp_paddr = le64(params->rsdp),
		.memmap_paddr = le64(LAYOUT_PVH_MEMMAP),
		.memmap_entries = le32((uint32_t)map->num_entries),
	};
	int rc;

	rc = guest_memory_write(memory, gpa(LAYOUT_PVH_START_INFO), &info, sizeof(info));
	if (rc == 0)
		rc = guest_memory_write(memory, gpa(LAYOUT_PVH_MODLIST), &module, sizeof(module));
	for (size_t i = 0; rc == 0 && i < map->num_entries; i++) {
		struct hvm_memmap_entry entry = {
			.addr = le64(map->entries[i].start),
			.size = le64(map->entries[i].size_bytes),
			.type = le32(map->entries[i].type),
		};

		rc = guest_memory_write(memory, gpa(LAYOUT_PVH_MEMMAP + i * sizeof(entry)), &entry,
					sizeof(entry));
	}
	if (rc < 0)
		return err_set(err, rc, "Guest RAM is too small for the boot structures");
	return 0;
}
