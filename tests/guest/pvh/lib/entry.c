/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the PVH entry, 32 bits and flat, to guest_run() in long mode; exceptions; and CPL 3.
 *
 * Everything that can be there from the start is in the image, the page tables too: where CPL 0 is
 * emulated one instruction at a time, filling them in would take longer than all the rest.
 */
#include "tests/guest/pvh/guest.h"

#define SELECTOR_CODE	   0x08
#define SELECTOR_USER_DATA 0x1b
#define SELECTOR_USER_CODE 0x23
#define SELECTOR_TSS	   0x28

#define FLAGS_IOPL_3   0x3002
#define GATE_INTERRUPT 0x8e00
#define VECTORS	       32
#define VECTOR_GP      13
#define HLT	       0xf4

#define WAKE_PAGE      0x8000
#define LAPIC_ICR_LOW  0xfee00300
#define LAPIC_ICR_HIGH 0xfee00310
#define LAPIC_INIT     0x4500
#define LAPIC_STARTUP  0x4600

/* XEN_ELFNOTE_PHYS32_ENTRY, and the entry: %ebx holds the address of the start_info. */
__asm__(".pushsection .note.Xen, \"a\", @note\n"
	".long 4, 4, 18\n"
	".asciz \"Xen\"\n"
	".long _start\n"
	".popsection\n"
	".pushsection .text\n"
	".code32\n"
	".globl _start\n"
	"_start:\n"
	"mov $guest_stack + 16384, %esp\n"
	"lgdt gdtr\n"
	"mov $guest_run, %edi\n"
	"long_mode:\n"
	"mov %cr4, %eax\n"
	"or $0x620, %eax\n" /* PAE, OSFXSR, OSXMMEXCPT */
	"mov %eax, %cr4\n"
	"mov $pml4, %eax\n"
	"mov %eax, %cr3\n"
	"mov $0xc0000080, %ecx\n"
	"rdmsr\n"
	"or $0x100, %eax\n" /* LME */
	"wrmsr\n"
	"mov %cr0, %eax\n"
	"or $0x80000000, %eax\n"
	"mov %eax, %cr0\n"
	"ljmp $8, $1f\n"
	".code64\n"
	"1:\n"
	"mov $0x10, %eax\n"
	"mov %eax, %ds\n"
	"mov %eax, %es\n"
	"mov %eax, %ss\n"
	"mov %edi, %eax\n"
	"mov %ebx, %edi\n"
	"call *%rax\n"
	".popsection\n"
	/* Another processor, in real mode: copied to a page below 1 MiB. It comes with CS:0 there.
	 */
	".pushsection .data.wake, \"aw\"\n"
	".code16\n"
	"wake:\n"
	"cli\n"
	"lgdtl %cs:wake_gdtr - wake\n"
	"mov %cr0, %eax\n"
	"or $1, %eax\n"
	"mov %eax, %cr0\n"
	"ljmpl $0x48, $wake32\n"
	"wake_gdtr: .word 8 * 10 - 1\n"
	".long guest_gdt\n"
	"wake_end:\n"
	".popsection\n"
	".pushsection .text\n"
	".code32\n"
	"wake32:\n"
	"mov $0x10, %eax\n"
	"mov %eax, %ds\n"
	"mov %eax, %es\n"
	"mov %eax, %ss\n"
	"mov $guest_second_stack + 16384, %esp\n"
	"mov $guest_second, %edi\n"
	"jmp long_mode\n"
	".code64\n"
	".popsection\n"
	".comm guest_second_stack, 16384, 16\n"
	".comm guest_stack, 16384, 16\n"
	".comm guest_kernel_stacks, 8192, 16\n");

/* An identity map of 8 GiB by 2 MiB, which CPL 3 may use, and the descriptors. */
__asm__(".pushsection .data.tables, \"aw\"\n"
	".balign 4096\n"
	"pml4: .quad pdpt + 7\n"
	".balign 4096\n"
	"pdpt:\n"
	"n = 0\n"
	".rept 8\n"
	".quad pds + n * 4096 + 7\n"
	"n = n + 1\n"
	".endr\n"
	".balign 4096\n"
	"pds:\n"
	"n = 0\n"
	".rept 8 * 512\n"
	".quad n * 0x200000 + 0x87\n"
	"n = n + 1\n"
	".endr\n"
	"gdtr: .word 8 * 10 - 1\n"
	".quad guest_gdt\n"
	".popsection\n");

uint64_t guest_gdt[10] = {
	[1] = 0x00af9b000000ffff, /* code */
	[2] = 0x00cf93000000ffff, /* data */
	[3] = 0x00cff3000000ffff, /* user data: before the code, as SYSRET wants it */
	[4] = 0x00affb000000ffff, /* user code */
	/* 5 and 7: TSSs, of two entries each */
	[9] = 0x00cf9b000000ffff, /* code of 32 bits */
};

/* A short piece of code for each exception; those without an error code push a 0 in its place. */
__asm__(".pushsection .text\n"
	"vector = 0\n"
	".balign 16\n"
	"fault_stubs:\n"
	".rept 32\n"
	".balign 16\n"
	".if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)\n"
	"push $0\n"
	".endif\n"
	"push $vector\n"
	"jmp fault\n"
	"vector = vector + 1\n"
	".endr\n"
	"fault:\n"
	"pop %rdi\n"
	"pop %rsi\n"
	"pop %rdx\n"
	"call guest_fault\n"
	"1: hlt\n"
	"jmp 1b\n"
	".popsection\n");

extern const uint8_t fault_stubs[];
extern const uint8_t wake[], wake_end[];
extern uint8_t guest_kernel_stacks[2][4096];

__attribute__((used)) void guest_second(void);
__attribute__((used)) void guest_fault(uint64_t vector, uint64_t code, const uint8_t *at);

struct gate {
	uint16_t low, selector, type, mid;
	uint32_t high, reserved;
};

static struct gate idt[VECTORS];

/* All ports are allowed: not every KVM keeps the IOPL of a CPL that it changes. */
static struct {
	uint32_t reserved;
	uint64_t rsp0;
	uint32_t rest[22];
	uint16_t reserved2, ports_at;
	uint8_t ports[65536 / 8];
	uint8_t end;
} __attribute__((packed)) tss[2] = {
	{.rsp0 = (uintptr_t)guest_kernel_stacks[1], .ports_at = 104, .end = 0xff},
	{.rsp0 = (uintptr_t)guest_kernel_stacks[2], .ports_at = 104, .end = 0xff},
};
_Static_assert(offsetof(__typeof__(tss[0]), ports) == 104, "Intel SDM volume 3, 8.7");

struct table {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

static void set_up_faults(unsigned cpu)
{
	const struct table idtr = {sizeof(idt) - 1, (uintptr_t)idt};
	uint64_t at = (uintptr_t)&tss[cpu];

	for (unsigned i = 0; i < VECTORS && !cpu; i++) {
		uintptr_t stub = (uintptr_t)fault_stubs + (size_t)i * 16;

		idt[i] = (struct gate){
			.low = (uint16_t)stub,
			.selector = SELECTOR_CODE,
			.type = GATE_INTERRUPT,
			.mid = (uint16_t)(stub >> 16),
		};
	}
	guest_gdt[5 + 2 * cpu] = (at & 0xffffff) << 16 | (at & 0xff000000) << 32 | 0x89ULL << 40 |
				 (sizeof(tss[0]) - 1);
	__asm__ volatile("lidt %0\n\tltr %w1"
			 :
			 : "m"(idtr), "r"(SELECTOR_TSS + 16 * cpu)
			 : "memory");
}

static inline __attribute__((always_inline)) void enter_user(unsigned cpu)
{
	set_up_faults(cpu);
	__asm__ volatile("mov %%rsp, %%rax\n"
			 "push %0\n"
			 "push %%rax\n"
			 "push %1\n"
			 "push %2\n"
			 "lea 1f(%%rip), %%rax\n"
			 "push %%rax\n"
			 "iretq\n"
			 "1:\n"
			 :
			 : "i"(SELECTOR_USER_DATA), "i"(FLAGS_IOPL_3), "i"(SELECTOR_USER_CODE)
			 : "rax", "memory");
}

void guest_enter_user(void)
{
	static bool done;

	if (!done)
		enter_user(0);
	done = true;
}

/* --- the second processor --- */

static void (*second_run)(void);

void guest_start_cpu(unsigned apic_id, void (*run)(void))
{
	second_run = run;
	memcpy((void *)WAKE_PAGE, wake, (size_t)(wake_end - wake));
	*mmio32(LAPIC_ICR_HIGH) = apic_id << 24;
	*mmio32(LAPIC_ICR_LOW) = LAPIC_INIT;
	*mmio32(LAPIC_ICR_HIGH) = apic_id << 24;
	*mmio32(LAPIC_ICR_LOW) = LAPIC_STARTUP | WAKE_PAGE >> 12;
}

void guest_second(void)
{
	enter_user(1);
	second_run();
	guest_halt();
}

/* --- the end --- */

/* The end: a stub halts when this returns. */
void guest_fault(uint64_t vector, uint64_t code, const uint8_t *at)
{
	if (vector == VECTOR_GP && *at == HLT)
		return; /* guest_halt() at CPL 3 */
	/* Whatever the guest did to it. */
	out8(GUEST_COM1 + 3, 3);
	out8(GUEST_COM1 + 4, 0);
	guest_print("");
	guest_put("FAULT ");
	guest_put_number((uint32_t)vector);
	guest_put(" code ");
	guest_put_hex(code);
	guest_put(" at ");
	guest_put_hex((uintptr_t)at);
	guest_print("");
}

void guest_halt(void)
{
	for (;;)
		__asm__ volatile("hlt");
}
