/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage: Linux's boot protocol 2.12 and later (the kernel's Documentation/arch/x86/boot.rst,
 * whose names and offsets are used here). The real-mode part is not run: its setup header is copied
 * to the zero page and the protected-mode part is entered directly.
 */
#include "base/endian.h"
#include "vmm/boot/boot_image.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SECTOR 512

/* Offsets in the image's first sectors. */
#define SETUP_SECTS	   0x1f1
#define SYSSIZE		   0x1f4
#define BOOT_FLAG	   0x1fe
#define JUMP_LENGTH	   0x201
#define HEADER_MAGIC	   0x202
#define VERSION		   0x206
#define LOADFLAGS	   0x211
#define INITRD_ADDR_MAX	   0x22c
#define KERNEL_ALIGNMENT   0x230
#define RELOCATABLE_KERNEL 0x234
#define XLOADFLAGS	   0x236
#define CMDLINE_SIZE	   0x238
#define PREF_ADDRESS	   0x258
#define INIT_SIZE	   0x260
#define HEADER_END	   0x264 /* what protocol 2.12 reaches to */

#define LOADED_HIGH   0x01
#define XLF_KERNEL_64 0x01
#define ENTRY_64      0x200 /* from the load address */

/* Of the decompressor's page tables and more; what the kernel asks for is 2 MiB. */
#define MAX_ALIGNMENT GIB

static uint64_t field(const uint8_t *head, size_t offset, size_t len)
{
	return le_load(head + offset, len);
}

static int bad(const struct boot_file *file, struct err *err, const char *why)
{
	return err_set(err, -EINVAL, "Kernel \"%s\": %s", file->path, why);
}

static int check_header(const struct boot_file *file, const uint8_t *head, struct err *err)
{
	unsigned version = (unsigned)field(head, VERSION, 2);

	if (field(head, BOOT_FLAG, 2) != 0xaa55)
		return bad(file, err, "bzImage without boot flag");
	if (version < 0x020c)
		return err_set(err, -EINVAL,
			       "Kernel \"%s\": bzImage speaks boot protocol %u.%02u; 2.12 is the "
			       "oldest that can be entered",
			       file->path, version >> 8, version & 0xff);
	if (!(field(head, LOADFLAGS, 1) & LOADED_HIGH))
		return bad(file, err, "zImage (loaded low) is not supported, only bzImage");
	if (HEADER_MAGIC + field(head, JUMP_LENGTH, 1) < HEADER_END)
		return bad(file, err, "bzImage's setup header is too short");
	return 0;
}

static void keep_header(const uint8_t *head, struct boot_image *image)
{
	size_t end = HEADER_MAGIC + (size_t)field(head, JUMP_LENGTH, 1);

	image->setup_header_len = MIN(end - BOOT_SETUP_HEADER, (size_t)BOOT_SETUP_HEADER_MAX);
	memcpy(image->setup_header, head + BOOT_SETUP_HEADER, image->setup_header_len);
}

/* Where the protected-mode part goes, `span` being all that it needs until it has its own idea of
 * memory. */
static int choose_address(const struct boot_file *file, const uint8_t *head,
			  const struct guest_memory *memory, uint64_t span, uint64_t *ret_address,
			  struct err *err)
{
	uint64_t preferred = field(head, PREF_ADDRESS, 8);
	uint64_t align = field(head, KERNEL_ALIGNMENT, 4);
	uint64_t lowest;

	if (span <= LAYOUT_MMIO32_START && preferred >= LAYOUT_HIGH_RAM_START &&
	    preferred < LAYOUT_MMIO32_START && boot_range_is_free(memory, preferred, span)) {
		*ret_address = preferred;
		return 0;
	}
	if (field(head, RELOCATABLE_KERNEL, 1)) {
		if (!is_power_of_two(align) || align > MAX_ALIGNMENT)
			return bad(file, err, "bzImage asks for an impossible alignment");
		lowest = align_up(LAYOUT_HIGH_RAM_START, align);
		if (span <= LAYOUT_MMIO32_START && boot_range_is_free(memory, lowest, span)) {
			*ret_address = lowest;
			return 0;
		}
	}
	return err_set(err, -ENOSPC,
		       "Kernel \"%s\" does not fit in guest RAM: it needs %" PRIu64
		       " KiB at 0x%" PRIx64,
		       file->path, span / KIB, preferred);
}

int boot_bzimage_load(const struct boot_file *file, const struct boot_target *target,
		      struct boot_image *ret_image, struct err *err)
{
	uint8_t head[BOOT_SETUP_HEADER + BOOT_SETUP_HEADER_MAX] = {0};
	struct boot_image image = {0};
	uint64_t start, len, span;
	int rc;

	rc = boot_file_read(file, 0, head, sizeof(head), err);
	if (rc == 0)
		rc = check_header(file, head, err);
	if (rc < 0)
		return rc;
	/* 0 means 4, for the sake of very old kernels. The boot sector comes on top. */
	start = (field(head, SETUP_SECTS, 1) ? field(head, SETUP_SECTS, 1) : 4) + 1;
	start *= SECTOR;
	/* Behind it a signature may follow: the header, not the file's end, says where it ends. */
	len = field(head, SYSSIZE, 4) * 16;
	if (!range_within(start, len, 0, file->size_bytes))
		return err_set(err, -ENODATA,
			       "Kernel \"%s\" is cut short: %" PRIu64 " of %" PRIu64
			       " bytes are there",
			       file->path, file->size_bytes, start + len);
	if (len <= ENTRY_64)
		return bad(file, err, "bzImage without a kernel in it");
	span = MAX(len, field(head, INIT_SIZE, 4));
	rc = choose_address(file, head, target->memory, span, &image.load_address, err);
	if (rc == 0)
		rc = boot_file_load(file, start, len, target, gpa(image.load_address), err);
	if (rc < 0)
		return rc;
	keep_header(head, &image);
	image.protocol = field(head, XLOADFLAGS, 2) & XLF_KERNEL_64 ? BOOT_LINUX_64 : BOOT_LINUX_32;
	image.entry = image.load_address + (image.protocol == BOOT_LINUX_64 ? ENTRY_64 : 0);
	image.end = image.load_address + span;
	image.initramfs_limit = field(head, INITRD_ADDR_MAX, 4) + 1;
	image.cmdline_max = MIN(field(head, CMDLINE_SIZE, 4), LAYOUT_CMDLINE_MAX - 1);
	*ret_image = image;
	return 0;
}
