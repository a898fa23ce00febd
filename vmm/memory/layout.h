/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical map of an x86_64 machine. It is part of the guest ABI: kernels find most of it
 * through ACPI, firmware assumes some of it. All values are bytes.
 */
#ifndef VMM_MEMORY_LAYOUT_H
#define VMM_MEMORY_LAYOUT_H

#include "base/util.h"

#define LAYOUT_PAGE_SIZE 0x1000ULL

/* Below 1 MiB: boot structures. [0, 0xA0000) is declared RAM; the rest up to 1 MiB is backed but
 * not declared. */
#define LAYOUT_GDT	      0x500ULL
#define LAYOUT_IDT	      0x520ULL
#define LAYOUT_PVH_START_INFO 0x6000ULL
#define LAYOUT_PVH_MODLIST    0x6040ULL
#define LAYOUT_PVH_MEMMAP     0x7000ULL
#define LAYOUT_ZERO_PAGE      0x7000ULL /* Linux boot_params, when entered as bzImage */
#define LAYOUT_BOOT_STACK     0x8ff0ULL
#define LAYOUT_PAGE_TABLES    0xa000ULL /* PML4, then PDPT, then page directories, up to 0x20000 */
#define LAYOUT_CMDLINE	      0x20000ULL
#define LAYOUT_CMDLINE_MAX    0x10000ULL /* terminator included */
#define LAYOUT_LOW_RAM_END    0xA0000ULL
#define LAYOUT_RSDP	      0xA0000ULL
#define LAYOUT_ACPI_END	      0xF0000ULL
#define LAYOUT_SMBIOS	      0xF0000ULL
#define LAYOUT_HIGH_RAM_START 0x100000ULL

/* The hole below 4 GiB. */
#define LAYOUT_MMIO32_START	0xC0000000ULL /* end of low RAM; 32-bit PCI window */
#define LAYOUT_MMIO32_SIZE	(640 * MIB)
#define LAYOUT_ECAM_START	0xE8000000ULL /* segment n at + n MiB, one bus each */
#define LAYOUT_ECAM_SIZE	(256 * MIB)
#define LAYOUT_ECAM_SEGMENT	MIB
#define LAYOUT_KVM_TSS		0xF8000000ULL
#define LAYOUT_KVM_IDENTITY_MAP 0xF8003000ULL
#define LAYOUT_IOAPIC		0xFEC00000ULL
#define LAYOUT_IOAPIC_SIZE	0x20ULL
#define LAYOUT_LAPIC		0xFEE00000ULL
#define LAYOUT_RAM64_START	0x100000000ULL

/* The 64-bit PCI window begins above RAM (and the hot-plug area), aligned to this. */
#define LAYOUT_MMIO64_ALIGN (4 * GIB)

/* At the top of the guest's physical space: registers of the platform's own devices. */
#define LAYOUT_PLATFORM_SIZE MIB

/* Interrupt lines (GSIs). */
#define LAYOUT_IRQ_SERIAL     4
#define LAYOUT_IRQ_FIRST_FREE 5
#define LAYOUT_IOAPIC_PINS    24

/* I/O ports. */
#define LAYOUT_PORT_COM1       0x3f8
#define LAYOUT_PORT_I8042      0x61 /* 0x61 and 0x64 */
#define LAYOUT_PORT_CMOS       0x70
#define LAYOUT_PORT_DEBUG      0x80
#define LAYOUT_PORT_DEBUGCON   0xe9
#define LAYOUT_PORT_ACPI_RESET 0x600 /* also the sleep control/status register */
#define LAYOUT_PORT_PM_TIMER   0x608
#define LAYOUT_PORT_PCI_CONFIG 0xcf8

#define LAYOUT_ACPI_RESET_VALUE 0x01 /* written to LAYOUT_PORT_ACPI_RESET */
#define LAYOUT_ACPI_S5_VALUE	0x34 /* sleep type 5, sleep enable */

#endif
