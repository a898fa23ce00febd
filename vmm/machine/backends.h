/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM holds open on the host apart from its machine: consoles, taps, disk images.
 *
 * They outlive the machine, so that a reboot keeps the same pseudo-terminal, tap and image, also
 * when the process has meanwhile given up the rights with which it opened them. Consoles are
 * opened at vm.create, taps and images by the first boot; images are let go at vm.shutdown (their
 * locks with them), the rest at vm.delete.
 */
#ifndef VMM_MACHINE_BACKENDS_H
#define VMM_MACHINE_BACKENDS_H

#include "base/err.h"

#include <stdatomic.h>

struct backends;
struct block;
struct chardev;
struct loop;
struct tap;
struct vm_config;

/* Nothing open. `loop`: the main loop. Returns 0 or -ENOMEM. */
int backends_new(struct loop *loop, struct backends **ret_backends);

/* Closes everything. No machine uses it any more. Main thread. NULL is fine. */
void backends_free(struct backends *b);

/*
 * Opens the consoles that `config` asks for, and writes the path of each pseudo-terminal into
 * config->serial.file / console.file. Main thread. Returns 0 or negative errno; what was opened
 * stays, for backends_free().
 */
int backends_open_consoles(struct backends *b, struct vm_config *config, struct err *err);

/*
 * Opens the taps and images of `config` (whose ids are assigned) that are not open yet. Worker
 * thread, while the main thread leaves `b` alone. Returns 0 or negative errno naming the device.
 */
int backends_open(struct backends *b, const struct vm_config *config, struct err *err);

/* Closes the disk images. No machine uses them. Any one thread. */
void backends_close_images(struct backends *b);

/* NULL when that console is off or not open. Owned by b. */
struct chardev *backends_serial(struct backends *b);
struct chardev *backends_console(struct backends *b);
struct chardev *backends_debug_console(struct backends *b);

/* By device id; NULL when not open. Owned by b. */
struct tap *backends_tap(struct backends *b, const char *id);
struct block *backends_image(struct backends *b, const char *id);

/* Writes out what the consoles still hold, as far as their other ends take it. Main thread. */
void backends_flush_consoles(struct backends *b);

/* The terminal's size changed. Main thread. */
void backends_console_resized(struct backends *b);

#endif
