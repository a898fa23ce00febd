/* SPDX-License-Identifier: Apache-2.0 */
/* All I/O ports, and the memory that is nobody's. */
#include "tests/guest/pvh/hostile/attacks.h"

#define I8042 0x64

/* What would end the guest, and with it the attack. */
static bool ends_the_guest(unsigned port)
{
	return (port <= GUEST_PM_SLEEP && port + 4 > GUEST_PM_SLEEP) ||
	       (port <= I8042 && port + 4 > I8042);
}

static void access_port(uint16_t port, uint32_t value)
{
	in8(port);
	in16(port);
	in32(port);
	if (ends_the_guest(port))
		return;
	out8(port, (uint8_t)value);
	out16(port, (uint16_t)value);
	out32(port, value);
}

/* The port that the guest speaks through: its line control and the rest as they were. */
static void restore_com1(void)
{
	out8(GUEST_COM1 + 3, 3);
	out8(GUEST_COM1 + 4, 0);
	out8(GUEST_COM1 + 1, 0);
	out8(GUEST_COM1 + 2, 0);
	guest_print("");
}

/* Whole pages where devices are, and a sample of the rest. */
void attack_ports(const char *value)
{
	for (unsigned round = 0; round < 3; round++)
		for (unsigned port = 0; port < 0x10000;
		     port += port < 0x700 || port >= 0xfff8 ? 1 : 0xad)
			access_port((uint16_t)port, round == 0	 ? 0
						    : round == 1 ? 0xffffffff
								 : (uint32_t)any());
	/* The sleep register takes all that does nothing; the controller all but the reset. */
	for (unsigned v = 0; v < 256; v++) {
		if (v != 1 && v != 0x34)
			out8(GUEST_PM_SLEEP, (uint8_t)v);
		if (v != 0xfe)
			out8(I8042, (uint8_t)v);
		in8(I8042);
	}
	restore_com1();
}

static uint8_t text[4096];

#define STRING(insn, port, count)                                   \
	do {                                                        \
		void *p_ = text;                                    \
		unsigned long n_ = (count);                         \
		__asm__ volatile("rep " insn                        \
				 : "+D"(p_), "+c"(n_)               \
				 : "d"((uint16_t)(port)), "S"(text) \
				 : "memory");                       \
	} while (0)

void attack_strings(const char *value)
{
	static const uint16_t ports[] = {
		0x20,  0x40,  0x60,  0x61,  0x70,  0x71,  0x80,	 0x92,	0xe9,  0x3f8, 0x3f9,
		0x3fa, 0x3fd, 0x3ff, 0x402, 0x601, 0x608, 0xcf8, 0xcfb, 0xcfc, 0xcff, 0xfffc,
	};

	for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		uint16_t port = ports[i];

		STRING("insb", port, 512);
		STRING("insw", port, 256);
		STRING("insl", port, 128);
		memset(text, 'x', sizeof(text));
		__asm__ volatile("" : : : "memory");
		for (unsigned w = 0; w < 3; w++) {
			const void *from = text;
			unsigned long n = 512UL >> w;

			if (w == 0)
				__asm__ volatile("rep outsb"
						 : "+S"(from), "+c"(n)
						 : "d"(port)
						 : "memory");
			else if (w == 1)
				__asm__ volatile("rep outsw"
						 : "+S"(from), "+c"(n)
						 : "d"(port)
						 : "memory");
			else
				__asm__ volatile("rep outsl"
						 : "+S"(from), "+c"(n)
						 : "d"(port)
						 : "memory");
		}
	}
	restore_com1();
}

/* Where no device is, and across the edges of those that are. */
void attack_holes(const char *value)
{
	static const uint64_t places[] = {
		RAM_END - 4, RAM_END,	 RAM_END + 0x1000, 0x80000000, 0xbffffffc,  0xc0000000,
		0xd0000000,  0xe7fffffc, 0xe80ffffc,	   0xe8100000, 0xf7fffffc,  0xf8004000,
		0xfebffffc,  0xfec00000, 0xfec00010,	   0xfec0001c, 0xfec00ffc,  0xfed00000,
		0xfed40000,  0xfee00ffc, 0xfee01000,	   0xfffffff8, 0x13ffffff8, 0x1fffffff0,
	};
	static const unsigned widths[] = {1, 2, 4, 8};

	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		for (unsigned w = 0; w < 4; w++)
			for (unsigned n = 0; n < 8; n++) {
				read_width(places[i] + n, widths[w]);
				write_width(places[i] + n, widths[w], any());
			}
	/* The IOAPIC: registers that it has and has not, and entries that make no sense. */
	for (unsigned reg = 0; reg < 256; reg++) {
		*mmio32(0xfec00000) = reg;
		*mmio32(0xfec00010) = (uint32_t)any() | 0x10000;
		read_width(0xfec00010, 4);
	}
	for (unsigned n = 0; n < 200; n++) {
		*mmio32(0xfec00000) = 0x10 + below(48);
		*mmio32(0xfec00010) = (uint32_t)any();
	}
	for (unsigned reg = 0x10; reg < 0x40; reg++) {
		*mmio32(0xfec00000) = reg;
		*mmio32(0xfec00010) = 0x10000;
	}
}
