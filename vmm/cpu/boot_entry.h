/* SPDX-License-Identifier: Apache-2.0 */
/* Where and how the first vCPU enters a loaded kernel: made by vmm/boot, turned into registers by
 * vmm/cpu. */
#ifndef VMM_CPU_BOOT_ENTRY_H
#define VMM_CPU_BOOT_ENTRY_H

#include "base/util.h"

enum boot_protocol {
	BOOT_PVH,      /* 32-bit protected mode, no paging, EBX = hvm_start_info */
	BOOT_LINUX_32, /* 32-bit protected mode, no paging, ESI = zero page */
	BOOT_LINUX_64, /* long mode on the identity map at LAYOUT_PAGE_TABLES, RSI = zero page */
};

struct boot_entry {
	enum boot_protocol protocol;
	uint64_t ip;   /* guest-physical address of the first instruction */
	uint64_t arg;  /* guest-physical address of start_info or zero page */
	char name[32]; /* for logs: "PVH", "bzImage, 64-bit entry" */
};

/* The table that vmm/boot writes at LAYOUT_GDT. Linux's boot protocol fixes the selectors
 * (__BOOT_CS and __BOOT_DS). */
#define BOOT_SELECTOR_CODE 0x10
#define BOOT_SELECTOR_DATA 0x18
#define BOOT_GDT_ENTRIES   4

#endif
