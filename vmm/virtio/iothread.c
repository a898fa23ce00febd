/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/iothread.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int pin(pthread_t id, const unsigned *cpus, size_t num_cpus)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (size_t i = 0; i < num_cpus; i++) {
		if (cpus[i] >= CPU_SETSIZE)
			return -EINVAL;
		CPU_SET(cpus[i], &set);
	}
	return -pthread_setaffinity_np(id, sizeof(set), &set);
}

int iothread_start(struct iothread *io, const char *name, enum thread_role role,
		   const unsigned *cpus, size_t num_cpus)
{
	int rc;

	memset(io, 0, sizeof(*io));
	rc = loop_new(&io->loop);
	if (rc < 0)
		return rc;
	rc = thread_start(&io->thread, name, role, run_loop, io->loop);
	if (rc == 0 && num_cpus)
		rc = pin(io->thread.id, cpus, num_cpus);
	if (rc < 0)
		iothread_stop(io);
	return rc;
}

void iothread_stop(struct iothread *io)
{
	if (io->thread.started)
		loop_stop(io->loop);
	thread_join(&io->thread);
	loop_free(TAKE(io->loop));
}

void iothread_name(const char *id, char name[IOTHREAD_NAME_MAX])
{
	while (*id == '_')
		id++;
	snprintf(name, IOTHREAD_NAME_MAX, "_%.14s", id);
}

void iothread_queue_name(const char *id, const char *kind, const char *mark, unsigned index,
			 char name[IOTHREAD_NAME_MAX])
{
	char prefix[8] = "_", suffix[8];
	int room;

	while (*id == '_')
		id++;
	if (strncmp(id, kind, strlen(kind)) != 0)
		snprintf(prefix, sizeof(prefix), "_%.4s_", kind);
	snprintf(suffix, sizeof(suffix), "_%.4s%u", mark, index % 100);
	room = (int)(IOTHREAD_NAME_MAX - 1 - strlen(prefix) - strlen(suffix));
	snprintf(name, IOTHREAD_NAME_MAX, "%s%.*s%s", prefix, room, id, suffix);
}
