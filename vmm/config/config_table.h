/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that describe configuration structs, and what can be done with any struct so described.
 *
 * Theory of operation. A struct config_table holds one struct config_field per member of a C
 * struct: where it lies, of what kind it is, its JSON name, command-line key, bounds, default, and
 * whether this build can realise it. All functions here work on an object (`obj`: the C struct) and
 * its table; none knows a particular struct. An object is in one of two states: all zero (nothing
 * owned, as calloc leaves it), or initialised; config_object_fini() takes both back to all zero.
 * Tables refer to tables (objects in objects) and never in a circle, so recursion is bounded.
 *
 * Not locked: an object belongs to one thread at a time. Tables are constant.
 */
#ifndef VMM_CONFIG_CONFIG_TABLE_H
#define VMM_CONFIG_CONFIG_TABLE_H

#include "base/err.h"
#include "base/json.h"

enum config_kind {
	CONFIG_BOOL,
	CONFIG_U8,
	CONFIG_U16,
	CONFIG_U32,
	CONFIG_U64,
	CONFIG_FD,	    /* int; owned when >= 0 */
	CONFIG_ENUM,	    /* a C enum of 4 bytes */
	CONFIG_STRING,	    /* char *, owned, NULL = absent */
	CONFIG_OBJECT,	    /* struct, embedded */
	CONFIG_OBJECT_PTR,  /* struct *, owned, NULL = absent */
	CONFIG_NUMBER_LIST, /* pointer to `element`s, owned, with a count */
	CONFIG_STRING_LIST, /* char **, owned, with a count */
	CONFIG_OBJECT_LIST, /* struct *, owned, with a count */
	CONFIG_IGNORED,	    /* a command-line key that is accepted for compatibility; no storage */
};

enum config_format { CONFIG_ANY, CONFIG_MAC, CONFIG_IP };

enum {
	CF_REQUIRED = 1 << 0,	     /* a JSON object must have it */
	CF_REQUIRED_OPTION = 1 << 1, /* a command-line option must have it */
	CF_OMIT_FALSE = 1 << 2,	     /* a bool that is written only when true */
	CF_NO_KEY = 1 << 3,	     /* not settable on the command line */
	CF_SIZE = 1 << 4,	     /* command line: K, M or G may follow the number */
	CF_HEX = 1 << 5,	     /* command line: 0x and hexadecimal digits */
	CF_COLONS = 1 << 6, /* command line: an object of numbers as a:b:c, in the table's order */
	CF_WORDS = 1 << 7, /* command line: an object of bools as the names of those that are set */
	CF_TUPLES = 1 << 8,   /* command line: a list of objects of two members as [a@b,...] */
	CF_ITEMS = 1 << 9,    /* command line: a list of objects as [key=value,..:key=value,..] */
	CF_IMPLIES = 1 << 10, /* command line: setting it sets the bare-word member to `implied` */
};

struct config_enum_value {
	const char *name; /* in JSON; NULL ends the array */
	const char *key;  /* on the command line; NULL = cannot be given there */
	uint32_t value;
	const char *unbuilt; /* feature that this build lacks; NULL = built */
};

struct config_field {
	const char *name;      /* in JSON; NULL = does not occur there */
	const char *alias;     /* another JSON name that is read, never written */
	const char *key;       /* on the command line; NULL = same as name, unless CF_NO_KEY */
	const char *key_alias; /* another key that is read */
	const char
		*key_prefix; /* objects: the sub-table's keys are this option's keys, so prefixed */
	enum config_kind kind;
	enum config_kind element; /* of a CONFIG_NUMBER_LIST: U8 to U32 or FD */
	unsigned flags;
	enum config_format format; /* of a string */
	size_t offset;
	size_t has_offset;   /* of the bool that says whether it is present; 0 = always present */
	size_t count_offset; /* of a list's size_t */
	/* Of a number (max 0 = the type's), a string's length, an object list's count. */
	uint64_t min, max;
	uint64_t def; /* default of a bool, number or enum */
	const char *def_string;
	const struct config_enum_value
		*values; /* of an enum; of a number, names for the command line */
	const struct config_table *table;
	uint32_t implied;
	const char *
		unbuilt; /* feature that any other than the default asks for and this build lacks */
	const char *help; /* one line for the user */
};

struct config_table {
	const char *name; /* of the schema in the OpenAPI document */
	size_t size;	  /* of the C struct */
	const struct config_field *fields;
	size_t num_fields; /* at most 64 */
	bool strict;	   /* unknown JSON members are refused */
	const struct config_field
		*bare; /* enum or string that a word without `=` sets; may be NULL */

	/* Last step of reading an object, from JSON or the command line. NULL = none. */
	int (*finish)(void *obj, struct err *err);
	/* Before `finish`, for the command line only: `seen` has bit i set when field i was given.
	 */
	int (*finish_option)(void *obj, uint64_t seen, struct err *err);
};

/* The tables, one for each struct of vm_config.h. */
extern const struct config_table vm_config_table;
extern const struct config_table cpus_config_table;
extern const struct config_table memory_config_table;
extern const struct config_table memory_zone_config_table;
extern const struct config_table payload_config_table;
extern const struct config_table fw_cfg_config_table;
extern const struct config_table rate_limiter_config_table;
extern const struct config_table rate_limiter_group_config_table;
extern const struct config_table disk_config_table;
extern const struct config_table net_config_table;
extern const struct config_table rng_config_table;
extern const struct config_table rtc_config_table;
extern const struct config_table balloon_config_table;
extern const struct config_table fs_config_table;
extern const struct config_table generic_vhost_user_config_table;
extern const struct config_table pmem_config_table;
extern const struct config_table serial_config_table;
extern const struct config_table console_config_table;
extern const struct config_table debug_console_config_table;
extern const struct config_table device_config_table;
extern const struct config_table user_device_config_table;
extern const struct config_table vdpa_config_table;
extern const struct config_table vsock_config_table;
extern const struct config_table ivshmem_config_table;
extern const struct config_table pvmemcontrol_config_table;
extern const struct config_table tpm_config_table;
extern const struct config_table numa_config_table;
extern const struct config_table pci_segment_config_table;
extern const struct config_table platform_config_table;
extern const struct config_table landlock_rule_config_table;

/* --- objects ---------------------------------------------------------------------------------- */

/* Fills obj (table->size bytes, content irrelevant) with defaults. Returns 0 or -ENOMEM, then obj
 * is all zero. */
int config_object_init(const struct config_table *table, void *obj);

/* Frees what obj owns, closes its descriptors, leaves it all zero. */
void config_object_fini(const struct config_table *table, void *obj);

/* Makes dst (content irrelevant) a deep copy of src, with duplicates of its descriptors. Returns 0
 * or negative errno, then dst is all zero. */
int config_object_copy(const struct config_table *table, void *dst, const void *src);

/*
 * Reads one JSON object, e.g. the body of vm.add-disk, into obj (table->size bytes, content
 * irrelevant). Rules as for vm_config_parse(). Returns 0, then obj is to be released by
 * config_object_fini(); or negative errno with err set, then obj is all zero.
 */
int vm_config_parse_object(const struct config_table *table, const struct json *json, void *obj,
			   struct err *err);

/* The object as JSON; a new reference, NULL when out of memory. */
struct json *config_object_to_json(const struct config_table *table, const void *obj);

/* Refuses what this build cannot realise in obj; `where` is put before the members' names in the
 * message ("" = nothing). Returns 0 or -EOPNOTSUPP (ERR_BAD_REQUEST). */
int config_object_check_supported(const struct config_table *table, const void *obj,
				  const char *where, struct err *err);

/* --- single fields ---------------------------------------------------------------------------- */

/* The command-line key, or NULL when it has none. */
const char *config_field_key(const struct config_field *field);

/* Whether the member has the value that silence gives it. */
bool config_field_is_default(const struct config_field *field, const void *obj);

/* The value of a bool, number, enum or (as int) descriptor, and its setting, which also marks it
 * present. The value fits: checked before. */
uint64_t config_field_get(const struct config_field *field, const void *obj);
void config_field_set(const struct config_field *field, void *obj, uint64_t value);

/* Largest value of a number field. */
uint64_t config_field_max(const struct config_field *field);

/* Releases the member's value and gives it the default. Returns 0 or -ENOMEM. */
int config_field_reset(const struct config_field *field, void *obj);

/* Checks a string's length and format; the message has the place `where` before it. Returns 0 or
 * -EINVAL with err set (ERR_BAD_REQUEST). */
int config_check_string(const struct config_field *field, const char *value, const char *where,
			struct err *err);

/* Whether a list or optional object is there, and its size. A list's data, NULL when empty. */
size_t config_list_count(const struct config_field *field, const void *obj);
void *config_list_data(const struct config_field *field, const void *obj);

/* Most elements that a list takes. */
size_t config_list_max(const struct config_field *field);

/* The objects that a CONFIG_OBJECT, _PTR or _LIST member holds, one behind the other, with their
 * number; NULL and 0 when there are none or the member is of another kind. */
void *config_objects_at(const struct config_field *field, void *obj, size_t *ret_count);

/* Bytes of one element of a list. */
size_t config_element_size(const struct config_field *field);

/*
 * Lengthens a list by one all-zero element and returns it; NULL when out of memory or when the list
 * has its largest number of elements already.
 */
void *config_list_grow(const struct config_field *field, void *obj);

/* Number `i` of a CONFIG_NUMBER_LIST, and its setting. */
uint64_t config_list_number(const struct config_field *field, const void *obj, size_t i);
void config_list_set_number(const struct config_field *field, void *obj, size_t i, uint64_t value);

/* Longest list that is accepted where the table does not say. */
#define CONFIG_LIST_MAX 8192

/* Longest string where the table does not say (a path). */
#define CONFIG_STRING_MAX 4095

/* --- naming places in messages ---------------------------------------------------------------- */

/* Where in the configuration one is: a chain of stack frames, outermost last. */
struct config_path {
	const struct config_path *up;
	const char *name; /* NULL: an index */
	size_t index;
};

#define CONFIG_PATH_MAX 256

/* Writes "disks[1].queue_size" into buf (cut when too long). Returns buf. */
char *config_path_format(const struct config_path *path, char buf[CONFIG_PATH_MAX]);

#define CONFIG_QUOTE_MAX 72

/* A user's text for a message: cut, and with everything but printable ASCII as `?`. Returns buf. */
char *config_quote(const char *text, char buf[CONFIG_QUOTE_MAX]);

/* Writes the values' JSON names (or keys) as "A, B, C" into buf. Returns buf. */
char *config_enum_list(const struct config_enum_value *values, bool keys, char *buf, size_t len);

/* --- description ------------------------------------------------------------------------------ */

/*
 * The table itself as JSON, for documentation and for checks against the OpenAPI document:
 * {"name":..,"strict":b,"fields":[{"name","alias"?,"key"?,"kind","required","default"?,"enum"?,
 * "minimum"?,"maximum"?,"items"?,"schema"?,"unsupported"?,"help"?}]}; nested tables appear inside
 * as "schema". A new reference, NULL when out of memory.
 */
struct json *config_table_describe(const struct config_table *table);

#endif
