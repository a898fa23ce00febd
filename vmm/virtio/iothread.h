/* SPDX-License-Identifier: Apache-2.0 */
/* A thread with a loop of its own, for the data path of a device's queues. */
#ifndef VMM_VIRTIO_IOTHREAD_H
#define VMM_VIRTIO_IOTHREAD_H

#include "base/loop.h"
#include "base/thread.h"

struct iothread {
	struct loop *loop;
	struct thread thread;
};

/* Starts the thread, named `name` (at most 15 bytes: "_disk0_q0"), pinned to `cpus` unless num_cpus
 * is 0. Returns 0 or negative errno. */
int iothread_start(struct iothread *io, const char *name, enum thread_role role,
		   const unsigned *cpus, size_t num_cpus);

/* Ends the loop and joins the thread. Handles of the loop are freed by their owner on the thread
 * before, or here with the loop. A zeroed one is fine. */
void iothread_stop(struct iothread *io);

#define IOTHREAD_NAME_MAX 16

/* The thread's name for the device `id`: one underscore and the id without those it begins with,
 * cut ("__rng" and "rng" give "_rng"). */
void iothread_name(const char *id, char name[IOTHREAD_NAME_MAX]);

/*
 * The name of the thread that serves queue or pair `index` (< 100 to be told apart) of a device of
 * a kind with several: orchestrators look for the kind in front ("_net1_qp0", "_disk0_q1"), so an
 * id that does not begin with it gets it too ("front": "_net_front_qp0"). What is too long loses
 * the end of the id. kind: "net"; mark: "qp". Both of at most four bytes.
 */
void iothread_queue_name(const char *id, const char *kind, const char *mark, unsigned index,
			 char name[IOTHREAD_NAME_MAX]);

#endif
