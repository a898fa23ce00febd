/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line's key syntax, e.g. `path=/a.img,readonly=on`, driven by the same tables as JSON.
 *
 * Comma-separated key=value; "..." protects separators; [a,b] is a list, with ranges [0-3,8] where
 * its elements are numbers; [k@v,...] a list of tuples, whose parts may be lists; booleans are on,
 * off, true, false in any case; sizes may end in K, M or G; a repeated key counts as last given; an
 * empty value gives the default back; some options start with a bare word. Reference: Cloud
 * Hypervisor's command line.
 */
#ifndef VMM_CONFIG_CONFIG_OPTION_H
#define VMM_CONFIG_CONFIG_OPTION_H

#include "vmm/config/config_table.h"
#include "vmm/config/vm_config.h"

/*
 * Reads an option's value into obj (table->size bytes, content irrelevant). text NULL or "" means
 * no keys at all. Descriptors named in it become owned by obj; they must be open and above 2.
 * Returns 0, then obj is to be released by config_object_fini(); or negative errno with err set
 * (ERR_BAD_REQUEST; an unknown key is answered with the known ones), then obj is all zero.
 */
int config_parse_option(const struct config_table *table, const char *text, void *obj,
			struct err *err);

/* One line per key of an option, "  key=<kind>  what it is [default]", malloced. NULL when out of
 * memory. */
char *config_option_help(const struct config_table *table);

/* --- options that are a part of VmConfig ------------------------------------------------------ */

enum vm_option_place {
	VM_OPTION_OBJECT, /* an object of VmConfig */
	VM_OPTION_LIST,	  /* one element of a list: the option may be repeated */
	VM_OPTION_STRING, /* a string of the payload */
	VM_OPTION_FLAG,	  /* a bool without a value */
};

struct vm_option {
	const char *name; /* without the dashes */
	enum vm_option_place place;
	const struct config_table *table; /* of its keys; NULL for strings and flags */
	const char *field;		  /* member of VmConfig, or of the object `in` */
	const char *in;	     /* member of VmConfig that has `field`; NULL = VmConfig itself */
	bool optional_value; /* may stand without a value though it has keys */
	const char *help;
};

extern const struct vm_option vm_options[]; /* ended by a NULL name */

/* The option of that name (no dashes), or NULL. */
const struct vm_option *vm_option_find(const char *name);

/*
 * Puts one use of an option into the configuration: an object is replaced, a list grows, a string
 * or flag is set. text is NULL for flags. Returns 0 or negative errno with err set, the message
 * starting with the option's name.
 */
int vm_option_apply(struct vm_config *config, const struct vm_option *option, const char *text,
		    struct err *err);

/* --- options of the process that share the syntax --------------------------------------------- */

/* `--api-socket` and `--event-monitor`: path=<p>, fd=<n>, or a bare path. */
struct endpoint_option {
	char *path;
	char *fd; /* as written: a number or a name */
};

extern const struct config_table endpoint_option_table;

#endif
