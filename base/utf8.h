/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as far as it must be told from other bytes. Any thread. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/util.h"

/* Length (1 to 4) of the character that starts at s, of whose bytes `len` may be read; 0 when there
 * is none: a stray, overlong or cut sequence, a surrogate, a value past U+10FFFF (RFC 3629). */
size_t utf8_char_len(const char *s, size_t len);

/* Whether all of s is UTF-8. */
bool utf8_valid(const char *s, size_t len);

#endif
