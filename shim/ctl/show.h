/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the API as tables for people. */
#ifndef SHIM_CTL_SHOW_H
#define SHIM_CTL_SHOW_H

#include "base/json.h"

/* Each writes to stdout and takes what is not there as absent. */
void show_ping(const struct json *answer);
void show_info(const struct json *answer);
void show_counters(const struct json *answer);
void show_device(const struct json *answer); /* what was added: id and place */

/* One event on one line. `compact`: its JSON. */
void show_event(const struct json *event);

#endif
