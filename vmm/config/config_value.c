/* SPDX-License-Identifier: Apache-2.0 */
/* Single values of the command line's key syntax: text in, member out. */
#include "vmm/config/config_value.h"

#include "vmm/config/config_option.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory while reading an option");
}

static int bad(const char *where, const char *text, const char *expected, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: \"%s\" is not %s", where,
			    config_quote(text, quoted), expected);
}

int config_cut(const char **pos, char separator, char **ret_piece, struct err *err)
{
	const char *start = *pos, *p = start;
	unsigned depth = 0;
	bool quoted = false;

	for (; *p && (quoted || depth || *p != separator); p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (!quoted && *p == '[')
			depth++;
		else if (!quoted && *p == ']' && depth-- == 0)
			return bad("the option", start, "complete: a ] has no [", err);
	}
	if (quoted || depth)
		return bad("the option", start,
			   quoted ? "complete: a quote is not closed"
				  : "complete: a [ is not closed",
			   err);
	*ret_piece = strndup(start, (size_t)(p - start));
	if (!*ret_piece)
		return no_memory(err);
	*pos = *p ? p + 1 : NULL;
	return 0;
}

/* The text without its quotes, malloced. */
static char *dequote(const char *text)
{
	char *s = malloc(strlen(text) + 1);
	size_t n = 0;

	if (!s)
		return NULL;
	for (; *text; text++) {
		if (*text != '"')
			s[n++] = *text;
	}
	s[n] = '\0';
	return s;
}

/* Digits only; *end is left at what follows. */
static int parse_digits(const char *text, unsigned base, const char **end, uint64_t *ret_value)
{
	const char *digits = "0123456789abcdef";
	const char *p = text;
	uint64_t value = 0;

	for (; *p; p++) {
		char c = *p >= 'A' && *p <= 'F' ? (char)(*p - 'A' + 'a') : *p;
		const char *d = memchr(digits, c, base);

		if (!d)
			break;
		if (__builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(d - digits), &value))
			return -ERANGE;
	}
	*end = p;
	*ret_value = value;
	return p == text ? -EINVAL : 0;
}

static unsigned size_shift(char suffix)
{
	switch (suffix) {
	case 'K': return 10;
	case 'M': return 20;
	case 'G': return 30;
	default: return 0;
	}
}

static int check_range(const struct config_field *field, uint64_t value, const char *where,
		       struct err *err)
{
	/* What JSON cannot carry is of no use either: vm.info could not show it. */
	uint64_t max = MIN(config_field_max(field), (uint64_t)INT64_MAX);

	if (value >= field->min && value <= max)
		return 0;
	return err_set_kind(err, ERR_BAD_REQUEST, -ERANGE, "%s: %llu is not within %llu to %llu",
			    where, (unsigned long long)value, (unsigned long long)field->min,
			    (unsigned long long)max);
}

static int parse_number(const struct config_field *field, const char *text, uint64_t *ret_value,
			const char *where, struct err *err)
{
	bool hex = field->flags & CF_HEX;
	const char *p = text;
	uint64_t value;
	unsigned shift;
	int r;

	for (const struct config_enum_value *v = field->values; v && v->name; v++) {
		if (v->key && strcasecmp(v->key, text) == 0) {
			*ret_value = v->value;
			return 0;
		}
	}
	if (hex && strncmp(text, "0x", 2) != 0)
		return bad(where, text, "a hexadecimal number with 0x before it", err);
	r = parse_digits(hex ? text + 2 : text, hex ? 16 : 10, &p, &value);
	if (r == -ERANGE)
		return bad(where, text, "a number that fits 64 bits", err);
	shift = r == 0 && field->flags & CF_SIZE ? size_shift(*p) : 0;
	if (shift)
		p++;
	if (r < 0 || *p)
		return bad(where, text,
			   field->flags & CF_SIZE ? "a size (a number, then K, M, G or nothing)"
						  : "a number",
			   err);
	if (value > UINT64_MAX >> shift)
		return bad(where, text, "a size that fits 64 bits", err);
	value <<= shift;
	r = check_range(field, value, where, err);
	if (r == 0)
		*ret_value = value;
	return r;
}

/* From here on the descriptor is ours. The standard streams stay the process's. */
static int parse_fd(const char *text, uint64_t *ret_value, const char *where, struct err *err)
{
	const char *end;
	int fd;

	if (parse_digits(text, 10, &end, ret_value) < 0 || *end || *ret_value > INT32_MAX)
		return bad(where, text, "a file descriptor's number", err);
	fd = (int)*ret_value;
	if (fd <= 2)
		return bad(where, text, "above 2: 0, 1 and 2 are the standard streams", err);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return bad(where, text, "an open file descriptor", err);
	return 0;
}

static int set_bool(const struct config_field *field, void *obj, const char *text,
		    const char *where, struct err *err)
{
	bool on = strcasecmp(text, "on") == 0 || strcasecmp(text, "true") == 0;

	if (!on && strcasecmp(text, "off") != 0 && strcasecmp(text, "false") != 0)
		return bad(where, text, "on, off, true or false", err);
	config_field_set(field, obj, on);
	return 0;
}

static int set_enum(const struct config_field *field, void *obj, const char *text,
		    const char *where, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX], names[256];

	for (const struct config_enum_value *v = field->values; v->name; v++) {
		if (v->key && strcasecmp(v->key, text) == 0) {
			config_field_set(field, obj, v->value);
			return 0;
		}
	}
	return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: \"%s\" is not one of %s", where,
			    config_quote(text, quoted),
			    config_enum_list(field->values, true, names, sizeof(names)));
}

static int set_string(const struct config_field *field, char **place, const char *text,
		      const char *where, struct err *err)
{
	int r = config_check_string(field, text, where, err);
	char *s;

	if (r < 0)
		return r;
	s = strdup(text);
	if (!s)
		return no_memory(err);
	free(*place);
	*place = s;
	return 0;
}

/* What is between the brackets, malloced; a text without brackets is a list of one. */
static char *unbracket(const char *text)
{
	size_t n = strlen(text);

	if (n >= 2 && text[0] == '[' && text[n - 1] == ']')
		return strndup(text + 1, n - 2);
	return strdup(text);
}

static int append_range(const struct config_field *field, void *obj, uint64_t from, uint64_t to,
			const char *where, struct err *err)
{
	size_t count = config_list_count(field, obj);

	if (count >= CONFIG_LIST_MAX || to - from >= CONFIG_LIST_MAX - count)
		return err_set_kind(err, ERR_BAD_REQUEST, -E2BIG, "%s: has more than %d elements",
				    where, CONFIG_LIST_MAX);
	for (uint64_t v = from; v <= to; v++) {
		if (!config_list_grow(field, obj))
			return no_memory(err);
		config_list_set_number(field, obj, config_list_count(field, obj) - 1, v);
	}
	return 0;
}

static bool list_has(const struct config_field *field, const void *obj, uint64_t value)
{
	for (size_t i = 0; i < config_list_count(field, obj); i++) {
		if (config_list_number(field, obj, i) == value)
			return true;
	}
	return false;
}

/* One number or range of a list. */
static int append_number(const struct config_field *field, void *obj, char *text, const char *where,
			 struct err *err)
{
	char *dash = strchr(text, '-');
	uint64_t from, to;
	int r;

	if (field->element == CONFIG_FD) {
		r = parse_fd(text, &from, where, err);
		if (r == 0 && list_has(field, obj, from))
			r = bad(where, text, "given once: a descriptor has one owner", err);
		return r < 0 ? r : append_range(field, obj, from, from, where, err);
	}
	if (dash)
		*dash = '\0';
	r = parse_number(field, text, &from, where, err);
	to = from;
	if (r == 0 && dash)
		r = parse_number(field, dash + 1, &to, where, err);
	if (r == 0 && to < from)
		r = bad(where, dash + 1, "the end of a range: it is below the start", err);
	return r < 0 ? r : append_range(field, obj, from, to, where, err);
}

static int append_string(const struct config_field *field, void *obj, const char *text,
			 const char *where, struct err *err)
{
	char **place;

	if (config_list_count(field, obj) >= CONFIG_LIST_MAX)
		return err_set_kind(err, ERR_BAD_REQUEST, -E2BIG, "%s: has more than %d elements",
				    where, CONFIG_LIST_MAX);
	place = config_list_grow(field, obj);
	if (!place)
		return no_memory(err);
	return set_string(field, place, text, where, err);
}

/* `a@b` into an object of two members. */
static int append_tuple(const struct config_field *field, void *obj, const char *text,
			const char *where, struct err *err)
{
	const struct config_field *fields = field->table->fields;
	AUTO_FREE char *left = NULL;
	const char *right = text;
	void *element;
	int r;

	r = config_cut(&right, '@', &left, err);
	if (r < 0)
		return r;
	if (!right || !*left || !*right)
		return bad(where, text, "a pair a@b", err);
	element = config_list_grow(field, obj);
	if (!element)
		return no_memory(err);
	r = config_object_init(field->table, element);
	if (r < 0)
		return no_memory(err);
	r = config_value_set(&fields[0], element, left, where, err);
	return r < 0 ? r : config_value_set(&fields[1], element, right, where, err);
}

static int append_item(const struct config_field *field, void *obj, const char *text,
		       const char *where, struct err *err)
{
	void *element = config_list_grow(field, obj);

	if (!element)
		return no_memory(err);
	return config_parse_option(field->table, text, element, err);
}

static int set_list(const struct config_field *field, void *obj, const char *text,
		    const char *where, struct err *err)
{
	AUTO_FREE char *inner = unbracket(text);
	const char *pos = inner;
	int r = inner ? 0 : no_memory(err);

	if (r == 0 && !*inner)
		return 0;
	while (r == 0 && pos) {
		AUTO_FREE char *piece = NULL, *plain = NULL;

		r = config_cut(&pos, field->flags & CF_ITEMS ? ':' : ',', &piece, err);
		if (r < 0)
			break;
		plain = dequote(piece);
		if (!plain)
			return no_memory(err);
		if (field->flags & CF_ITEMS)
			r = append_item(field, obj, piece, where, err);
		else if (field->flags & CF_TUPLES)
			r = append_tuple(field, obj, piece, where, err);
		else if (field->kind == CONFIG_STRING_LIST)
			r = append_string(field, obj, plain, where, err);
		else
			r = append_number(field, obj, plain, where, err);
	}
	return r;
}

/* `1:2:1:1` into the members of an object, all of them. */
static int set_colons(const struct config_field *field, void *obj, const char *text,
		      const char *where, struct err *err)
{
	const struct config_table *table = field->table;
	void **place = (void *)((char *)obj + field->offset);
	void *sub = calloc(1, table->size);
	const char *pos = text;
	int r = 0;

	if (!sub)
		return no_memory(err);
	*place = sub;
	for (size_t i = 0; r == 0 && i < table->num_fields; i++) {
		AUTO_FREE char *piece = NULL;

		if (!pos)
			return bad(where, text, "of the form a:b:c:d", err);
		r = config_cut(&pos, ':', &piece, err);
		if (r == 0 && !*piece)
			r = bad(where, text, "of the form a:b:c:d", err);
		if (r == 0)
			r = config_value_set(&table->fields[i], sub, piece, where, err);
	}
	return r == 0 && pos ? bad(where, text, "of the form a:b:c:d", err) : r;
}

/* Names of bools that are on. */
static int set_words(const struct config_field *field, void *obj, const char *text,
		     const char *where, struct err *err)
{
	const struct config_table *table = field->table;
	AUTO_FREE char *inner = unbracket(text);
	void *sub = (char *)obj + field->offset;
	const char *pos = inner;

	if (!inner)
		return no_memory(err);
	while (pos) {
		AUTO_FREE char *word = NULL;
		size_t i = 0;
		int r = config_cut(&pos, ',', &word, err);

		if (r < 0)
			return r;
		while (i < table->num_fields && strcmp(table->fields[i].name, word) != 0)
			i++;
		if (i == table->num_fields)
			return bad(where, word, "a known word", err);
		config_field_set(&table->fields[i], sub, true);
	}
	return 0;
}

static int set_scalar(const struct config_field *field, void *obj, const char *text,
		      const char *where, struct err *err)
{
	uint64_t value;
	int r;

	switch (field->kind) {
	case CONFIG_BOOL: return set_bool(field, obj, text, where, err);
	case CONFIG_ENUM: return set_enum(field, obj, text, where, err);
	case CONFIG_STRING:
		return set_string(field, (void *)((char *)obj + field->offset), text, where, err);
	case CONFIG_IGNORED: return 0;
	case CONFIG_FD: r = parse_fd(text, &value, where, err); break;
	default: r = parse_number(field, text, &value, where, err);
	}
	if (r == 0)
		config_field_set(field, obj, value);
	return r;
}

int config_value_set(const struct config_field *field, void *obj, const char *text,
		     const char *where, struct err *err)
{
	AUTO_FREE char *plain = NULL;

	if (config_field_reset(field, obj) < 0)
		return no_memory(err);
	if (!*text)
		return 0;
	if (field->flags & CF_COLONS)
		return set_colons(field, obj, text, where, err);
	if (field->flags & CF_WORDS)
		return set_words(field, obj, text, where, err);
	if (field->count_offset)
		return set_list(field, obj, text, where, err);
	plain = dequote(text);
	if (!plain)
		return no_memory(err);
	return set_scalar(field, obj, plain, where, err);
}
