/* SPDX-License-Identifier: Apache-2.0 */
/* By libcap, which makes the system calls and nothing else; libcap-ng reads /proc/PID/status at
 * each turn, which costs every start and every thread time, and fails where there is no /proc. */
#include "shim/sandbox.h"

#include <errno.h>
#include <sys/capability.h>

/* What opening devices may need, for a process that was given it. */
static const struct {
	cap_value_t capability;
	const char *reason;
} kept[] = {
	{CAP_NET_ADMIN, "makes and configures taps"},
	{CAP_DAC_OVERRIDE, "opens images and sockets of other users, as root expects"},
	{CAP_DAC_READ_SEARCH, "opens images of other users, as root expects"},
	{CAP_SYS_RESOURCE, "raises the limits on descriptors and locked memory"},
	{CAP_IPC_LOCK, "locks guest RAM"},
	{CAP_SYS_NICE, "pins threads, binds guest RAM to host nodes"},
};

static inline void cap_free_ptr_(cap_t *caps)
{
	cap_free(*caps);
}
#define AUTO_CAPS CLEANUP(cap_free_ptr_)

static bool has(cap_t caps, cap_value_t capability)
{
	cap_flag_value_t value = CAP_CLEAR;

	return cap_get_flag(caps, capability, CAP_EFFECTIVE, &value) == 0 && value == CAP_SET;
}

/* Whether the calling thread has nothing that it could give up. */
static bool is_empty(cap_t caps)
{
	AUTO_CAPS cap_t nothing = cap_init();

	return nothing && cap_compare(caps, nothing) == 0;
}

/* Empties the bounding set: no program that is executed later gets anything from its file. */
static int drop_bounds(void)
{
	for (cap_value_t capability = 0; capability < cap_max_bits(); capability++)
		if (cap_drop_bound(capability) < 0)
			return -errno;
	return 0;
}

/* Leaves of the thread's capabilities those in `kept` alone. Nothing is inheritable, and so nothing
 * ambient, afterwards. */
static int limit(cap_t caps)
{
	AUTO_CAPS cap_t set = cap_init();
	int rc;

	if (!set)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		const cap_value_t *capability = &kept[i].capability;

		if (has(caps, *capability) &&
		    (cap_set_flag(set, CAP_EFFECTIVE, 1, capability, CAP_SET) < 0 ||
		     cap_set_flag(set, CAP_PERMITTED, 1, capability, CAP_SET) < 0))
			return -errno;
	}
	/* The bounding set can be narrowed only with this one, while it is still there. */
	rc = has(caps, CAP_SETPCAP) ? drop_bounds() : 0;
	if (rc < 0)
		return rc;
	return cap_set_proc(set) < 0 ? -errno : 0;
}

int sandbox_limit_capabilities(struct err *err)
{
	AUTO_CAPS cap_t caps = cap_get_proc();
	int rc;

	if (!caps)
		return err_set_errno(err, -errno,
				     "the capabilities of this process cannot be read");
	rc = is_empty(caps) ? 0 : limit(caps);
	if (rc < 0)
		return err_set_errno(err, rc, "the capabilities of this process cannot be limited");
	return 0;
}

int sandbox_drop_capabilities(void)
{
	AUTO_CAPS cap_t caps = cap_get_proc();

	if (!caps)
		return -errno;
	if (is_empty(caps))
		return 0;
	if (cap_clear(caps) < 0 || cap_set_proc(caps) < 0)
		return -errno;
	return 0;
}
