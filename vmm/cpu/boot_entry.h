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
	uint64_t ip;	    /* guest-physical address of the first instruction */
	uint64_t arg;	    /* guest-physical address of start_info or zero page */
	uint16_t gdt_limit; /* size - 1 of the descriptor table at LAYOUT_GDT */
	char name[32];	    /* for logs: "PVH", "bzImage, 64-bit entry" */
};

/* Selectors in the table that vmm/boot writes at LAYOUT_GDT (Linux boot protocol: __BOOT_CS is
 * 0x10, __BOOT_DS 0x18). */
#define BOOT_SELECTOR_CODE 0x10
#define BOOT_SELECTOR_DATA 0x18
#define BOOT_SELECTOR_TSS  0x20

#endif
