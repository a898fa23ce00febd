/* SPDX-License-Identifier: Apache-2.0 */
/* Where vCPU threads may run, and with whom they share a core. */
#include "base/log.h"
#include "vmm/cpu/cpus_private.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MAX_HOST_CPUS 8192 /* CONFIG_NR_CPUS's greatest value */

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE		   62
#define PR_SCHED_CORE_CREATE	   1
#define PR_SCHED_CORE_SHARE_TO	   2
#define PR_SCHED_CORE_SHARE_FROM   3
#define PR_SCHED_CORE_SCOPE_THREAD 0
#endif

static int pin(struct cpus *cpus, const struct cpu_affinity_config *affinity, struct err *err)
{
	size_t size = CPU_ALLOC_SIZE(MAX_HOST_CPUS);
	cpu_set_t *set;
	int rc;

	/* One that may be plugged later is pinned when it comes. */
	if (affinity->vcpu >= cpus->num_vcpus || !affinity->num_host_cpus)
		return 0;
	set = CPU_ALLOC(MAX_HOST_CPUS);
	if (!set)
		return err_set(err, -ENOMEM, "Out of memory");
	CPU_ZERO_S(size, set);
	for (size_t i = 0; i < affinity->num_host_cpus; i++)
		if (affinity->host_cpus[i] < MAX_HOST_CPUS)
			CPU_SET_S(affinity->host_cpus[i], size, set);
	rc = -pthread_setaffinity_np(cpus->vcpus[affinity->vcpu].thread.id, size, set);
	CPU_FREE(set);
	if (rc < 0)
		return err_set_errno(err, rc, "Cannot pin vCPU %u to its host CPUs",
				     affinity->vcpu);
	return 0;
}

static int core_cookie(unsigned command, pid_t tid)
{
	return prctl(PR_SCHED_CORE, command, tid, PR_SCHED_CORE_SCOPE_THREAD, 0) < 0 ? -errno : 0;
}

/* One cookie for all: made for the first vCPU, then carried by this thread to the others. This
 * thread then takes the process's first one's, which has none: it is to share cores with anybody.
 */
static int share_cookie(struct cpus *cpus)
{
	int rc, restored;

	rc = core_cookie(PR_SCHED_CORE_CREATE, cpus->vcpus[0].tid);
	if (rc < 0)
		return rc;
	rc = core_cookie(PR_SCHED_CORE_SHARE_FROM, cpus->vcpus[0].tid);
	for (unsigned i = 1; rc == 0 && i < cpus->num_vcpus; i++)
		rc = core_cookie(PR_SCHED_CORE_SHARE_TO, cpus->vcpus[i].tid);
	restored = gettid() == getpid() ? 0 : core_cookie(PR_SCHED_CORE_SHARE_FROM, getpid());
	return rc < 0 ? rc : restored;
}

static void schedule_cores(struct cpus *cpus, enum core_scheduling mode)
{
	int rc = 0;

	switch (mode) {
	case CORE_SCHEDULING_OFF: return;
	case CORE_SCHEDULING_VM: rc = share_cookie(cpus); break;
	case CORE_SCHEDULING_VCPU:
		for (unsigned i = 0; rc == 0 && i < cpus->num_vcpus; i++)
			rc = core_cookie(PR_SCHED_CORE_CREATE, cpus->vcpus[i].tid);
		break;
	}
	/* -EINVAL: the kernel is built without; -ENODEV: the host has no SMT, so nothing to fear.
	 */
	if (rc == -EINVAL || rc == -ENODEV)
		log_debug("No core scheduling on this host: %s", strerror(-rc));
	else if (rc < 0)
		log_warn("vCPUs may share a core with others: core scheduling: %s", strerror(-rc));
}

int cpus_place(struct cpus *cpus, const struct cpus_params *params, struct err *err)
{
	for (size_t i = 0; i < params->num_affinity; i++) {
		int rc = pin(cpus, &params->affinity[i], err);

		if (rc < 0)
			return rc;
	}
	schedule_cores(cpus, params->core_scheduling);
	return 0;
}
