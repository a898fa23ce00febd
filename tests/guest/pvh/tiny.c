/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of a few hundred instructions, entered by PVH (Xen's docs/misc/pvh.pandoc): it does the
 * words of its command line one after another, then halts.
 *
 *   ready        "READY" on COM1
 *   count        a number a line on COM1, one each ten milliseconds, for ever
 *   debug        "debug" on the debug console, if there is one, and 0x41 to the debug port
 *   panic        tells pvpanic, if there is one
 *   poweroff     ACPI S5
 *   reset        by the ACPI reset register
 *   reset-i8042  by the keyboard controller
 *   triple       a triple fault
 *
 * It comes up where guest kernels are emulated one instruction at a time, too: no interrupts, no
 * paging, nothing that was new after the i386.
 */
#include <stddef.h>
#include <stdint.h>

#define COM1	      0x3f8
#define DEBUG_CONSOLE 0xe9
#define DEBUG_PORT    0x80
#define PM_SLEEP      0x600
#define PM_TIMER      0x608
#define PM_TIMER_10MS 35795
#define I8042	      0x64
#define PCI_ADDRESS   0xcf8
#define PCI_DATA      0xcfc
#define PVPANIC	      0x00111b36 /* device and vendor */
#define PVPANIC_EVENT 1

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline;
};

/* XEN_ELFNOTE_PHYS32_ENTRY, and the entry: %ebx holds the address of the start_info. */
__asm__(".pushsection .note.Xen, \"a\", @note\n"
	".long 4, 4, 18\n"
	".asciz \"Xen\"\n"
	".long _start\n"
	".popsection\n"
	".pushsection .text\n"
	".globl _start\n"
	"_start:\n"
	"mov $stack + 4096, %esp\n"
	"push %ebx\n"
	"call run\n"
	".popsection\n"
	".comm stack, 4096, 16\n");

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void print(const char *text)
{
	while (*text)
		out8(COM1, (uint8_t)*text++);
	out8(COM1, '\n');
}

static void print_number(uint32_t n)
{
	char text[11];
	char *p = text + sizeof(text) - 1;

	*p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	print(p);
}

static void count(void)
{
	uint32_t last = in32(PM_TIMER);

	for (uint32_t n = 0;; n++) {
		print_number(n);
		/* 24 bits are what every timer has. */
		while (((in32(PM_TIMER) - last) & 0xffffff) < PM_TIMER_10MS)
			;
		last += PM_TIMER_10MS;
	}
}

static void debug(void)
{
	/* One that is there reads as its own number. */
	if (in8(DEBUG_CONSOLE) == DEBUG_CONSOLE)
		for (const char *text = "debug\n"; *text; text++)
			out8(DEBUG_CONSOLE, (uint8_t)*text);
	out8(DEBUG_PORT, 0x41);
}

static uint32_t pci_read(unsigned slot, unsigned offset)
{
	out32(PCI_ADDRESS, 0x80000000 | slot << 11 | offset);
	return in32(PCI_DATA);
}

static void panic(void)
{
	for (unsigned slot = 1; slot < 32; slot++) {
		uintptr_t bar;

		if (pci_read(slot, 0) != PVPANIC)
			continue;
		out32(PCI_ADDRESS, 0x80000000 | slot << 11 | 4);
		out32(PCI_DATA, 2); /* decode memory */
		bar = pci_read(slot, 0x10) & ~0xfU;
		*(volatile uint8_t *)bar = PVPANIC_EVENT;
	}
}

static void triple(void)
{
	static const struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) empty = {0, 0};

	__asm__ volatile("lidt %0\n\tud2" : : "m"(empty));
}

/* Whether the word at `text` is `word`. */
static int is(const char *text, const char *word)
{
	while (*word && *text == *word)
		text++, word++;
	return !*word && (!*text || *text == ' ');
}

static void obey(const char *word)
{
	if (is(word, "ready"))
		print("READY");
	else if (is(word, "count"))
		count();
	else if (is(word, "debug"))
		debug();
	else if (is(word, "panic"))
		panic();
	else if (is(word, "poweroff"))
		out8(PM_SLEEP, 0x34);
	else if (is(word, "reset"))
		out8(PM_SLEEP, 1);
	else if (is(word, "reset-i8042"))
		out8(I8042, 0xfe);
	else if (is(word, "triple"))
		triple();
}

__attribute__((noreturn, used)) void run(const struct start_info *info);

void run(const struct start_info *info)
{
	const char *text = (const char *)(uintptr_t)info->cmdline;

	while (text && *text) {
		obey(text);
		while (*text && *text != ' ')
			text++;
		while (*text == ' ')
			text++;
	}
	for (;;)
		__asm__ volatile("hlt");
}
