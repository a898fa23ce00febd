/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AML, written front to back into a struct buf.
 *
 * Terms that enclose others are opened and closed: the opener returns a mark, aml_close() puts the
 * package length in where the mark says. Errors (out of memory, a name that is none) show in
 * buf_ok() at the end. Source: ACPI 6.4, chapters 6.4 (resources) and 20 (AML).
 */
#ifndef VMM_ACPI_AML_H
#define VMM_ACPI_AML_H

#include "base/cursor.h"

/* Ends the term that the opener with this mark began. */
void aml_close(struct buf *b, size_t mark);

/* Names are paths as in ASL: "_SB_", "\\_SB_.GED_", each segment of exactly four characters. */
size_t aml_scope(struct buf *b, const char *name);
size_t aml_device(struct buf *b, const char *name);
size_t aml_method(struct buf *b, const char *name, unsigned args, bool serialized);
size_t aml_if(struct buf *b);			     /* the predicate follows */
size_t aml_package(struct buf *b, uint8_t elements); /* the elements follow */

void aml_name(struct buf *b, const char *name); /* Name(name, <the object that follows>) */
void aml_path(struct buf *b, const char *name); /* a reference, or the call of a method */
void aml_integer(struct buf *b, uint64_t v);
void aml_string(struct buf *b, const char *s);
void aml_eisa_id(struct buf *b, const char *id); /* "PNP0A08" as a DWORD */
void aml_local(struct buf *b, unsigned n);
void aml_store(struct buf *b);				    /* Store(<source>, <target>) follow */
void aml_and(struct buf *b, unsigned local, uint64_t mask); /* And(LocalN, mask) as a value */
void aml_notify(struct buf *b, const char *device, uint64_t value);

/* OperationRegion(name, SystemMemory, addr, len) and a byte-wide field covering its first byte. */
void aml_region_memory(struct buf *b, const char *name, uint64_t addr, uint32_t len);
void aml_field_byte(struct buf *b, const char *region, const char *field);

/* Name(_CRS, ResourceTemplate() {...}): resources between open and close. */
struct aml_crs {
	struct buf body;
};
void aml_crs_memory32(struct aml_crs *crs, uint32_t base, uint32_t len, bool writable);
void aml_crs_memory_window(struct aml_crs *crs, uint64_t base, uint64_t len, bool prefetchable);
void aml_crs_fixed_qword(struct aml_crs *crs, uint64_t base, uint64_t len);
void aml_crs_io(struct aml_crs *crs, uint16_t base, uint8_t len);
void aml_crs_io_window(struct aml_crs *crs, uint16_t base, uint32_t len);
void aml_crs_bus(struct aml_crs *crs, uint16_t first, uint16_t last);
void aml_crs_irq(struct aml_crs *crs, unsigned irq);	   /* ISA, edge, high */
void aml_crs_interrupt(struct aml_crs *crs, uint32_t gsi); /* edge, high, exclusive */
/* Writes Name(_CRS, ...) to b and frees the body. */
void aml_crs_close(struct buf *b, struct aml_crs *crs);

#endif
