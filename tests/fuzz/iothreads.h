/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of devices' queues, on the target's own thread (iothreads.c stands in for
 * vmm/virtio/iothread.c): an input does the same each time, and costs no switch between threads.
 * Their loops run when they are asked to, so that an input decides what they find.
 */
#ifndef TESTS_FUZZ_IOTHREADS_H
#define TESTS_FUZZ_IOTHREADS_H

/* Lets happen on the loops of all queues what is due. */
void iothreads_run(void);

#endif
