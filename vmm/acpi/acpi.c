/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/acpi.h"

#include "base/endian.h"

#include <errno.h>
#include <string.h>

#define OEM_ID	     "CLOUDH"
#define OEM_TABLE_ID "CHTABLES"
#define CREATOR_ID   "CRCL"

/* ACPI 6.4, 5.2.6 */
struct table_header {
	char signature[4];
	le32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	le32_t oem_revision;
	char creator_id[4];
	le32_t creator_revision;
} __attribute__((packed));
static_assert(sizeof(struct table_header) == 36, "ACPI table header");

/* 5.2.3.2 */
struct generic_address {
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	le64_t address;
} __attribute__((packed));

#define SPACE_IO     1
#define ACCESS_BYTE  1
#define ACCESS_DWORD 3

/* 5.2.9, revision 6 */
struct fadt {
	struct table_header header;
	le32_t firmware_ctrl;
	le32_t dsdt;
	uint8_t reserved0;
	uint8_t preferred_pm_profile;
	le16_t sci_int;
	le32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	le32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
	le32_t gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_blk_len, gpe1_blk_len;
	uint8_t gpe1_base, cst_cnt;
	le16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	le16_t iapc_boot_arch;
	uint8_t reserved1;
	le32_t flags;
	struct generic_address reset_reg;
	uint8_t reset_value;
	le16_t arm_boot_arch;
	uint8_t minor_version;
	le64_t x_firmware_ctrl;
	le64_t x_dsdt;
	struct generic_address x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr;
	struct generic_address x_gpe0, x_gpe1;
	struct generic_address sleep_control_reg, sleep_status_reg;
	char hypervisor_vendor[8];
} __attribute__((packed));
static_assert(sizeof(struct fadt) == 276, "FADT revision 6");
static_assert(offsetof(struct fadt, flags) == 112, "FADT flags");
static_assert(offsetof(struct fadt, sleep_control_reg) == 244, "FADT sleep control");

#define FADT_WBINVD	     (1u << 0)
#define FADT_SLEEP_BUTTON    (1u << 5) /* no fixed-feature sleep button */
#define FADT_PWR_BUTTON	     (1u << 4) /* no fixed-feature power button */
#define FADT_TMR_VAL_EXT     (1u << 8)
#define FADT_RESET_REG_SUP   (1u << 10)
#define FADT_HW_REDUCED_ACPI (1u << 20)
#define IAPC_VGA_NOT_PRESENT (1u << 2)

/* 5.2.12 */
struct madt {
	struct table_header header;
	le32_t local_apic;
	le32_t flags;
} __attribute__((packed));

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	le32_t address;
	le32_t gsi_base;
} __attribute__((packed));

struct madt_override {
	uint8_t type, length, bus, source;
	le32_t gsi;
	le16_t flags;
} __attribute__((packed));

struct madt_x2apic {
	uint8_t type, length;
	le16_t reserved;
	le32_t x2apic_id;
	le32_t flags;
	le32_t processor_uid;
} __attribute__((packed));

#define MADT_ENABLED	    (1u << 0)
#define MADT_ONLINE_CAPABLE (1u << 1)

/* PCI Firmware 3.0, 4.1.2 */
struct mcfg {
	struct table_header header;
	uint8_t reserved[8];
	le64_t base;
	le16_t segment;
	uint8_t first_bus, last_bus;
	uint8_t reserved2[4];
} __attribute__((packed));

/* 5.2.5.3 */
struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	le32_t rsdt;
	le32_t length;
	le64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));
static_assert(sizeof(struct rsdp) == 36, "RSDP");

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return (uint8_t)-sum;
}

static struct table_header header(const char *signature, uint8_t revision, size_t len)
{
	struct table_header h = {
		.length = le32((uint32_t)len),
		.revision = revision,
		.oem_revision = le32(1),
		.creator_revision = le32(1),
	};

	memcpy(h.signature, signature, 4);
	memcpy(h.oem_id, OEM_ID, 6);
	memcpy(h.oem_table_id, OEM_TABLE_ID, 8);
	memcpy(h.creator_id, CREATOR_ID, 4);
	return h;
}

/* Where the next table goes. */
struct writer {
	struct guest_memory *memory;
	uint64_t next;
};

/* Puts a whole table, its checksum set, at the next free place. */
static int put_table(struct writer *w, uint8_t *table, size_t len, uint64_t *ret_addr)
{
	struct table_header *h = (struct table_header *)(void *)table;

	if (!range_within(w->next, len, LAYOUT_RSDP, LAYOUT_ACPI_END - LAYOUT_RSDP))
		return -E2BIG;
	h->checksum = 0;
	h->checksum = checksum(table, len);
	*ret_addr = w->next;
	w->next = align_up(w->next + len, 16);
	return guest_memory_write(w->memory, gpa(*ret_addr), table, len);
}

static int put_dsdt(struct writer *w, const struct acpi_params *p, uint64_t *ret_addr)
{
	AUTO_BUF struct buf b = {0};
	struct table_header h = header("DSDT", 6, 0);

	buf_put(&b, &h, sizeof(h));
	acpi_build_dsdt(p, &b);
	if (!buf_ok(&b))
		return -ENOMEM;
	h.length = le32((uint32_t)b.len);
	memcpy(b.data, &h, sizeof(h));
	return put_table(w, b.data, b.len, ret_addr);
}

static int put_fadt(struct writer *w, uint64_t dsdt, uint64_t *ret_addr)
{
	struct generic_address sleep = {
		.space = SPACE_IO,
		.bit_width = 8,
		.access_size = ACCESS_BYTE,
		.address = le64(LAYOUT_PORT_ACPI_RESET),
	};
	struct fadt fadt = {
		.header = header("FACP", 6, sizeof(fadt)),
		.pm_tmr_len = 4,
		.iapc_boot_arch = le16(IAPC_VGA_NOT_PRESENT),
		.flags = le32(FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLEEP_BUTTON | FADT_TMR_VAL_EXT |
			      FADT_RESET_REG_SUP | FADT_HW_REDUCED_ACPI),
		.reset_reg = sleep,
		.reset_value = LAYOUT_ACPI_RESET_VALUE,
		.minor_version = 4,
		.x_dsdt = le64(dsdt),
		.pm_tmr_blk = le32(LAYOUT_PORT_PM_TIMER),
		.x_pm_tmr = {.space = SPACE_IO,
			     .bit_width = 32,
			     .access_size = ACCESS_DWORD,
			     .address = le64(LAYOUT_PORT_PM_TIMER)},
		.sleep_control_reg = sleep,
		.sleep_status_reg = sleep,
	};

	memcpy(fadt.hypervisor_vendor, "CLOUDHYP", 8);
	return put_table(w, (uint8_t *)&fadt, sizeof(fadt), ret_addr);
}

static void add_processors(struct buf *b, const struct acpi_params *p)
{
	for (unsigned i = 0; i < p->max_vcpus; i++) {
		struct madt_x2apic cpu = {
			.type = 9,
			.length = sizeof(cpu),
			.x2apic_id = le32(p->apic_id(p->arg, i)),
			.flags = le32(i < p->boot_vcpus ? MADT_ENABLED : MADT_ONLINE_CAPABLE),
			.processor_uid = le32(i),
		};

		buf_put(b, &cpu, sizeof(cpu));
	}
}

static int put_madt(struct writer *w, const struct acpi_params *p, uint64_t *ret_addr)
{
	AUTO_BUF struct buf b = {0};
	struct madt madt = {.header = header("APIC", 5, 0), .local_apic = le32(LAYOUT_LAPIC)};
	struct madt_ioapic ioapic = {
		.type = 1, .length = sizeof(ioapic), .address = le32(LAYOUT_IOAPIC)};
	struct madt_override com1 = {.type = 2,
				     .length = sizeof(com1),
				     .source = LAYOUT_IRQ_SERIAL,
				     .gsi = le32(LAYOUT_IRQ_SERIAL)};

	buf_put(&b, &madt, sizeof(madt));
	add_processors(&b, p);
	buf_put(&b, &ioapic, sizeof(ioapic));
	buf_put(&b, &com1, sizeof(com1));
	if (!buf_ok(&b))
		return -ENOMEM;
	madt.header.length = le32((uint32_t)b.len);
	memcpy(b.data, &madt, sizeof(madt));
	return put_table(w, b.data, b.len, ret_addr);
}

static int put_mcfg(struct writer *w, uint64_t *ret_addr)
{
	struct mcfg mcfg = {
		.header = header("MCFG", 1, sizeof(mcfg)),
		.base = le64(LAYOUT_ECAM_START),
	};

	return put_table(w, (uint8_t *)&mcfg, sizeof(mcfg), ret_addr);
}

static int put_xsdt(struct writer *w, const uint64_t *tables, size_t n, uint64_t *ret_addr)
{
	AUTO_BUF struct buf b = {0};
	struct table_header h = header("XSDT", 1, sizeof(h) + n * 8);

	buf_put(&b, &h, sizeof(h));
	for (size_t i = 0; i < n; i++)
		buf_le64(&b, tables[i]);
	if (!buf_ok(&b))
		return -ENOMEM;
	return put_table(w, b.data, b.len, ret_addr);
}

static int put_rsdp(struct guest_memory *memory, uint64_t xsdt)
{
	struct rsdp rsdp = {.revision = 2, .length = le32(sizeof(rsdp)), .xsdt = le64(xsdt)};

	memcpy(rsdp.signature, "RSD PTR ", 8);
	memcpy(rsdp.oem_id, OEM_ID, 6);
	rsdp.checksum = checksum(&rsdp, 20); /* the part that revision 0 had */
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	return guest_memory_write(memory, gpa(LAYOUT_RSDP), &rsdp, sizeof(rsdp));
}

int acpi_build(const struct acpi_params *params, struct guest_memory *memory, uint64_t *ret_rsdp,
	       struct err *err)
{
	struct writer w = {.memory = memory,
			   .next = align_up(LAYOUT_RSDP + sizeof(struct rsdp), 16)};
	uint64_t dsdt, xsdt, tables[3];
	int r = put_dsdt(&w, params, &dsdt);

	if (r >= 0)
		r = put_fadt(&w, dsdt, &tables[0]);
	if (r >= 0)
		r = put_madt(&w, params, &tables[1]);
	if (r >= 0)
		r = put_mcfg(&w, &tables[2]);
	if (r >= 0)
		r = put_xsdt(&w, tables, ARRAY_SIZE(tables), &xsdt);
	if (r >= 0)
		r = put_rsdp(memory, xsdt);
	if (r == -E2BIG)
		return err_set(err, r, "the ACPI tables for %u vCPUs do not fit below 0x%llx",
			       params->max_vcpus, LAYOUT_ACPI_END);
	if (r < 0)
		return err_set_errno(err, r, "cannot build the ACPI tables");
	*ret_rsdp = LAYOUT_RSDP;
	return 0;
}
