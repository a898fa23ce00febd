/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctls of a vCPU. */
#include "base/fd.h"
#include "vmm/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int vcpu_ioctl(const struct kvm_vcpu *vcpu, unsigned long request, void *arg)
{
	int rc = ioctl(vcpu->fd, request, arg);

	return rc < 0 ? -errno : rc;
}

/* For requests that only read what arg points to. */
static int vcpu_ioctl_const(const struct kvm_vcpu *vcpu, unsigned long request, const void *arg)
{
	int rc = ioctl(vcpu->fd, request, arg);

	return rc < 0 ? -errno : rc;
}

int kvm_vcpu_init(struct kvm_vm *vm, unsigned apic_id, struct kvm_vcpu *vcpu, struct err *err)
{
	int rc;

	*vcpu = (struct kvm_vcpu){
		.id = apic_id,
		.run_size = (size_t)vm->run_size,
		.xsave2 = vm->caps.xsave_size > sizeof(struct kvm_xsave),
	};
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)apic_id);
	if (vcpu->fd < 0) {
		rc = -errno;
		vcpu->fd = -1;
		return err_set_errno(err, rc, "KVM cannot create the vCPU with APIC id %u",
				     apic_id);
	}
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		rc = -errno;
		vcpu->run = NULL;
		kvm_vcpu_fini(vcpu);
		return err_set_errno(err, rc, "Cannot map the vCPU with APIC id %u", apic_id);
	}
	return 0;
}

void kvm_vcpu_fini(struct kvm_vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	vcpu->run = NULL;
	fd_close(&vcpu->fd);
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_CPUID2, cpuid);
}

int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	return vcpu_ioctl(vcpu, KVM_GET_MSRS, msrs);
}

int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_MSRS, msrs);
}

int kvm_vcpu_get_xsave(struct kvm_vcpu *vcpu, struct kvm_xsave *xsave)
{
	return vcpu_ioctl(vcpu, vcpu->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, xsave);
}

int kvm_vcpu_set_xsave(struct kvm_vcpu *vcpu, const struct kvm_xsave *xsave)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_XSAVE, xsave);
}

int kvm_vcpu_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs)
{
	return vcpu_ioctl(vcpu, KVM_GET_REGS, regs);
}

int kvm_vcpu_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_REGS, regs);
}

int kvm_vcpu_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs)
{
	return vcpu_ioctl(vcpu, KVM_GET_SREGS, sregs);
}

int kvm_vcpu_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_SREGS, sregs);
}

int kvm_vcpu_get_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *lapic)
{
	return vcpu_ioctl(vcpu, KVM_GET_LAPIC, lapic);
}

int kvm_vcpu_set_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_LAPIC, lapic);
}

int kvm_vcpu_get_fpu(struct kvm_vcpu *vcpu, struct kvm_fpu *fpu)
{
	return vcpu_ioctl(vcpu, KVM_GET_FPU, fpu);
}

int kvm_vcpu_set_fpu(struct kvm_vcpu *vcpu, const struct kvm_fpu *fpu)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_FPU, fpu);
}

int kvm_vcpu_get_xcrs(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs)
{
	return vcpu_ioctl(vcpu, KVM_GET_XCRS, xcrs);
}

int kvm_vcpu_set_xcrs(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_XCRS, xcrs);
}

int kvm_vcpu_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *regs)
{
	return vcpu_ioctl(vcpu, KVM_GET_DEBUGREGS, regs);
}

int kvm_vcpu_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *regs)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_DEBUGREGS, regs);
}

int kvm_vcpu_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events)
{
	return vcpu_ioctl(vcpu, KVM_GET_VCPU_EVENTS, events);
}

int kvm_vcpu_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_VCPU_EVENTS, events);
}

int kvm_vcpu_get_mp_state(struct kvm_vcpu *vcpu, struct kvm_mp_state *state)
{
	return vcpu_ioctl(vcpu, KVM_GET_MP_STATE, state);
}

int kvm_vcpu_set_mp_state(struct kvm_vcpu *vcpu, const struct kvm_mp_state *state)
{
	return vcpu_ioctl_const(vcpu, KVM_SET_MP_STATE, state);
}

int kvm_vcpu_get_tsc_khz(struct kvm_vcpu *vcpu)
{
	int rc = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	return rc < 0 ? -errno : rc;
}

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, unsigned khz)
{
	return ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0 ? -errno : 0;
}

int kvm_vcpu_nmi(struct kvm_vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_NMI, 0) < 0 ? -errno : 0;
}

int kvm_vcpu_kvmclock_ctrl(struct kvm_vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) < 0 ? -errno : 0;
}
