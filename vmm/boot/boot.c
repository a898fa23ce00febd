/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The kernel's format is told by its first bytes. The format's loader checks everything that it
 * will need, then puts the kernel in place and reports what it has taken and where the initramfs
 * may go. The initramfs lies at the top of low RAM, as far from the kernel as possible; the command
 * line and what the protocol hands over lie below 1 MiB (LAYOUT_*), where no kernel may be loaded.
 */
#include "vmm/boot/boot.h"

#include "base/endian.h"
#include "vmm/boot/boot_image.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BIOS_EBDA_SEGMENT 0x40e /* where old kernels begin to look for the RSDP */

int e820_map_add(struct e820_map *map, uint64_t start, uint64_t size_bytes, enum e820_type type)
{
	if (!size_bytes || start > UINT64_MAX - size_bytes)
		return -EINVAL;
	if (map->num_entries == E820_MAX_ENTRIES)
		return -ENOSPC;
	map->entries[map->num_entries++] = (struct e820_entry){
		.start = start,
		.size_bytes = size_bytes,
		.type = type,
	};
	return 0;
}

void e820_map_init(struct e820_map *map, const struct guest_memory *memory)
{
	map->num_entries = 0;
	for (size_t i = 0; i < memory->num_regions; i++) {
		uint64_t start = memory->regions[i].start.v;
		uint64_t end = start + memory->regions[i].size_bytes;

		if (start < LAYOUT_LOW_RAM_END) {
			e820_map_add(map, start, LAYOUT_LOW_RAM_END - start, E820_RAM);
			start = LAYOUT_HIGH_RAM_START;
		}
		if (start < end)
			e820_map_add(map, start, end - start, E820_RAM);
	}
	e820_map_add(map, LAYOUT_ECAM_START, LAYOUT_ECAM_SIZE, E820_RESERVED);
}

bool boot_range_is_free(const struct guest_memory *memory, uint64_t start, uint64_t len)
{
	return guest_memory_contains(memory, gpa(start), len) &&
	       !ranges_overlap(start, len, 0, LAYOUT_CMDLINE + LAYOUT_CMDLINE_MAX) &&
	       !ranges_overlap(start, len, LAYOUT_LOW_RAM_END,
			       LAYOUT_HIGH_RAM_START - LAYOUT_LOW_RAM_END);
}

static int load_kernel(const char *path, const struct boot_target *target,
		       struct boot_image *ret_image, struct err *err)
{
	AUTO_BOOT_FILE struct boot_file file = {.fd = -1};
	uint8_t head[0x206] = {0};
	int rc;

	rc = boot_file_open("Kernel", path, &file, err);
	if (rc == 0)
		rc = boot_file_read(&file, 0, head, MIN(sizeof(head), (size_t)file.size_bytes),
				    err);
	if (rc < 0)
		return rc;
	if (memcmp(head, ELFMAG, SELFMAG) == 0)
		return boot_elf_load(&file, target, ret_image, err);
	if (memcmp(head + 0x202, "HdrS", 4) == 0)
		return boot_bzimage_load(&file, target, ret_image, err);
	return err_set(err, -EINVAL, "Kernel \"%s\" is neither an ELF image nor a bzImage", path);
}

static int load_initramfs(const char *path, const struct boot_target *target,
			  const struct boot_image *image, struct boot_extras *extras,
			  struct err *err)
{
	AUTO_BOOT_FILE struct boot_file file = {.fd = -1};
	uint64_t bottom = MAX(image->end, (uint64_t)LAYOUT_HIGH_RAM_START);
	uint64_t top = MIN(target->memory->regions[0].size_bytes, image->initramfs_limit);
	int rc;

	rc = boot_file_open("Initramfs", path, &file, err);
	if (rc < 0)
		return rc;
	if (top < bottom || file.size_bytes > top - bottom ||
	    align_down(top - file.size_bytes, LAYOUT_PAGE_SIZE) < bottom)
		return err_set(
			err, -ENOSPC,
			"Initramfs \"%s\" of %" PRIu64 " KiB does not fit in guest RAM: %" PRIu64
			" KiB are left above the kernel",
			path, file.size_bytes / KIB, top < bottom ? 0 : (top - bottom) / KIB);
	extras->initramfs = align_down(top - file.size_bytes, LAYOUT_PAGE_SIZE);
	extras->initramfs_bytes = file.size_bytes;
	return boot_file_load(&file, 0, file.size_bytes, target, gpa(extras->initramfs), err);
}

static int write_cmdline(const char *cmdline, struct guest_memory *memory,
			 const struct boot_image *image, struct boot_extras *extras,
			 struct err *err)
{
	size_t len = strlen(cmdline);

	if (len > image->cmdline_max)
		return err_set(err, -E2BIG,
			       "Command line of %zu bytes is too long: the kernel takes %" PRIu64,
			       len, image->cmdline_max);
	if (guest_memory_write(memory, gpa(LAYOUT_CMDLINE), cmdline, len + 1) < 0)
		return err_set(err, -EFAULT, "Guest RAM is too small for the command line");
	extras->cmdline = LAYOUT_CMDLINE;
	return 0;
}

static int write_ebda_pointer(uint64_t rsdp, struct guest_memory *memory, struct err *err)
{
	le16_t segment = le16(rsdp < LAYOUT_HIGH_RAM_START ? (uint16_t)(rsdp >> 4) : 0);

	if (guest_memory_write(memory, gpa(BIOS_EBDA_SEGMENT), &segment, sizeof(segment)) < 0)
		return err_set(err, -EFAULT, "Guest RAM is too small for the boot structures");
	return 0;
}

static int hand_over(const struct boot_params *params, const struct boot_image *image,
		     const struct boot_extras *extras, struct guest_memory *memory,
		     struct boot_entry *ret_entry, struct err *err)
{
	static const char *const names[] = {
		[BOOT_PVH] = "PVH",
		[BOOT_LINUX_32] = "bzImage, 32-bit entry",
		[BOOT_LINUX_64] = "bzImage, 64-bit entry",
	};
	bool pvh = image->protocol == BOOT_PVH;
	int rc;

	rc = write_ebda_pointer(params->rsdp, memory, err);
	if (rc == 0)
		rc = boot_tables_write(memory, image->protocol == BOOT_LINUX_64, err);
	if (rc == 0)
		rc = pvh ? boot_pvh_write(params, extras, memory, err)
			 : boot_zero_page_write(params, image, extras, memory, err);
	if (rc < 0)
		return rc;
	*ret_entry = (struct boot_entry){
		.protocol = image->protocol,
		.ip = image->entry,
		.arg = pvh ? LAYOUT_PVH_START_INFO : LAYOUT_ZERO_PAGE,
	};
	snprintf(ret_entry->name, sizeof(ret_entry->name), "%s", names[image->protocol]);
	return 0;
}

int boot_load(const struct boot_params *params, struct guest_memory *memory,
	      const atomic_bool *cancel, struct boot_entry *ret_entry, struct err *err)
{
	struct boot_target target = {.memory = memory, .cancel = cancel};
	struct boot_extras extras = {0};
	struct boot_image image = {0};
	int rc;

	rc = load_kernel(params->kernel, &target, &image, err);
	if (rc == 0)
		rc = write_cmdline(params->cmdline ? params->cmdline : "", memory, &image, &extras,
				   err);
	if (rc == 0 && params->initramfs)
		rc = load_initramfs(params->initramfs, &target, &image, &extras, err);
	if (rc == 0)
		rc = hand_over(params, &image, &extras, memory, ret_entry, err);
	return rc;
}
