/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox.h"

#include <cap-ng.h>
#include <errno.h>

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

static bool has_any(void)
{
	return capng_have_capabilities(CAPNG_SELECT_CAPS) > CAPNG_NONE;
}

int sandbox_limit_capabilities(struct err *err)
{
	bool had[ARRAY_SIZE(kept)];
	bool bounds;

	if (capng_get_caps_process() < 0)
		return err_set_errno(err, -errno,
				     "the capabilities of this process cannot be read");
	if (!has_any())
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		had[i] = capng_have_capability(CAPNG_EFFECTIVE, kept[i].capability) > 0;
	/* The bounding set can be narrowed only with this one, while it is still there. */
	bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) > 0;

	capng_clear(bounds ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		if (had[i])
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED,
				     kept[i].capability);
	}
	if (capng_apply(bounds ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT) < 0)
		return err_set_errno(err, -errno ? -errno : -EPERM,
				     "the capabilities of this process cannot be limited");
	return 0;
}

int sandbox_drop_capabilities(void)
{
	if (capng_get_caps_process() < 0)
		return -EPERM;
	if (!has_any())
		return 0;
	capng_clear(CAPNG_SELECT_CAPS);
	return capng_apply(CAPNG_SELECT_CAPS) < 0 ? -EPERM : 0;
}
