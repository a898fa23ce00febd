/* SPDX-License-Identifier: Apache-2.0 */
/* What a device stands on, out of the real parts: buses, interrupt router, IOAPIC, and KVM where
 * the machine has it. */
#ifndef TESTS_UNIT_DEVICE_RIG_H
#define TESTS_UNIT_DEVICE_RIG_H

#include "vmm/bus/bus.h"
#include "vmm/bus/device.h"
#include "vmm/bus/irq.h"
#include "vmm/kvm/kvm.h"

struct device_rig {
	struct device_host host;
	struct kvm_vm *vm; /* real, or one whose ioctls all fail */
	struct kvm_vm no_vm;
	struct kvm_vcpu vcpu; /* one, its APIC enabled; fd -1 without KVM */
	bool has_kvm;
	unsigned requests[8]; /* by enum guest_request */
};

/* Returns whether it could be built. Without a usable /dev/kvm it is built all the same, and
 * has_kvm is false. */
bool device_rig_init(struct device_rig *rig);
void device_rig_fini(struct device_rig *rig);

/* Whether the vCPU's APIC has `vector` requested. */
bool device_rig_irr(struct device_rig *rig, unsigned vector);

/* Waits (up to a second: irqfds are asynchronous) until it has. */
bool device_rig_wait_irr(struct device_rig *rig, unsigned vector);

/* Empties the APIC's request and service registers, as if all had been handled. */
void device_rig_clear_irr(struct device_rig *rig);

/* Leaves the calling test as skipped, with a reason, when there is no KVM. */
#define DEVICE_RIG_NEEDS_KVM(rig)                                                   \
	do {                                                                        \
		if (!(rig)->has_kvm) {                                              \
			print_message("skipped: this machine has no usable KVM\n"); \
			skip();                                                     \
		}                                                                   \
	} while (0)

/* Bus accesses as numbers. */
uint64_t rig_in(struct bus *bus, uint64_t addr, unsigned len);
void rig_out(struct bus *bus, uint64_t addr, uint64_t value, unsigned len);

#endif
