/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where libuv abort()s, or leaves something behind, when the kernel or malloc() refuses it
 * something: the same calls, with an error returned. For loop.c alone.
 */
#ifndef BASE_LOOP_UV_H
#define BASE_LOOP_UV_H

#include "base/util.h"

#include <uv.h>

/* uv_loop_init(). Returns 0 or negative errno; nothing is left to be closed then. */
int loop_uv_init(uv_loop_t *uv);

/* uv_poll_start() with at least one event. Returns 0 or negative errno; nothing is watched then. */
int loop_uv_poll_start(uv_poll_t *poll, int events, uv_poll_cb cb);

#endif
