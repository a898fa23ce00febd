/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's registers: at power-on, and out to a snapshot and back.
 *
 * Theory of operation
 *
 * The same struct serves both. What cpus_new() made is read back from KVM once and is what reset
 * returns to, so nothing that a guest changed can survive a reboot in place for want of being
 * listed.
 *
 * The order of the parts matters. Reading: the MP state first, because asking for it makes KVM
 * process a pending INIT or SIPI; events last. Writing: special registers before the local APIC
 * (they hold its base and mode), the local APIC before MSRs (the deadline timer counts only in the
 * mode that it sets).
 *
 * KVM's structs are stable ABI and this machine is little-endian, so they are kept as bytes.
 */
#include "base/state.h"
#include "vmm/cpu/cpus_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MAX_MSRS  512
#define MAX_XSAVE 16384 /* AMX takes 11 KiB */

#define MSR_MISC_ENABLE		 0x1a0
#define MISC_ENABLE_FAST_STRINGS 0x1
#define MSR_MTRR_DEF_TYPE	 0x2ff
#define MTRR_DEF_TYPE_WB	 0x806 /* enabled, default type write-back */

/* Local APIC registers and delivery modes: Intel SDM volume 3, 11.5.1. */
#define APIC_LVT_LINT0	   0x350
#define APIC_LVT_LINT1	   0x360
#define DELIVERY_MODE_MASK 0x700
#define DELIVERY_NMI	   0x400
#define DELIVERY_EXTINT	   0x700

struct vcpu_state {
	uint32_t apic_id;
	uint32_t tsc_khz; /* 0: not known */
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	uint32_t xsave_size;
	uint8_t xsave[MAX_XSAVE] __attribute__((aligned(64)));
	uint32_t num_msrs;
	uint32_t msr_index[MAX_MSRS];
	uint64_t msr_value[MAX_MSRS];
};

#define BYTES(member_)                                                         \
	{                                                                      \
		.name = #member_, .type = STATE_U8,                            \
		.offset = offsetof(struct vcpu_state, member_),                \
		.count = sizeof(((struct vcpu_state *)0)->member_), .since = 1 \
	}

static const struct state_field fields[] = {
	STATE_FIELD(STATE_U32, struct vcpu_state, apic_id),
	STATE_FIELD(STATE_U32, struct vcpu_state, tsc_khz),
	BYTES(mp_state),
	BYTES(regs),
	BYTES(sregs),
	BYTES(xcrs),
	BYTES(debugregs),
	BYTES(lapic),
	BYTES(events),
	STATE_FIELD(STATE_U32, struct vcpu_state, xsave_size),
	BYTES(xsave),
	STATE_FIELD(STATE_U32, struct vcpu_state, num_msrs),
	STATE_ARRAY(STATE_U32, struct vcpu_state, msr_index),
	STATE_ARRAY(STATE_U64, struct vcpu_state, msr_value),
};

static const struct state_layout layout = {
	.name = "vcpu",
	.version = 1,
	.fields = fields,
	.num_fields = ARRAY_SIZE(fields),
	.struct_size = sizeof(struct vcpu_state),
};

/* --- MSRs ------------------------------------------------------------------------------------- */

static struct kvm_msrs *new_msrs(uint32_t num)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + num * sizeof(msrs->entries[0]));

	if (msrs)
		msrs->nmsrs = num;
	return msrs;
}

static int get_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	AUTO_FREE struct kvm_msrs *msrs = new_msrs(1);
	int rc;

	if (!msrs)
		return -ENOMEM;
	msrs->entries[0].index = index;
	rc = kvm_vcpu_get_msrs(vcpu, msrs);
	if (rc < 0)
		return rc;
	*ret_value = msrs->entries[0].data;
	return rc == 1 ? 0 : -EIO;
}

static int set_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
	AUTO_FREE struct kvm_msrs *msrs = new_msrs(1);
	int rc;

	if (!msrs)
		return -ENOMEM;
	msrs->entries[0].index = index;
	msrs->entries[0].data = value;
	rc = kvm_vcpu_set_msrs(vcpu, msrs);
	if (rc < 0)
		return rc;
	return rc == 1 ? 0 : -EIO;
}

/* KVM reads in order and stops at one that it does not have after all: that one is left out. */
static int get_msrs(struct vcpu *vcpu, struct vcpu_state *state)
{
	const struct kvm_msr_list *list = vcpu->cpus->msr_list;
	uint32_t next = 0;

	state->num_msrs = 0;
	while (next < list->nmsrs) {
		AUTO_FREE struct kvm_msrs *msrs = new_msrs(list->nmsrs - next);
		int rc;

		if (!msrs)
			return -ENOMEM;
		for (uint32_t i = 0; i < msrs->nmsrs; i++)
			msrs->entries[i].index = list->indices[next + i];
		rc = kvm_vcpu_get_msrs(&vcpu->kvm, msrs);
		if (rc < 0)
			return rc;
		if (state->num_msrs + (uint32_t)rc > MAX_MSRS)
			return -E2BIG;
		for (int i = 0; i < rc; i++) {
			state->msr_index[state->num_msrs] = msrs->entries[i].index;
			state->msr_value[state->num_msrs++] = msrs->entries[i].data;
		}
		next += (uint32_t)rc + 1;
	}
	return 0;
}

/* KVM stops at the first that it does not take. That is no loss if it holds the value anyway (it
 * lists some that are read-only). */
static int set_msrs(struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
	uint32_t next = 0;

	while (next < state->num_msrs) {
		AUTO_FREE struct kvm_msrs *msrs = new_msrs(state->num_msrs - next);
		uint64_t held = 0;
		int rc;

		if (!msrs)
			return err_set(err, -ENOMEM, "Out of memory");
		for (uint32_t i = 0; i < msrs->nmsrs; i++) {
			msrs->entries[i].index = state->msr_index[next + i];
			msrs->entries[i].data = state->msr_value[next + i];
		}
		rc = kvm_vcpu_set_msrs(&vcpu->kvm, msrs);
		if (rc < 0)
			return err_set_errno(err, rc, "KVM takes no MSRs");
		next += (uint32_t)rc;
		if (next == state->num_msrs)
			break;
		rc = get_msr(&vcpu->kvm, state->msr_index[next], &held);
		if (rc < 0 || held != state->msr_value[next])
			return err_set(err, -EIO, "KVM does not take 0x%" PRIx64 " for MSR 0x%x",
				       state->msr_value[next], state->msr_index[next]);
		next++;
	}
	return 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Says which part failed. */
static int part(int rc, const char *verb, const char *what, struct err *err)
{
	return rc < 0 ? err_set_errno(err, rc, "Cannot %s the %s", verb, what) : 0;
}

static int get_state(struct vcpu *vcpu, struct vcpu_state *state, struct err *err)
{
	struct kvm_vcpu *kvm = &vcpu->kvm;
	struct kvm_xsave *xsave = (struct kvm_xsave *)(void *)state->xsave;
	int rc;

	memset(state, 0, sizeof(*state));
	state->apic_id = kvm->id;
	state->tsc_khz = vcpu->cpus->tsc_khz;
	state->xsave_size = vcpu->cpus->kvm->caps.xsave_size;
	if (state->xsave_size > MAX_XSAVE)
		return err_set(err, -E2BIG, "The host's extended state of %u bytes is too large",
			       state->xsave_size);
	rc = part(kvm_vcpu_get_mp_state(kvm, &state->mp_state), "read", "MP state", err);
	if (rc == 0)
		rc = part(kvm_vcpu_get_regs(kvm, &state->regs), "read", "registers", err);
	if (rc == 0)
		rc = part(kvm_vcpu_get_sregs(kvm, &state->sregs), "read", "special registers", err);
	if (rc == 0)
		rc = part(kvm_vcpu_get_xcrs(kvm, &state->xcrs), "read", "XCRs", err);
	if (rc == 0)
		rc = part(kvm_vcpu_get_xsave(kvm, xsave), "read", "extended state", err);
	if (rc == 0)
		rc = part(kvm_vcpu_get_debugregs(kvm, &state->debugregs), "read", "debug registers",
			  err);
	if (rc == 0)
		rc = part(kvm_vcpu_get_lapic(kvm, &state->lapic), "read", "local APIC", err);
	if (rc == 0)
		rc = part(get_msrs(vcpu, state), "read", "MSRs", err);
	if (rc == 0)
		rc = part(kvm_vcpu_get_events(kvm, &state->events), "read", "pending events", err);
	return rc;
}

static int set_state(struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
	const struct kvm_xsave *xsave = (const struct kvm_xsave *)(const void *)state->xsave;
	struct kvm_vcpu *kvm = &vcpu->kvm;
	int rc;

	rc = part(kvm_vcpu_set_regs(kvm, &state->regs), "set", "registers", err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_sregs(kvm, &state->sregs), "set", "special registers", err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_xcrs(kvm, &state->xcrs), "set", "XCRs", err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_xsave(kvm, xsave), "set", "extended state", err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_debugregs(kvm, &state->debugregs), "set", "debug registers",
			  err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_lapic(kvm, &state->lapic), "set", "local APIC", err);
	if (rc == 0)
		rc = set_msrs(vcpu, state, err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_events(kvm, &state->events), "set", "pending events", err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_mp_state(kvm, &state->mp_state), "set", "MP state", err);
	return rc;
}

/* --- power-on --------------------------------------------------------------------------------- */

static int set_boot_msrs(struct kvm_vcpu *vcpu, struct err *err)
{
	uint64_t misc = 0;
	int rc;

	/* Firmware would do this. Guests without MTRRs would run uncached. */
	rc = part(set_msr(vcpu, MSR_MTRR_DEF_TYPE, MTRR_DEF_TYPE_WB), "set", "MTRR default", err);
	if (rc == 0)
		rc = part(get_msr(vcpu, MSR_MISC_ENABLE, &misc), "read", "IA32_MISC_ENABLE", err);
	if (rc == 0)
		rc = part(set_msr(vcpu, MSR_MISC_ENABLE, misc | MISC_ENABLE_FAST_STRINGS), "set",
			  "IA32_MISC_ENABLE", err);
	return rc;
}

static void set_delivery(struct kvm_lapic_state *lapic, unsigned reg, uint32_t mode)
{
	uint32_t v;

	memcpy(&v, &lapic->regs[reg], sizeof(v));
	v = (v & ~(uint32_t)DELIVERY_MODE_MASK) | mode;
	memcpy(&lapic->regs[reg], &v, sizeof(v));
}

static int set_boot_lapic(struct kvm_vcpu *vcpu, struct err *err)
{
	struct kvm_lapic_state lapic;
	int rc;

	rc = part(kvm_vcpu_get_lapic(vcpu, &lapic), "read", "local APIC", err);
	if (rc < 0)
		return rc;
	set_delivery(&lapic, APIC_LVT_LINT0, DELIVERY_EXTINT);
	set_delivery(&lapic, APIC_LVT_LINT1, DELIVERY_NMI);
	return part(kvm_vcpu_set_lapic(vcpu, &lapic), "set", "local APIC", err);
}

int vcpu_set_up(struct vcpu *vcpu, const struct kvm_cpuid2 *cpuid, struct err *err)
{
	int rc;

	vcpu->power_on = aligned_alloc(64, align_up(sizeof(*vcpu->power_on), 64));
	if (!vcpu->power_on)
		return err_set(err, -ENOMEM, "Out of memory");
	rc = part(kvm_vcpu_set_cpuid(&vcpu->kvm, cpuid), "set", "CPUID", err);
	if (rc == 0)
		rc = set_boot_msrs(&vcpu->kvm, err);
	if (rc == 0)
		rc = set_boot_lapic(&vcpu->kvm, err);
	if (rc == 0)
		rc = get_state(vcpu, vcpu->power_on, err);
	return rc;
}

int vcpu_reset(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err)
{
	struct kvm_sregs sregs = vcpu->power_on->sregs;
	struct kvm_regs regs;
	int rc;

	rc = set_state(vcpu, vcpu->power_on, err);
	if (rc < 0 || !entry)
		return rc;
	vcpu_boot_regs(entry, &regs, &sregs);
	rc = part(kvm_vcpu_set_sregs(&vcpu->kvm, &sregs), "set", "special registers", err);
	if (rc == 0)
		rc = part(kvm_vcpu_set_regs(&vcpu->kvm, &regs), "set", "registers", err);
	return rc;
}

/* --- snapshots -------------------------------------------------------------------------------- */

int vcpu_save(struct vcpu *vcpu, struct buf *out, struct err *err)
{
	AUTO_FREE struct vcpu_state *state = aligned_alloc(64, align_up(sizeof(*state), 64));
	int rc;

	if (!state)
		return err_set(err, -ENOMEM, "Out of memory");
	rc = get_state(vcpu, state, err);
	if (rc < 0)
		return rc;
	rc = state_save(out, &layout, state);
	return rc < 0 ? err_set_errno(err, rc, "Cannot save the registers") : 0;
}

static int check_loaded(const struct vcpu *vcpu, const struct vcpu_state *state, struct err *err)
{
	if (state->apic_id != vcpu->kvm.id)
		return err_set(err, -EPROTO, "It is saved with APIC id %u, here it has %u",
			       state->apic_id, vcpu->kvm.id);
	if (state->num_msrs > MAX_MSRS)
		return err_set(err, -EBADMSG, "%u MSRs are saved, %u are possible", state->num_msrs,
			       MAX_MSRS);
	if (state->xsave_size != vcpu->cpus->kvm->caps.xsave_size)
		return err_set(err, -EPROTO, "Its extended state has %u bytes, this host's has %u",
			       state->xsave_size, vcpu->cpus->kvm->caps.xsave_size);
	return 0;
}

/* A guest that knows one frequency cannot live with another, but for what NTP evens out (KVM's own
 * tolerance is 250 ppm). */
static int load_tsc_khz(struct vcpu *vcpu, uint32_t khz, struct err *err)
{
	uint32_t here = vcpu->cpus->tsc_khz;
	int rc;

	if (!khz || !here || (uint64_t)(khz > here ? khz - here : here - khz) * 4000 <= here)
		return 0;
	rc = kvm_vcpu_set_tsc_khz(&vcpu->kvm, khz);
	if (rc < 0)
		return err_set_errno(err, rc,
				     "The guest's TSC runs at %u kHz, the host's at %u, and KVM "
				     "cannot scale it",
				     khz, here);
	return 0;
}

int vcpu_load(struct vcpu *vcpu, struct cursor *in, struct err *err)
{
	AUTO_FREE struct vcpu_state *state = aligned_alloc(64, align_up(sizeof(*state), 64));
	int rc;

	if (!state)
		return err_set(err, -ENOMEM, "Out of memory");
	memset(state, 0, sizeof(*state));
	rc = state_load(in, &layout, state, err);
	if (rc == 0)
		rc = check_loaded(vcpu, state, err);
	if (rc == 0)
		rc = load_tsc_khz(vcpu, state->tsc_khz, err);
	if (rc == 0)
		rc = set_state(vcpu, state, err);
	return rc;
}
