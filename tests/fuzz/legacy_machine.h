/* SPDX-License-Identifier: Apache-2.0 */
/* What one of the old devices stands on. KVM's part fails throughout. */
#ifndef TESTS_FUZZ_LEGACY_MACHINE_H
#define TESTS_FUZZ_LEGACY_MACHINE_H

#include "vmm/bus/bus.h"
#include "vmm/bus/device.h"
#include "vmm/bus/irq.h"

struct legacy_machine {
	struct device_host host;
	struct device *dev; /* the caller's */
};

/* Aborts on failure. */
void legacy_machine_init(struct legacy_machine *m);

/* A port access; what: bits 0..2 = register, bit 3 = write; width 1, or more for values of which
 * the low bits are zero. */
void legacy_machine_access(struct legacy_machine *m, uint16_t base, uint8_t what, uint8_t value);

/* At rest, the device's state as it is, ... */
void legacy_machine_save_and_load(struct legacy_machine *m);

/* ... or any `len` bytes; a device that refuses is reset. */
void legacy_machine_load_any(struct legacy_machine *m, struct cursor *c, size_t len);

#endif
