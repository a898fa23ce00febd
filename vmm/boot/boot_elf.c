/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF images with a PVH entry point (the note XEN_ELFNOTE_PHYS32_ENTRY of Xen's elfnote.h):
 * vmlinux, and firmware. Both ELF classes; the entry is 32-bit code either way.
 */
#include "base/cursor.h"
#include "base/endian.h"
#include "vmm/boot/boot_image.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define XEN_ELFNOTE_PHYS32_ENTRY 18

/* A kernel has a handful; Linux's notes are some hundred bytes. */
#define MAX_PROGRAM_HEADERS 128
#define MAX_NOTES_BYTES	    (64 * KIB)

struct elf_header {
	bool is64;
	uint64_t phoff;
	unsigned phentsize;
	unsigned phnum;
};

struct elf_segment {
	uint32_t type;
	uint64_t offset;
	uint64_t paddr;
	uint64_t filesz;
	uint64_t memsz;
	uint64_t align;
};

struct elf {
	const struct boot_file *file;
	struct elf_header header;
	struct elf_segment segments[MAX_PROGRAM_HEADERS];
};

static int bad(const struct elf *elf, struct err *err, const char *why)
{
	return err_set(err, -EINVAL, "Kernel \"%s\": %s", elf->file->path, why);
}

static uint64_t addr(struct cursor *c, bool is64)
{
	return is64 ? cursor_le64(c) : cursor_le32(c);
}

static int read_header(struct elf *elf, struct err *err)
{
	struct elf_header *h = &elf->header;
	uint8_t raw[sizeof(Elf64_Ehdr)] = {0};
	struct cursor c = cursor_init(raw, sizeof(raw));
	uint16_t machine;
	int rc;

	/* The shorter header first: it tells the class. */
	rc = boot_file_read(elf->file, 0, raw, sizeof(Elf32_Ehdr), err);
	if (rc < 0)
		return rc;
	h->is64 = raw[EI_CLASS] == ELFCLASS64;
	if (!h->is64 && raw[EI_CLASS] != ELFCLASS32)
		return bad(elf, err, "ELF of unknown class");
	if (h->is64) {
		rc = boot_file_read(elf->file, 0, raw, sizeof(raw), err);
		if (rc < 0)
			return rc;
	}
	if (raw[EI_DATA] != ELFDATA2LSB)
		return bad(elf, err, "ELF is not little-endian");
	cursor_skip(&c, EI_NIDENT);
	cursor_le16(&c); /* e_type: vmlinux is ET_EXEC, firmware may be ET_DYN */
	machine = cursor_le16(&c);
	if (machine != EM_X86_64 && machine != EM_386)
		return bad(elf, err, "ELF is not for x86");
	cursor_le32(&c);   /* e_version */
	addr(&c, h->is64); /* e_entry: the native one, not PVH's */
	h->phoff = addr(&c, h->is64);
	addr(&c, h->is64); /* e_shoff */
	cursor_le32(&c);   /* e_flags */
	cursor_le16(&c);   /* e_ehsize */
	h->phentsize = cursor_le16(&c);
	h->phnum = cursor_le16(&c);
	if (h->phentsize != (h->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
		return bad(elf, err, "ELF program headers are of an unknown size");
	if (!h->phnum)
		return bad(elf, err, "ELF has no program headers");
	if (h->phnum > MAX_PROGRAM_HEADERS)
		return bad(elf, err, "ELF has too many program headers");
	return 0;
}

static struct elf_segment parse_segment(const void *raw, bool is64)
{
	struct cursor c = cursor_init(raw, is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr));
	struct elf_segment s = {.type = cursor_le32(&c)};

	if (is64)
		cursor_le32(&c); /* p_flags */
	s.offset = addr(&c, is64);
	addr(&c, is64); /* p_vaddr */
	s.paddr = addr(&c, is64);
	s.filesz = addr(&c, is64);
	s.memsz = addr(&c, is64);
	if (!is64)
		cursor_le32(&c); /* p_flags */
	s.align = addr(&c, is64);
	return s;
}

static int read_segments(struct elf *elf, struct err *err)
{
	uint8_t raw[MAX_PROGRAM_HEADERS * sizeof(Elf64_Phdr)];
	unsigned size = elf->header.phentsize;
	int rc;

	rc = boot_file_read(elf->file, elf->header.phoff, raw, (size_t)size * elf->header.phnum,
			    err);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < elf->header.phnum; i++)
		elf->segments[i] = parse_segment(raw + (size_t)i * size, elf->header.is64);
	return 0;
}

/* Notes: name size, descriptor size, type, name, descriptor; the latter two padded (System V ABI,
 * "Note Section"). Returns 1 when the entry is there, 0 when it is not, negative errno. */
static int scan_notes(struct cursor c, uint64_t align, uint64_t *ret_entry)
{
	while (cursor_left(&c) >= 12) {
		uint32_t name_len = cursor_le32(&c);
		uint32_t desc_len = cursor_le32(&c);
		uint32_t type = cursor_le32(&c);
		const char *name = cursor_slice(&c, name_len);
		const uint8_t *desc;

		cursor_skip(&c, MIN(align_up(c.pos, align) - c.pos, cursor_left(&c)));
		desc = cursor_slice(&c, desc_len);
		if (!cursor_ok(&c))
			return -EINVAL;
		cursor_skip(&c, MIN(align_up(c.pos, align) - c.pos, cursor_left(&c)));
		if (type != XEN_ELFNOTE_PHYS32_ENTRY || name_len != 4 || memcmp(name, "Xen", 4))
			continue;
		if (desc_len != 4 && desc_len != 8)
			return -EINVAL;
		*ret_entry = le_load(desc, desc_len);
		return 1;
	}
	return 0;
}

static int find_entry(struct elf *elf, uint64_t *ret_entry, struct err *err)
{
	AUTO_FREE uint8_t *notes = NULL;

	for (unsigned i = 0; i < elf->header.phnum; i++) {
		const struct elf_segment *s = &elf->segments[i];
		int rc;

		if (s->type != PT_NOTE)
			continue;
		if (s->filesz > MAX_NOTES_BYTES)
			return bad(elf, err, "ELF notes are too large");
		free(notes);
		notes = malloc(s->filesz + 1);
		if (!notes)
			return err_set(err, -ENOMEM, "Out of memory");
		rc = boot_file_read(elf->file, s->offset, notes, s->filesz, err);
		if (rc < 0)
			return rc;
		rc = scan_notes(cursor_init(notes, s->filesz), s->align == 8 ? 8 : 4, ret_entry);
		if (rc < 0)
			return bad(elf, err, "ELF notes are malformed");
		if (rc > 0)
			return 0;
	}
	return bad(elf, err,
		   "ELF has no PVH entry point (XEN_ELFNOTE_PHYS32_ENTRY): a Linux kernel needs "
		   "CONFIG_PVH=y, or give its bzImage");
}

static int check_segment(const struct elf *elf, const struct elf_segment *s,
			 const struct guest_memory *memory, struct err *err)
{
	const char *path = elf->file->path;

	if (s->filesz > s->memsz)
		return bad(elf, err, "ELF segment holds more than it occupies");
	if (!range_within(s->offset, s->filesz, 0, elf->file->size_bytes))
		return err_set(err, -ENODATA, "Kernel \"%s\" is cut short: a segment ends past it",
			       path);
	if (!boot_range_is_free(memory, s->paddr, s->memsz))
		return err_set(err, -ENOSPC,
			       "Kernel \"%s\": segment of %" PRIu64 " bytes at 0x%" PRIx64
			       " does not lie in free guest RAM",
			       path, s->memsz, s->paddr);
	return 0;
}

static int load_segments(const struct elf *elf, const struct boot_target *target,
			 struct boot_image *image, struct err *err)
{
	bool entry_loaded = false;
	int rc;

	/* All checks before the first byte is read: a large bad file fails at once. */
	for (unsigned i = 0; i < elf->header.phnum; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type != PT_LOAD || !s->memsz)
			continue;
		rc = check_segment(elf, s, target->memory, err);
		if (rc < 0)
			return rc;
		if (range_within(image->entry, 1, s->paddr, s->memsz))
			entry_loaded = true;
		if (s->paddr < LAYOUT_MMIO32_START)
			image->end = MAX(image->end, s->paddr + s->memsz);
	}
	if (!entry_loaded || image->entry > UINT32_MAX)
		return bad(elf, err, "ELF's PVH entry point lies outside what is loaded");
	for (unsigned i = 0; i < elf->header.phnum; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type != PT_LOAD || !s->memsz)
			continue;
		rc = boot_file_load(elf->file, s->offset, s->filesz, target, gpa(s->paddr), err);
		if (rc == 0)
			rc = boot_zero(target, gpa(s->paddr + s->filesz), s->memsz - s->filesz,
				       err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int boot_elf_load(const struct boot_file *file, const struct boot_target *target,
		  struct boot_image *ret_image, struct err *err)
{
	struct boot_image image = {
		.protocol = BOOT_PVH,
		.initramfs_limit = LAYOUT_MMIO32_START,
		.cmdline_max = LAYOUT_CMDLINE_MAX - 1,
	};
	struct elf *elf AUTO_FREE = calloc(1, sizeof(*elf));
	int rc;

	if (!elf)
		return err_set(err, -ENOMEM, "Out of memory");
	elf->file = file;
	rc = read_header(elf, err);
	if (rc == 0)
		rc = read_segments(elf, err);
	if (rc == 0)
		rc = find_entry(elf, &image.entry, err);
	if (rc == 0)
		rc = load_segments(elf, target, &image, err);
	if (rc < 0)
		return rc;
	*ret_image = image;
	return 0;
}
