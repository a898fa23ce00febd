/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What any bare guest needs: a program entered by PVH (Xen's docs/misc/pvh.pandoc), in long mode
 * with the first 8 GiB mapped where they are, no interrupts, no libc. Each .c file beside this one
 * becomes a guest; it is linked with lib/, and with the files of the folder that has its name, if
 * there is one.
 *
 * A guest has a guest_obey(), which is called for each word of the kernel command line in turn.
 * After the last the processor halts.
 *
 * A guest starts at CPL 0. Where guest kernels are emulated one instruction at a time (some
 * microseconds each), CPL 3 runs at the processor's own speed, exits apart: guest_enter_user() goes
 * there, for good. All memory and ports stay in reach; what is not is HLT.
 */
#ifndef TESTS_GUEST_PVH_GUEST_H
#define TESTS_GUEST_PVH_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_COM1     0x3f8
#define GUEST_PM_SLEEP 0x600 /* 0x34 powers off, 1 resets */
#define GUEST_PM_TIMER 0x608
#define GUEST_PM_HZ    3579545

/* The guest's own: does one word. `word` ends with a blank or 0. */
void guest_obey(const char *word);

/* From CPL 0 to CPL 3. An exception from here on is printed ("FAULT vector code n at address"), and
 * halts. */
void guest_enter_user(void);

/* Starts the other processor of a machine with two, which runs `run` at CPL 3. Once. */
void guest_start_cpu(unsigned apic_id, void (*run)(void));

/* The end, at any CPL. */
__attribute__((noreturn)) void guest_halt(void);

/* --- words of the command line --- */

/* Whether the word at `text` is `word`. */
bool guest_is(const char *text, const char *word);

/* The value of "name=value" at `text`, or NULL if it is no such word. */
const char *guest_value(const char *text, const char *name);

/* A number, decimal or 0x..., at `text`; what follows it is not looked at. */
uint32_t guest_number(const char *text);

/* --- COM1 --- */

void guest_put(const char *text);
void guest_put_number(uint32_t n);
void guest_put_hex(uint64_t n);

/* A line. */
void guest_print(const char *text);

/* --- ports --- */

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* --- memory, and what looks like it --- */

static inline volatile uint8_t *mmio8(uint64_t address)
{
	return (volatile uint8_t *)(uintptr_t)address;
}

static inline volatile uint16_t *mmio16(uint64_t address)
{
	return (volatile uint16_t *)(uintptr_t)address;
}

static inline volatile uint32_t *mmio32(uint64_t address)
{
	return (volatile uint32_t *)(uintptr_t)address;
}

static inline volatile uint64_t *mmio64(uint64_t address)
{
	return (volatile uint64_t *)(uintptr_t)address;
}

void *memset(void *to, int byte, size_t len);
void *memcpy(void *to, const void *from, size_t len);

/* --- PCI: bus 0, function 0 of a slot --- */

#define GUEST_PCI_SLOTS	  32
#define GUEST_PCI_ADDRESS 0xcf8
#define GUEST_PCI_DATA	  0xcfc
#define GUEST_ECAM	  0xe8000000U

/* By the ports; offset a multiple of 4. */
uint32_t guest_pci_read(unsigned slot, unsigned offset);
void guest_pci_write(unsigned slot, unsigned offset, uint32_t value);

/* Where ECAM shows the same. */
static inline uint32_t guest_ecam(unsigned slot, unsigned offset)
{
	return GUEST_ECAM + (slot << 15) + offset;
}

/* The first slot after `after` (-1: from the start) whose device and vendor are `id`, or -1. */
int guest_pci_find(uint32_t id, int after);

#endif
