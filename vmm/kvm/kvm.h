/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: every ioctl of the tree. Thin: one function an ioctl, negative errno out, struct err where
 * an operator will read it. Reference: the kernel's Documentation/virt/kvm/api.rst.
 */
#ifndef VMM_KVM_KVM_H
#define VMM_KVM_KVM_H

#include "base/err.h"

#include <linux/kvm.h>

/* What the host's KVM offers; read once at kvm_vm_new(). */
struct kvm_caps {
	bool tsc_deadline;
	bool immediate_exit;
	bool x2apic_api;
	bool msi_ext_dest_id; /* always false here: no KVM capability; reserved for the CPUID author
			       */
	bool disable_exits;
	bool vm_tsc_control;
	bool tsc_control;
	bool get_tsc_khz;
	bool adjust_clock_stable;
	unsigned max_vcpus;
	unsigned max_vcpu_id;
	unsigned max_memslots;
	unsigned max_irq_routes;
	unsigned xsave_size; /* bytes of kvm_vcpu_get_xsave(), at least 4096; set by
				kvm_vm_refresh_xsave_size() */
};

struct kvm_vm {
	int dev_fd;   /* /dev/kvm */
	int fd;	      /* the VM */
	int run_size; /* of the vCPU's shared page(s) */
	struct kvm_caps caps;
};

/*
 * Opens /dev/kvm, checks API version and what we cannot do without (user memory, split irqchip,
 * irqfd, ioeventfd, immediate exit, ...), creates the VM, sets TSS and identity map addresses, the
 * split irqchip with 24 pins, and the x2APIC API with broadcast quirk off when `max_apic_id` > 254.
 * Returns 0 or negative errno with a message that says what is missing. Owned by the caller,
 * kvm_vm_free().
 */
int kvm_vm_new(unsigned max_apic_id, struct kvm_vm **ret_vm, struct err *err);
void kvm_vm_free(struct kvm_vm *vm);

/* Reads caps.xsave_size anew: it grows when the process is permitted AMX. Before the first vCPU. */
void kvm_vm_refresh_xsave_size(struct kvm_vm *vm);

/* Memory slots. `host` must be page aligned; size 0 removes the slot. flags: KVM_MEM_*. */
int kvm_vm_set_memory(struct kvm_vm *vm, unsigned slot, uint64_t guest_addr, uint64_t size_bytes,
		      void *host, unsigned flags);
/* Copies the slot's dirty bitmap (one bit a page, (size/4096+63)/64 words). */
int kvm_vm_get_dirty_log(struct kvm_vm *vm, unsigned slot, uint64_t *bitmap);

/* Interrupts. The routing call replaces the whole table: callers batch. Any thread. */
int kvm_vm_set_gsi_routing(struct kvm_vm *vm, const struct kvm_irq_routing *routing);
int kvm_vm_irqfd(struct kvm_vm *vm, unsigned gsi, int eventfd, bool assign);
int kvm_vm_signal_msi(struct kvm_vm *vm, uint64_t address, uint32_t data);

/* An eventfd for guest writes to `addr`; len 0 (MMIO any width), 1, 2, 4 or 8. */
int kvm_vm_ioeventfd(struct kvm_vm *vm, uint64_t addr, unsigned len, bool pio, int eventfd,
		     bool assign);

/* kvmclock. */
int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *ret);
int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock);

/* CPUID that the host supports, malloced; free() it. */
int kvm_get_supported_cpuid(struct kvm_vm *vm, struct kvm_cpuid2 **ret, struct err *err);
/* MSRs that a save must keep, malloced. */
int kvm_get_msr_index_list(struct kvm_vm *vm, struct kvm_msr_list **ret);

struct kvm_vcpu {
	int fd;
	unsigned id; /* APIC id */
	bool xsave2; /* state is larger than struct kvm_xsave */
	struct kvm_run *run;
	size_t run_size;
};

int kvm_vcpu_init(struct kvm_vm *vm, unsigned apic_id, struct kvm_vcpu *vcpu, struct err *err);
void kvm_vcpu_fini(struct kvm_vcpu *vcpu); /* zeroed with fd -1, or initialised */

/* Enters the guest. Returns 0 with run->exit_reason, -EINTR after a kick, or negative errno. vCPU's
 * thread. */
int kvm_vcpu_run(struct kvm_vcpu *vcpu);

/* Registers; vCPU's thread, or any while the vCPU does not run. All return 0 or negative errno. */
int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid);
int kvm_vcpu_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
int kvm_vcpu_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs);
int kvm_vcpu_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs);
int kvm_vcpu_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs);
int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu,
		      struct kvm_msrs *msrs); /* returns how many were read */
int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs); /* how many were set */
int kvm_vcpu_get_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *lapic);
int kvm_vcpu_set_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic);
/* struct kvm_xsave here stands for caps.xsave_size bytes. */
int kvm_vcpu_get_fpu(struct kvm_vcpu *vcpu, struct kvm_fpu *fpu);
int kvm_vcpu_set_fpu(struct kvm_vcpu *vcpu, const struct kvm_fpu *fpu);
int kvm_vcpu_get_xsave(struct kvm_vcpu *vcpu, struct kvm_xsave *xsave);
int kvm_vcpu_set_xsave(struct kvm_vcpu *vcpu, const struct kvm_xsave *xsave);
int kvm_vcpu_get_xcrs(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs);
int kvm_vcpu_set_xcrs(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs);
int kvm_vcpu_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *regs);
int kvm_vcpu_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *regs);
int kvm_vcpu_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events);
int kvm_vcpu_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events);
int kvm_vcpu_get_mp_state(struct kvm_vcpu *vcpu, struct kvm_mp_state *state);
int kvm_vcpu_set_mp_state(struct kvm_vcpu *vcpu, const struct kvm_mp_state *state);
int kvm_vcpu_get_tsc_khz(struct kvm_vcpu *vcpu); /* kHz > 0, or negative errno */
int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, unsigned khz);
int kvm_vcpu_nmi(struct kvm_vcpu *vcpu);
int kvm_vcpu_kvmclock_ctrl(
	struct kvm_vcpu *vcpu); /* the guest was paused; -EINVAL when it has no kvmclock */

#endif
