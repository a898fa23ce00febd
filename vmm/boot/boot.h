/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a kernel (or firmware that is a PVH ELF), its initramfs and its command line into guest
 * memory, with the structures that its boot protocol hands over.
 *
 * An ELF must carry XEN_ELFNOTE_PHYS32_ENTRY and is entered by PVH; a bzImage is entered at its
 * 64-bit entry when it has one, else at the 32-bit one. The memory map is LAYOUT_*. Every byte of
 * the files is untrusted.
 */
#ifndef VMM_BOOT_BOOT_H
#define VMM_BOOT_BOOT_H

#include "base/err.h"
#include "vmm/cpu/boot_entry.h"
#include "vmm/memory/guest_memory.h"

#include <stdatomic.h>

/* BIOS memory types, which PVH shares (ACPI specification, address range types). */
enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

struct e820_entry {
	uint64_t start;
	uint64_t size_bytes;
	enum e820_type type;
};

#define E820_MAX_ENTRIES 128 /* what the zero page holds */

struct e820_map {
	struct e820_entry entries[E820_MAX_ENTRIES];
	size_t num_entries;
};

/* The map of a machine with this memory: RAM but for [LAYOUT_LOW_RAM_END, 1 MiB), and the ECAM
 * window reserved. */
void e820_map_init(struct e820_map *map, const struct guest_memory *memory);

/* Adds an entry. Returns 0, -EINVAL (empty or wraps), -ENOSPC. */
int e820_map_add(struct e820_map *map, uint64_t start, uint64_t size_bytes, enum e820_type type);

struct boot_params {
	const char *kernel;    /* path of a PVH ELF or bzImage */
	const char *initramfs; /* path or NULL */
	const char *cmdline;   /* or NULL */
	const struct e820_map *e820;
	uint64_t rsdp; /* guest-physical address of the ACPI root pointer */
};

/*
 * Loads. `cancel` (may be NULL) is polled at least once a MiB. Worker thread: reads files. The
 * guest does not run. Returns 0 with *ret_entry for cpus_set_boot_state(), or negative errno with
 * err that names the file and what is wrong with it: the errno of open(2) and read(2), -EINVAL
 * (neither a file nor a kernel that we can enter), -ENODATA (cut short), -ENOSPC (does not fit in
 * guest memory), -E2BIG (command line), -ECANCELED. Guest memory then holds parts of it.
 */
int boot_load(const struct boot_params *params, struct guest_memory *memory,
	      const atomic_bool *cancel, struct boot_entry *ret_entry, struct err *err);

#endif
