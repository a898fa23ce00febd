/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers with which a kernel is entered. PVH: Xen's docs/misc/pvh.pandoc, "Domain initial
 * state". Linux: the kernel's Documentation/arch/x86/boot.rst, "32-bit Boot Protocol" and "64-bit
 * Boot Protocol".
 */
#include "vmm/cpu/cpus_private.h"
#include "vmm/memory/layout.h"

#define CR0_PE	 (1ULL << 0)
#define CR0_ET	 (1ULL << 4)
#define CR0_PG	 (1ULL << 31)
#define CR4_PAE	 (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)
#define RFLAGS_1 (1ULL << 1) /* always set */

/* Segment types: Intel SDM volume 3, 3.4.5.1 and 3.5. */
#define TYPE_DATA     0x3 /* read, write, accessed */
#define TYPE_CODE     0xb /* execute, read, accessed */
#define TYPE_BUSY_TSS 0xb

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool is64)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = !is64,
		.s = 1,
		.l = is64,
		.g = 1,
	};
}

static void set_segments(struct kvm_sregs *sregs, bool long_mode)
{
	struct kvm_segment data = flat(BOOT_SELECTOR_DATA, TYPE_DATA, false);

	sregs->cs = flat(BOOT_SELECTOR_CODE, TYPE_CODE, long_mode);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = (struct kvm_segment){
		.limit = 0x67,
		.type = TYPE_BUSY_TSS,
		.present = 1,
	};
	sregs->ldt = (struct kvm_segment){.unusable = 1};
	sregs->gdt = (struct kvm_dtable){
		.base = LAYOUT_GDT,
		.limit = BOOT_GDT_ENTRIES * sizeof(uint64_t) - 1,
	};
	/* Empty: an exception this early is a triple fault, and is reported as one. */
	sregs->idt = (struct kvm_dtable){.base = LAYOUT_IDT};
}

void vcpu_boot_regs(const struct boot_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	bool long_mode = entry->protocol == BOOT_LINUX_64;

	*regs = (struct kvm_regs){
		.rip = entry->ip,
		.rflags = RFLAGS_1,
		.rsp = LAYOUT_BOOT_STACK,
		.rbp = LAYOUT_BOOT_STACK,
	};
	if (entry->protocol == BOOT_PVH) {
		regs->rbx = entry->arg;
	} else {
		regs->rsi = entry->arg;
		if (!long_mode)
			regs->rsp = regs->rbp = 0; /* as the 32-bit protocol says of EBP */
	}
	set_segments(sregs, long_mode);
	sregs->cr0 = CR0_PE | CR0_ET | (long_mode ? CR0_PG : 0);
	sregs->cr3 = long_mode ? LAYOUT_PAGE_TABLES : 0;
	sregs->cr4 = long_mode ? CR4_PAE : 0;
	sregs->efer = long_mode ? EFER_LME | EFER_LMA : 0;
}
