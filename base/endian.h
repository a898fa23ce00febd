/* SPDX-License-Identifier: Apache-2.0 */
/* Integers of a fixed byte order, as types of their own so that no conversion is forgotten. No
 * alignment is assumed by get/put. */
#ifndef BASE_ENDIAN_H
#define BASE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint16_t raw;
} le16_t;
typedef struct {
	uint32_t raw;
} le32_t;
typedef struct {
	uint64_t raw;
} le64_t;
typedef struct {
	uint16_t raw;
} be16_t;
typedef struct {
	uint32_t raw;
} be32_t;

static inline le16_t le16(uint16_t v)
{
	return (le16_t){htole16(v)};
}
static inline le32_t le32(uint32_t v)
{
	return (le32_t){htole32(v)};
}
static inline le64_t le64(uint64_t v)
{
	return (le64_t){htole64(v)};
}
static inline be16_t be16(uint16_t v)
{
	return (be16_t){htobe16(v)};
}
static inline be32_t be32(uint32_t v)
{
	return (be32_t){htobe32(v)};
}

static inline uint16_t le16_get(le16_t v)
{
	return le16toh(v.raw);
}
static inline uint32_t le32_get(le32_t v)
{
	return le32toh(v.raw);
}
static inline uint64_t le64_get(le64_t v)
{
	return le64toh(v.raw);
}
static inline uint16_t be16_get(be16_t v)
{
	return be16toh(v.raw);
}
static inline uint32_t be32_get(be32_t v)
{
	return be32toh(v.raw);
}

/* Little-endian integer of `len` bytes (1, 2, 4 or 8) at p. */
static inline uint64_t le_load(const void *p, size_t len)
{
	uint64_t v = 0;

	memcpy(&v, p, len > 8 ? 8 : len);
	return le64toh(v);
}

/* Stores the low `len` bytes (at most 8) of v at p, little-endian. */
static inline void le_store(void *p, uint64_t v, size_t len)
{
	v = htole64(v);
	memcpy(p, &v, len > 8 ? 8 : len);
}

#endif
