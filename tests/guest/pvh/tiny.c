/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of a few hundred instructions: it does the words of its command line one after another,
 * then halts.
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
 * It comes up where guest kernels are emulated one instruction at a time, too.
 */
#include "tests/guest/pvh/guest.h"

#define DEBUG_CONSOLE 0xe9
#define DEBUG_PORT    0x80
#define PM_TIMER_10MS (GUEST_PM_HZ / 100)
#define I8042	      0x64
#define PVPANIC	      0x00111b36 /* device and vendor */
#define PVPANIC_EVENT 1

static void count(void)
{
	uint32_t last = in32(GUEST_PM_TIMER);

	for (uint32_t n = 0;; n++) {
		guest_put_number(n);
		guest_print("");
		/* 24 bits are what every timer has. */
		while (((in32(GUEST_PM_TIMER) - last) & 0xffffff) < PM_TIMER_10MS)
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

static void panic(void)
{
	int slot = guest_pci_find(PVPANIC, -1);

	if (slot < 0)
		return;
	guest_pci_write((unsigned)slot, 4, 2); /* decode memory */
	*mmio8(guest_pci_read((unsigned)slot, 0x10) & ~0xfU) = PVPANIC_EVENT;
}

static void triple(void)
{
	static const struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) empty = {0, 0};

	__asm__ volatile("lidt %0\n\tud2" : : "m"(empty));
}

void guest_obey(const char *word)
{
	if (guest_is(word, "ready"))
		guest_print("READY");
	else if (guest_is(word, "count"))
		count();
	else if (guest_is(word, "debug"))
		debug();
	else if (guest_is(word, "panic"))
		panic();
	else if (guest_is(word, "poweroff"))
		out8(GUEST_PM_SLEEP, 0x34);
	else if (guest_is(word, "reset"))
		out8(GUEST_PM_SLEEP, 1);
	else if (guest_is(word, "reset-i8042"))
		out8(I8042, 0xfe);
	else if (guest_is(word, "triple"))
		triple();
}
