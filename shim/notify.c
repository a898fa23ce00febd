/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/notify.h"

#ifdef HAVE_SYSTEMD
#include "base/log.h"

#include <string.h>
#include <systemd/sd-daemon.h>

static void notify(const char *state)
{
	int rc = sd_notify(0, state);

	if (rc < 0)
		log_warn("the service manager could not be told %s: %s", state, strerror(-rc));
}
#else
static void notify(const char *state) {}
#endif

void notify_ready(void)
{
	notify("READY=1");
}

void notify_stopping(void)
{
	notify("STOPPING=1");
}
