/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

size_t utf8_char_len(const char *s, size_t len)
{
	/* Smallest value that needs 2, 3, 4 bytes: what encodes less is overlong. */
	static const uint32_t least[] = {0x80, 0x800, 0x10000};
	uint8_t first = len ? (uint8_t)s[0] : 0xff;
	uint32_t value;
	size_t more;

	if (first < 0x80)
		return 1;
	if ((first & 0xe0) == 0xc0)
		more = 1, value = first & 0x1f;
	else if ((first & 0xf0) == 0xe0)
		more = 2, value = first & 0x0f;
	else if ((first & 0xf8) == 0xf0)
		more = 3, value = first & 0x07;
	else
		return 0;
	if (more >= len)
		return 0;
	for (size_t i = 1; i <= more; i++) {
		uint8_t next = (uint8_t)s[i];

		if ((next & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (next & 0x3f);
	}
	if (value < least[more - 1] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	return more + 1;
}

bool utf8_valid(const char *s, size_t len)
{
	size_t n;

	for (; len; s += n, len -= n) {
		n = utf8_char_len(s, len);
		if (!n)
			return false;
	}
	return true;
}
