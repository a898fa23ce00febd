/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/iothreads.h"

#include "tests/fuzz/turns.h"
#include "vmm/virtio/iothread.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOPS_MAX 16

static struct loop *loops[LOOPS_MAX];
static unsigned num_loops;

void iothreads_run(void)
{
	for (unsigned i = 0; i < num_loops; i++)
		run_turn(loops[i]);
}

int iothread_start(struct iothread *io, const char *name, enum thread_role role,
		   const unsigned *cpus, size_t num_cpus)
{
	int rc = loop_new(&io->loop);

	if (rc < 0)
		return rc;
	if (num_loops == LOOPS_MAX)
		abort();
	loops[num_loops++] = io->loop;
	return 0;
}

void iothread_stop(struct iothread *io)
{
	/* No target takes a device down. */
	abort();
}

void iothread_name(const char *id, char name[IOTHREAD_NAME_MAX])
{
	snprintf(name, IOTHREAD_NAME_MAX, "%s", id);
}

void iothread_queue_name(const char *id, const char *kind, const char *mark, unsigned index,
			 char name[IOTHREAD_NAME_MAX])
{
	snprintf(name, IOTHREAD_NAME_MAX, "%s", id);
}
