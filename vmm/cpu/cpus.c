/* SPDX-License-Identifier: Apache-2.0 */
/* Making vCPUs, and the life of their threads. The theory of operation is in cpus.h. */
#include "vmm/cpu/cpus.h"

#include "base/log.h"
#include "base/state.h"
#include "vmm/cpu/cpuid.h"
#include "vmm/cpu/cpus_private.h"

#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Not a real-time signal: these are refused when the user's others have filled the queue. And
 * ignored by default, in case that somebody else sends it. */
#define KICK_SIGNAL SIGURG

#define XFEATURE_TILE_DATA 18 /* AMX's large state, which a process must ask for */

static _Thread_local struct vcpu *current;

/* --- a vCPU's thread -------------------------------------------------------------------------- */

static void on_kick(int sig)
{
	/* Only there to interrupt KVM_RUN. */
	(void)sig;
}

static void settle_pause(struct vcpu *vcpu)
{
	struct quiesce *q = vcpu->pausing;

	vcpu->pausing = NULL;
	if (q)
		quiesce_release(q);
}

/* Rests for as long as it must. Whether to run then. */
static bool await_run(struct vcpu *vcpu)
{
	struct cpus *cpus = vcpu->cpus;
	bool rested = false;
	bool run, nmi = false;

	pthread_mutex_lock(&cpus->lock);
	vcpu->halted |= vcpu->halting;
	vcpu->halting = false;
	while (cpus->target == CPUS_PARK || (cpus->target == CPUS_RUN && vcpu->halted)) {
		rested = true;
		if (!vcpu->parked) {
			vcpu->parked = true;
			settle_pause(vcpu);
			pthread_cond_broadcast(&cpus->changed);
		}
		pthread_cond_wait(&cpus->changed, &cpus->lock);
	}
	/* A stop may have overtaken the pause. */
	settle_pause(vcpu);
	run = cpus->target == CPUS_RUN;
	vcpu->parked = !run;
	if (run) {
		vcpu->kvm.run->immediate_exit = 0;
		nmi = vcpu->nmi;
		vcpu->nmi = false;
	}
	pthread_mutex_unlock(&cpus->lock);
	/* Keeps the guest's watchdog quiet about the time it missed; guests without a kvmclock
	 * have none to tell. */
	if (run && rested)
		kvm_vcpu_kvmclock_ctrl(&vcpu->kvm);
	if (nmi && kvm_vcpu_nmi(&vcpu->kvm) < 0)
		log_warn("vCPU %u takes no NMI", vcpu->index);
	return run;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	sigset_t kick;

	current = vcpu;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	pthread_mutex_lock(&vcpu->cpus->lock);
	vcpu->tid = (pid_t)syscall(SYS_gettid);
	pthread_cond_broadcast(&vcpu->cpus->changed);
	pthread_mutex_unlock(&vcpu->cpus->lock);
	while (await_run(vcpu))
		vcpu_run(vcpu);
	return NULL;
}

/* Has it look at the target; under the lock. The flag stops the way in, the signal brings it out.
 */
static void kick(struct vcpu *vcpu)
{
	vcpu->kvm.run->immediate_exit = 1;
	pthread_kill(vcpu->thread.id, KICK_SIGNAL);
}

void cpus_halt_caller(void)
{
	struct vcpu *vcpu = current;

	if (!vcpu)
		return;
	vcpu->halting = true;
	pthread_mutex_lock(&vcpu->cpus->lock);
	vcpu->kvm.run->immediate_exit = 1;
	pthread_mutex_unlock(&vcpu->cpus->lock);
}

int cpus_current(void)
{
	return current ? (int)current->index : -1;
}

/* --- start, pause, stop ----------------------------------------------------------------------- */

void cpus_start(struct cpus *cpus)
{
	pthread_mutex_lock(&cpus->lock);
	if (cpus->target == CPUS_PARK) {
		cpus->target = CPUS_RUN;
		/* Of a pause that this one overtakes: the next may come with another q. */
		for (unsigned i = 0; i < cpus->num_vcpus; i++)
			settle_pause(&cpus->vcpus[i]);
		pthread_cond_broadcast(&cpus->changed);
	}
	pthread_mutex_unlock(&cpus->lock);
}

void cpus_resume(struct cpus *cpus)
{
	cpus_start(cpus);
}

void cpus_pause(struct cpus *cpus, struct quiesce *q)
{
	pthread_mutex_lock(&cpus->lock);
	if (cpus->target != CPUS_STOP) {
		cpus->target = CPUS_PARK;
		for (unsigned i = 0; i < cpus->num_vcpus; i++) {
			struct vcpu *vcpu = &cpus->vcpus[i];

			if (vcpu->parked || vcpu->pausing)
				continue;
			quiesce_hold(q);
			vcpu->pausing = q;
			kick(vcpu);
		}
	}
	pthread_mutex_unlock(&cpus->lock);
}

void cpus_stop(struct cpus *cpus)
{
	pthread_mutex_lock(&cpus->lock);
	cpus->target = CPUS_STOP;
	for (unsigned i = 0; i < cpus->num_vcpus; i++)
		if (cpus->vcpus[i].thread.started && !cpus->vcpus[i].parked)
			kick(&cpus->vcpus[i]);
	pthread_cond_broadcast(&cpus->changed);
	pthread_mutex_unlock(&cpus->lock);
	for (unsigned i = 0; i < cpus->num_vcpus; i++)
		thread_join(&cpus->vcpus[i].thread);
}

void cpus_nmi(struct cpus *cpus)
{
	pthread_mutex_lock(&cpus->lock);
	if (cpus->target != CPUS_STOP) {
		for (unsigned i = 0; i < cpus->num_vcpus; i++) {
			cpus->vcpus[i].nmi = true;
			if (!cpus->vcpus[i].parked)
				kick(&cpus->vcpus[i]);
		}
	}
	pthread_mutex_unlock(&cpus->lock);
}

/* --- making and freeing ----------------------------------------------------------------------- */

int cpus_phys_bits(struct kvm_vm *kvm, unsigned max_phys_bits, struct err *err)
{
	AUTO_FREE struct kvm_cpuid2 *cpuid = NULL;
	unsigned bits;
	int rc;

	rc = kvm_get_supported_cpuid(kvm, &cpuid, err);
	if (rc < 0)
		return rc;
	bits = MIN(cpuid_phys_bits(cpuid), max_phys_bits);
	if (bits < 32 || bits > 52)
		return err_set(
			err, -EINVAL,
			"The guest would have %u physical address bits; 32 to 52 are possible",
			bits);
	return (int)bits;
}

static int permit_amx(struct kvm_vm *kvm, struct err *err)
{
	if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XFEATURE_TILE_DATA) < 0)
		return err_set_errno(err, -errno, "The host does not grant AMX to guests");
	kvm_vm_refresh_xsave_size(kvm);
	return 0;
}

static int check_params(const struct cpus_params *params, const struct kvm_vm *kvm, struct err *err)
{
	const struct cpu_topology *t = &params->topology;
	uint64_t product = (uint64_t)t->threads_per_core * t->cores_per_die;

	if (!params->boot_vcpus || params->boot_vcpus > params->max_vcpus)
		return err_set(err, -EINVAL, "%u vCPUs of at most %u make no machine",
			       params->boot_vcpus, params->max_vcpus);
	if (params->boot_vcpus > kvm->caps.max_vcpus)
		return err_set(err, -E2BIG, "The host's KVM allows %u vCPUs, not %u",
			       kvm->caps.max_vcpus, params->boot_vcpus);
	if (t->threads_per_core &&
	    (__builtin_mul_overflow(product, t->dies_per_package, &product) ||
	     __builtin_mul_overflow(product, t->packages, &product) || product < params->max_vcpus))
		return err_set(err, -EINVAL, "The CPU topology has no room for %u vCPUs",
			       params->max_vcpus);
	return 0;
}

static int make_vcpus(struct cpus *cpus, unsigned count, struct err *err)
{
	int rc;

	for (unsigned i = 0; i < count; i++) {
		struct vcpu *vcpu = &cpus->vcpus[i];

		vcpu->cpus = cpus;
		vcpu->index = i;
		vcpu->parked = true;
		rc = kvm_vcpu_init(cpus->kvm, cpu_topology_apic_id(&cpus->topology, i), &vcpu->kvm,
				   err);
		if (rc < 0)
			return rc;
		cpus->num_vcpus++;
	}
	rc = kvm_vcpu_get_tsc_khz(&cpus->vcpus[0].kvm);
	cpus->tsc_khz = rc > 0 ? (unsigned)rc : 0;
	return 0;
}

static int set_up_vcpus(struct cpus *cpus, const struct cpus_params *params, struct err *err)
{
	struct cpuid_params cpuid_params = {
		.topology = cpus->topology,
		.phys_bits = params->phys_bits,
		.tsc_khz = cpus->tsc_khz,
		.tsc_deadline = cpus->kvm->caps.tsc_deadline,
		.nested = params->nested,
		.amx = params->amx,
		.msi_ext_dest_id = params->msi_ext_dest_id,
	};
	AUTO_FREE struct kvm_cpuid2 *supported = NULL;
	AUTO_FREE struct kvm_cpuid2 *cpuid = NULL;
	int rc;

	rc = kvm_get_supported_cpuid(cpus->kvm, &supported, err);
	if (rc < 0)
		return rc;
	if (cpuid_build(supported, &cpuid_params, &cpuid) < 0)
		return err_set(err, -ENOMEM, "Out of memory");
	rc = kvm_get_msr_index_list(cpus->kvm, &cpus->msr_list);
	if (rc < 0)
		return err_set_errno(err, rc, "KVM does not tell which MSRs it keeps");
	for (unsigned i = 0; i < cpus->num_vcpus; i++) {
		cpuid_set_apic_id(cpuid, &cpus->topology, cpus->vcpus[i].kvm.id);
		rc = vcpu_set_up(&cpus->vcpus[i], cpuid, err);
		if (rc < 0)
			return err_wrap(err, rc, "Cannot set up vCPU %u", i);
	}
	return 0;
}

static int start_threads(struct cpus *cpus, struct err *err)
{
	struct sigaction action = {.sa_handler = on_kick};
	int rc;

	/* No SA_RESTART: KVM_RUN is to return. */
	if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
		return err_set_errno(err, -errno, "Cannot set the vCPUs' signal up");
	for (unsigned i = 0; i < cpus->num_vcpus; i++) {
		char name[24];

		snprintf(name, sizeof(name), "vcpu%u", i);
		rc = thread_start(&cpus->vcpus[i].thread, name, THREAD_VCPU, vcpu_thread,
				  &cpus->vcpus[i]);
		if (rc < 0)
			return err_set_errno(err, rc, "Cannot start the thread of vCPU %u", i);
	}
	pthread_mutex_lock(&cpus->lock);
	for (unsigned i = 0; i < cpus->num_vcpus; i++)
		while (!cpus->vcpus[i].tid)
			pthread_cond_wait(&cpus->changed, &cpus->lock);
	pthread_mutex_unlock(&cpus->lock);
	return 0;
}

int cpus_new(const struct cpus_params *params, struct kvm_vm *kvm, struct bus *pio,
	     struct bus *mmio, struct ioapic *ioapic, const struct cpus_hooks *hooks,
	     struct cpus **ret_cpus, struct err *err)
{
	struct cpus *cpus;
	int rc;

	rc = check_params(params, kvm, err);
	if (rc == 0 && params->amx)
		rc = permit_amx(kvm, err);
	if (rc < 0)
		return rc;
	cpus = calloc(1, sizeof(*cpus) + params->boot_vcpus * sizeof(cpus->vcpus[0]));
	if (!cpus)
		return err_set(err, -ENOMEM, "Out of memory");
	cpus->kvm = kvm;
	cpus->pio = pio;
	cpus->mmio = mmio;
	cpus->ioapic = ioapic;
	cpus->hooks = *hooks;
	cpus->topology = params->topology.threads_per_core ? params->topology
							   : cpu_topology_flat(params->max_vcpus);
	pthread_mutex_init(&cpus->lock, NULL);
	pthread_cond_init(&cpus->changed, NULL);
	rc = make_vcpus(cpus, params->boot_vcpus, err);
	if (rc == 0)
		rc = set_up_vcpus(cpus, params, err);
	if (rc == 0)
		rc = start_threads(cpus, err);
	if (rc == 0)
		rc = cpus_place(cpus, params, err);
	if (rc < 0) {
		cpus_free(cpus);
		return rc;
	}
	*ret_cpus = cpus;
	return 0;
}

void cpus_free(struct cpus *cpus)
{
	if (!cpus)
		return;
	cpus_stop(cpus);
	for (unsigned i = 0; i < cpus->num_vcpus; i++) {
		kvm_vcpu_fini(&cpus->vcpus[i].kvm);
		free(cpus->vcpus[i].power_on);
	}
	free(cpus->msr_list);
	pthread_cond_destroy(&cpus->changed);
	pthread_mutex_destroy(&cpus->lock);
	free(cpus);
}

/* --- state ------------------------------------------------------------------------------------ */

int cpus_set_boot_state(struct cpus *cpus, const struct boot_entry *entry, struct err *err)
{
	for (unsigned i = 0; i < cpus->num_vcpus; i++) {
		struct vcpu *vcpu = &cpus->vcpus[i];
		int rc = vcpu_reset(vcpu, i == 0 ? entry : NULL, err);

		if (rc < 0)
			return err_wrap(err, rc, "Cannot reset vCPU %u", i);
		pthread_mutex_lock(&cpus->lock);
		vcpu->halted = false;
		vcpu->nmi = false;
		pthread_mutex_unlock(&cpus->lock);
	}
	return 0;
}

/* What precedes the vCPUs' records. */
struct cpus_header {
	uint32_t num_vcpus;
	uint64_t clock_ns;
};

static const struct state_field header_fields[] = {
	STATE_FIELD(STATE_U32, struct cpus_header, num_vcpus),
	STATE_FIELD(STATE_U64, struct cpus_header, clock_ns),
};

static const struct state_layout header_layout = {
	.name = "cpus",
	.version = 1,
	.fields = header_fields,
	.num_fields = ARRAY_SIZE(header_fields),
	.struct_size = sizeof(struct cpus_header),
};

int cpus_save(struct cpus *cpus, struct buf *out, struct err *err)
{
	struct cpus_header header = {.num_vcpus = cpus->num_vcpus};
	struct kvm_clock_data clock;
	int rc;

	rc = kvm_vm_get_clock(cpus->kvm, &clock);
	if (rc < 0)
		return err_set_errno(err, rc, "Cannot read the guest's clock");
	header.clock_ns = clock.clock;
	rc = state_save(out, &header_layout, &header);
	if (rc < 0)
		return err_set_errno(err, rc, "Cannot save the vCPUs");
	for (unsigned i = 0; i < cpus->num_vcpus; i++) {
		rc = vcpu_save(&cpus->vcpus[i], out, err);
		if (rc < 0)
			return err_wrap(err, rc, "Cannot save vCPU %u", i);
	}
	return 0;
}

int cpus_load(struct cpus *cpus, struct cursor *in, struct err *err)
{
	struct cpus_header header = {0};
	struct kvm_clock_data clock = {0};
	int rc;

	rc = state_load(in, &header_layout, &header, err);
	if (rc < 0)
		return rc;
	if (header.num_vcpus != cpus->num_vcpus)
		return err_set(err, -EPROTO, "The saved machine has %u vCPUs, this one %u",
			       header.num_vcpus, cpus->num_vcpus);
	for (unsigned i = 0; i < cpus->num_vcpus; i++) {
		rc = vcpu_load(&cpus->vcpus[i], in, err);
		if (rc < 0)
			return err_wrap(err, rc, "Cannot load vCPU %u", i);
	}
	clock.clock = header.clock_ns;
	rc = kvm_vm_set_clock(cpus->kvm, &clock);
	if (rc < 0)
		return err_set_errno(err, rc, "Cannot set the guest's clock");
	return 0;
}

/* --- questions -------------------------------------------------------------------------------- */

unsigned cpus_count(const struct cpus *cpus)
{
	return cpus->num_vcpus;
}

uint32_t cpus_apic_id(const struct cpus *cpus, unsigned index)
{
	return cpu_topology_apic_id(&cpus->topology, index);
}

const struct cpu_counters *cpus_counters(const struct cpus *cpus, unsigned index)
{
	return &cpus->vcpus[index].counters;
}

unsigned cpus_tsc_khz(const struct cpus *cpus)
{
	return cpus->tsc_khz;
}
