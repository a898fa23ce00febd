/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pvh/guest.h"

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline;
};

__attribute__((noreturn, used)) void guest_run(const struct start_info *info);

/* --- words --- */

bool guest_is(const char *text, const char *word)
{
	while (*word && *text == *word)
		text++, word++;
	return !*word && (!*text || *text == ' ');
}

const char *guest_value(const char *text, const char *name)
{
	while (*name && *text == *name)
		text++, name++;
	return !*name && *text == '=' ? text + 1 : NULL;
}

uint32_t guest_number(const char *text)
{
	bool hex = text[0] == '0' && text[1] == 'x';
	uint32_t n = 0;

	for (text += hex ? 2 : 0;; text++) {
		uint32_t digit = (uint32_t)(*text - '0');

		if (hex && *text >= 'a' && *text <= 'f')
			digit = (uint32_t)(*text - 'a') + 10;
		else if (digit > 9)
			return n;
		n = n * (hex ? 16 : 10) + digit;
	}
}

void guest_run(const struct start_info *info)
{
	const char *text = (const char *)(uintptr_t)info->cmdline;

	while (text && *text) {
		guest_obey(text);
		while (*text && *text != ' ')
			text++;
		while (*text == ' ')
			text++;
	}
	guest_halt();
}

/* --- COM1 --- */

void guest_put(const char *text)
{
	while (*text)
		out8(GUEST_COM1, (uint8_t)*text++);
}

void guest_put_number(uint32_t n)
{
	char text[11];
	char *p = text + sizeof(text) - 1;

	*p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	guest_put(p);
}

void guest_put_hex(uint64_t n)
{
	unsigned digits = 1;

	while (digits < 16 && n >> 4 * digits)
		digits++;
	guest_put("0x");
	while (digits--)
		out8(GUEST_COM1, (uint8_t) "0123456789abcdef"[n >> 4 * digits & 15]);
}

void guest_print(const char *text)
{
	guest_put(text);
	guest_put("\n");
}

/* --- memory --- */

void *memset(void *to, int byte, size_t len)
{
	void *p = to;

	__asm__ volatile("rep stosb" : "+D"(p), "+c"(len) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t len)
{
	void *p = to;

	__asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(len) : : "memory");
	return to;
}

/* --- PCI --- */

uint32_t guest_pci_read(unsigned slot, unsigned offset)
{
	out32(GUEST_PCI_ADDRESS, 0x80000000 | slot << 11 | offset);
	return in32(GUEST_PCI_DATA);
}

void guest_pci_write(unsigned slot, unsigned offset, uint32_t value)
{
	out32(GUEST_PCI_ADDRESS, 0x80000000 | slot << 11 | offset);
	out32(GUEST_PCI_DATA, value);
}

int guest_pci_find(uint32_t id, int after)
{
	for (int slot = after + 1; slot < GUEST_PCI_SLOTS; slot++)
		if (guest_pci_read((unsigned)slot, 0) == id)
			return slot;
	return -1;
}
