/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/acpi.h"
#include "vmm/acpi/aml.h"

#include <stdio.h>

/* Bits of the event controller's register, as the GED device sets them. */
#define GEC_POWER_BUTTON 0x08

#define NOTIFY_BUTTON_PRESSED 0x80

static void ids(struct buf *b, const char *hid, uint64_t uid)
{
	aml_name(b, "_HID");
	aml_eisa_id(b, hid);
	aml_name(b, "_UID");
	aml_integer(b, uid);
}

/* What belongs to no device that an operating system knows: it must keep its hands off. */
static void motherboard(struct buf *b, const struct acpi_params *p)
{
	struct aml_crs crs = {0};
	size_t dev = aml_device(b, "MBRD");

	ids(b, "PNP0C02", 0);
	aml_crs_memory32(&crs, (uint32_t)LAYOUT_ECAM_START, (uint32_t)LAYOUT_ECAM_SIZE, true);
	aml_crs_fixed_qword(&crs, p->platform_base, p->platform_size_bytes);
	aml_crs_close(b, &crs);
	aml_close(b, dev);
}

static void serial_port(struct buf *b)
{
	struct aml_crs crs = {0};
	size_t dev = aml_device(b, "COM1");

	ids(b, "PNP0501", 0);
	aml_name(b, "_DDN");
	aml_string(b, "COM1");
	aml_crs_irq(&crs, LAYOUT_IRQ_SERIAL);
	aml_crs_io(&crs, LAYOUT_PORT_COM1, 8);
	aml_crs_close(b, &crs);
	aml_close(b, dev);
}

static void power_button(struct buf *b)
{
	size_t dev = aml_device(b, "PWRB");

	ids(b, "PNP0C0C", 0);
	aml_close(b, dev);
}

static void pci_root(struct buf *b, const struct acpi_params *p)
{
	struct aml_crs crs = {0};
	size_t dev = aml_device(b, "PC00");

	ids(b, "PNP0A08", 0);
	aml_name(b, "_CID");
	aml_eisa_id(b, "PNP0A03");
	aml_name(b, "_SEG");
	aml_integer(b, 0);
	aml_name(b, "_BBN");
	aml_integer(b, 0);
	aml_crs_bus(&crs, 0, 0);
	aml_crs_io(&crs, LAYOUT_PORT_PCI_CONFIG, 8);
	aml_crs_memory_window(&crs, p->mmio32_base, p->mmio32_size_bytes, false);
	if (p->mmio64_size_bytes)
		aml_crs_memory_window(&crs, p->mmio64_base, p->mmio64_size_bytes, false);
	aml_crs_io_window(&crs, 0, LAYOUT_PORT_PCI_CONFIG);
	aml_crs_io_window(&crs, LAYOUT_PORT_PCI_CONFIG + 8, 0x10000 - LAYOUT_PORT_PCI_CONFIG - 8);
	aml_crs_close(b, &crs);
	aml_close(b, dev);
}

static void processors(struct buf *b, const struct acpi_params *p)
{
	size_t container = aml_device(b, "CPUS");

	aml_name(b, "_HID");
	aml_string(b, "ACPI0010");
	for (unsigned i = 0; i < p->max_vcpus; i++) {
		char name[5];
		size_t dev;

		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		/* Past 4096 the letter moves on: C, D, E. */
		name[0] = (char)('C' + (i >> 12));
		dev = aml_device(b, name);
		aml_name(b, "_HID");
		aml_string(b, "ACPI0007");
		aml_name(b, "_UID");
		aml_integer(b, i);
		aml_close(b, dev);
	}
	aml_close(b, container);
}

/* The event controller tells what happened; the GED's interrupt tells that something did. */
static void events(struct buf *b, const struct acpi_params *p)
{
	struct aml_crs crs = {0};
	size_t dev, method, cond;

	dev = aml_device(b, "GEC_");
	aml_name(b, "_HID");
	aml_eisa_id(b, "PNP0A06");
	aml_name(b, "_UID");
	aml_string(b, "Generic Event Controller");
	aml_region_memory(b, "GDST", p->ged_address, 1);
	aml_field_byte(b, "GDST", "GDAT");
	method = aml_method(b, "ESCN", 0, true);
	aml_store(b);
	aml_path(b, "GDAT");
	aml_local(b, 0);
	cond = aml_if(b);
	aml_and(b, 0, GEC_POWER_BUTTON);
	aml_notify(b, "\\_SB_.PWRB", NOTIFY_BUTTON_PRESSED);
	aml_close(b, cond);
	aml_close(b, method);
	aml_close(b, dev);

	dev = aml_device(b, "GED_");
	aml_name(b, "_HID");
	aml_string(b, "ACPI0013");
	aml_name(b, "_UID");
	aml_integer(b, 0);
	aml_crs_interrupt(&crs, p->ged_irq);
	aml_crs_close(b, &crs);
	method = aml_method(b, "_EVT", 1, true);
	aml_path(b, "\\_SB_.GEC_.ESCN");
	aml_close(b, method);
	aml_close(b, dev);
}

void acpi_build_dsdt(const struct acpi_params *p, struct buf *out)
{
	size_t scope = aml_scope(out, "\\_SB_");
	size_t package;

	motherboard(out, p);
	if (p->serial)
		serial_port(out);
	power_button(out);
	pci_root(out, p);
	processors(out, p);
	events(out, p);
	aml_close(out, scope);

	aml_name(out, "\\_S5_");
	package = aml_package(out, 1);
	aml_integer(out, LAYOUT_ACPI_S5_VALUE >> 2 & 7);
	aml_close(out, package);
}
