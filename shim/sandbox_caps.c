/* SPDX-License-Identifier: Apache-2.0 */
/* By system calls alone: libcap-ng reads /proc/PID/status at each turn, before the first answer and
 * at the start of every thread, and there may be no /proc where we run. */
#include "shim/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What opening devices may need, for a process that was given it. */
static const struct {
	unsigned capability;
	const char *reason;
} kept[] = {
	{CAP_NET_ADMIN, "makes and configures taps"},
	{CAP_DAC_OVERRIDE, "opens images and sockets of other users, as root expects"},
	{CAP_DAC_READ_SEARCH, "opens images of other users, as root expects"},
	{CAP_SYS_RESOURCE, "raises the limits on descriptors and locked memory"},
	{CAP_IPC_LOCK, "locks guest RAM"},
	{CAP_SYS_NICE, "pins threads, binds guest RAM to host nodes"},
};

/* The sets of the calling thread, a bit for each capability. */
struct caps {
	uint64_t effective, permitted, inheritable;
};

static uint64_t bit(unsigned capability)
{
	return UINT64_C(1) << capability;
}

static int get_caps(struct caps *ret_caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct half[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, half) < 0)
		return -errno;
	ret_caps->effective = half[0].effective | (uint64_t)half[1].effective << 32;
	ret_caps->permitted = half[0].permitted | (uint64_t)half[1].permitted << 32;
	ret_caps->inheritable = half[0].inheritable | (uint64_t)half[1].inheritable << 32;
	return 0;
}

static bool has_any(const struct caps *caps)
{
	return caps->effective || caps->permitted || caps->inheritable;
}

/* Nothing is inheritable, and so nothing ambient, afterwards. */
static int set_caps(uint64_t set)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct half[_LINUX_CAPABILITY_U32S_3];

	for (size_t i = 0; i < ARRAY_SIZE(half); i++) {
		half[i].effective = (uint32_t)(set >> (32 * i));
		half[i].permitted = half[i].effective;
		half[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, half) < 0 ? -errno : 0;
}

/* Empties the bounding set: no program that is executed later gets anything from its file. */
static int drop_bounds(void)
{
	for (unsigned long capability = 0; capability < 64; capability++) {
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
			continue;
		/* The kernel knows no more of them. */
		return errno == EINVAL && capability > 0 ? 0 : -errno;
	}
	return 0;
}

int sandbox_limit_capabilities(struct err *err)
{
	struct caps caps;
	uint64_t set = 0;
	int rc = get_caps(&caps);

	if (rc < 0)
		return err_set_errno(err, rc, "the capabilities of this process cannot be read");
	if (!has_any(&caps))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		set |= caps.effective & bit(kept[i].capability);
	/* The bounding set can be narrowed only with this one, while it is still there. */
	if (caps.effective & bit(CAP_SETPCAP))
		rc = drop_bounds();
	if (rc == 0)
		rc = set_caps(set);
	if (rc < 0)
		return err_set_errno(err, rc, "the capabilities of this process cannot be limited");
	return 0;
}

int sandbox_drop_capabilities(void)
{
	struct caps caps;
	int rc = get_caps(&caps);

	return rc < 0 || !has_any(&caps) ? rc : set_caps(0);
}
