/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables: topology in, bytes out. A hardware-reduced platform (ACPI 6.4): RSDP, XSDT, FADT,
 * DSDT, MADT, MCFG; the power button through a Generic Event Device.
 */
#ifndef VMM_ACPI_ACPI_H
#define VMM_ACPI_ACPI_H

#include "base/cursor.h"
#include "base/err.h"
#include "vmm/memory/guest_memory.h"

struct acpi_params {
	unsigned boot_vcpus; /* enabled from the start */
	unsigned max_vcpus;
	uint32_t (*apic_id)(const void *arg, unsigned vcpu); /* vcpu < max_vcpus */
	const void *arg;
	bool serial;	      /* COM1 exists */
	uint64_t ged_address; /* the event controller's register, one byte */
	unsigned ged_irq;
	uint64_t platform_base; /* registers of the platform's own devices */
	uint64_t platform_size_bytes;
	uint64_t mmio32_base, mmio32_size_bytes; /* windows of PCI segment 0 */
	uint64_t mmio64_base, mmio64_size_bytes;
};

/*
 * Writes the tables at LAYOUT_RSDP and up; *ret_rsdp is the root pointer's address. Any thread
 * while the guest does not run. Returns 0, -ENOMEM, or -E2BIG when they do not fit below
 * LAYOUT_ACPI_END (too many vCPUs).
 */
int acpi_build(const struct acpi_params *params, struct guest_memory *memory, uint64_t *ret_rsdp,
	       struct err *err);

/* The DSDT's definition block, without its header. For acpi_build() and tests. buf_ok() tells
 * whether it worked. */
void acpi_build_dsdt(const struct acpi_params *params, struct buf *out);

#endif
