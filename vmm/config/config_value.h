/* SPDX-License-Identifier: Apache-2.0 */
/* One value of the command line's key syntax; a detail of config_option.c. */
#ifndef VMM_CONFIG_CONFIG_VALUE_H
#define VMM_CONFIG_CONFIG_VALUE_H

#include "vmm/config/config_table.h"

/*
 * Cuts the next piece, up to a separator outside quotes and brackets, out of *pos and moves *pos
 * behind it (NULL after the last). The piece is malloced, quotes still in it. Returns 0, -ENOMEM,
 * or -EINVAL with err set when quotes or brackets do not match.
 */
int config_cut(const char **pos, char separator, char **ret_piece, struct err *err);

/*
 * Puts a value as written into the member; an empty one gives the default back. `where` names it in
 * messages. Returns 0 or negative errno with err set; the member then owns nothing invalid.
 */
int config_value_set(const struct config_field *field, void *obj, const char *text,
		     const char *where, struct err *err);

#endif
