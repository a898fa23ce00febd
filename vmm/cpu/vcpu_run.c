/* SPDX-License-Identifier: Apache-2.0 */
/* What a vCPU's thread does while the guest runs: KVM_RUN, and its exits. Runs without a lock. */
#include "base/log.h"
#include "vmm/cpu/cpus_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void count(atomic_uint_fast64_t *counter)
{
	/* One writer: no locked instruction is needed. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* --- a vCPU that cannot go on ----------------------------------------------------------------- */

static void log_segment(const char *name, const struct kvm_segment *s)
{
	log_error("  %s %04x base 0x%" PRIx64 " limit 0x%x type 0x%x%s%s", name, s->selector,
		  (uint64_t)s->base, s->limit, s->type, s->l ? " long" : "", s->db ? " 32" : "");
}

static void log_registers(struct vcpu *vcpu)
{
	struct kvm_sregs s = {0};
	struct kvm_regs r = {0};

	if (kvm_vcpu_get_regs(&vcpu->kvm, &r) < 0 || kvm_vcpu_get_sregs(&vcpu->kvm, &s) < 0) {
		log_error("  registers cannot be read");
		return;
	}
	log_error("  rip 0x%" PRIx64 " rflags 0x%" PRIx64 " rsp 0x%" PRIx64 " rbp 0x%" PRIx64,
		  (uint64_t)r.rip, (uint64_t)r.rflags, (uint64_t)r.rsp, (uint64_t)r.rbp);
	log_error("  rax 0x%" PRIx64 " rbx 0x%" PRIx64 " rcx 0x%" PRIx64 " rdx 0x%" PRIx64,
		  (uint64_t)r.rax, (uint64_t)r.rbx, (uint64_t)r.rcx, (uint64_t)r.rdx);
	log_error("  rsi 0x%" PRIx64 " rdi 0x%" PRIx64 " r8 0x%" PRIx64 " r9 0x%" PRIx64,
		  (uint64_t)r.rsi, (uint64_t)r.rdi, (uint64_t)r.r8, (uint64_t)r.r9);
	log_error("  cr0 0x%" PRIx64 " cr2 0x%" PRIx64 " cr3 0x%" PRIx64 " cr4 0x%" PRIx64
		  " efer 0x%" PRIx64,
		  (uint64_t)s.cr0, (uint64_t)s.cr2, (uint64_t)s.cr3, (uint64_t)s.cr4,
		  (uint64_t)s.efer);
	log_segment("cs", &s.cs);
	log_segment("ss", &s.ss);
	log_segment("ds", &s.ds);
}

/* Tells why, with the registers in the log, and halts. */
static void fail(struct vcpu *vcpu, const char *why)
{
	struct err err = ERR_INIT;

	err_set(&err, -EIO, "vCPU %u cannot go on: %s", vcpu->index, why);
	log_error("%s", err_message(&err, 0));
	log_registers(vcpu);
	cpus_halt_caller();
	if (vcpu->cpus->hooks.failed)
		vcpu->cpus->hooks.failed(vcpu->cpus->hooks.arg, &err);
}

static void internal_error(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->kvm.run;
	char why[160];
	int n;

	switch (run->internal.suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		n = snprintf(why, sizeof(why), "KVM cannot emulate an instruction");
		if (run->emulation_failure.ndata >= 3 &&
		    run->emulation_failure.flags &
			    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
			for (unsigned i = 0; i < 15; i++)
				n += snprintf(why + n, sizeof(why) - (size_t)n, "%s%02x",
					      i ? " " : ", the next bytes are ",
					      run->emulation_failure.insn_bytes[i]);
		break;
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		snprintf(why, sizeof(why), "KVM met exceptions that cannot come together");
		break;
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		snprintf(why, sizeof(why), "KVM cannot deliver an event to the guest");
		break;
	default: snprintf(why, sizeof(why), "KVM internal error %u", run->internal.suberror); break;
	}
	fail(vcpu, why);
}

static void unknown_exit(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->kvm.run;
	char why[96];

	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		snprintf(why, sizeof(why),
			 "the processor refuses to enter the guest (0x%" PRIx64 ")",
			 (uint64_t)run->fail_entry.hardware_entry_failure_reason);
	else if (run->exit_reason == KVM_EXIT_UNKNOWN)
		snprintf(why, sizeof(why), "unknown hardware exit 0x%" PRIx64,
			 (uint64_t)run->hw.hardware_exit_reason);
	else
		snprintf(why, sizeof(why), "KVM exit %u has no handler", run->exit_reason);
	fail(vcpu, why);
}

/* --- exits ------------------------------------------------------------------------------------ */

/* One access, or several of a string instruction with a repeat prefix, all to one port. */
static void port_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->kvm.run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(vcpu->cpus->pio, run->io.port, data, size);
		else
			bus_read(vcpu->cpus->pio, run->io.port, data, size);
	}
}

static void mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->kvm.run;
	unsigned len = MIN(run->mmio.len, (uint32_t)sizeof(run->mmio.data));

	if (run->mmio.is_write)
		bus_write(vcpu->cpus->mmio, run->mmio.phys_addr, run->mmio.data, len);
	else
		bus_read(vcpu->cpus->mmio, run->mmio.phys_addr, run->mmio.data, len);
}

static void request(struct vcpu *vcpu, enum guest_request what)
{
	cpus_halt_caller();
	if (vcpu->cpus->hooks.guest_request)
		vcpu->cpus->hooks.guest_request(vcpu->cpus->hooks.arg, what);
}

static void system_event(struct vcpu *vcpu)
{
	switch (vcpu->kvm.run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN: request(vcpu, GUEST_POWER_OFF); break;
	case KVM_SYSTEM_EVENT_RESET: request(vcpu, GUEST_RESET); break;
	case KVM_SYSTEM_EVENT_CRASH: request(vcpu, GUEST_PANIC); break;
	default: unknown_exit(vcpu); break;
	}
}

static void dispatch(struct vcpu *vcpu)
{
	switch (vcpu->kvm.run->exit_reason) {
	case KVM_EXIT_IO:
		count(&vcpu->counters.pio);
		port_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		count(&vcpu->counters.mmio);
		mmio(vcpu);
		break;
	case KVM_EXIT_IOAPIC_EOI:
		count(&vcpu->counters.ioapic_eoi);
		if (vcpu->cpus->ioapic)
			ioapic_eoi(vcpu->cpus->ioapic, vcpu->kvm.run->eoi.vector);
		break;
	case KVM_EXIT_SHUTDOWN: request(vcpu, GUEST_TRIPLE_FAULT); break;
	case KVM_EXIT_SYSTEM_EVENT: system_event(vcpu); break;
	case KVM_EXIT_INTERNAL_ERROR: internal_error(vcpu); break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_SET_TPR: break;
	default: unknown_exit(vcpu); break;
	}
}

void vcpu_run(struct vcpu *vcpu)
{
	for (;;) {
		int rc = kvm_vcpu_run(&vcpu->kvm);

		count(&vcpu->counters.exits);
		if (rc == -EINTR) {
			count(&vcpu->counters.kicks);
			return;
		}
		/* An application processor woke from waiting for INIT and SIPI. */
		if (rc == -EAGAIN)
			continue;
		if (rc < 0) {
			char why[64];

			snprintf(why, sizeof(why), "KVM_RUN: %s", strerror(-rc));
			fail(vcpu, why);
			return;
		}
		dispatch(vcpu);
	}
}
