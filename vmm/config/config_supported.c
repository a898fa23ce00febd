/* SPDX-License-Identifier: Apache-2.0 */
/* What this build cannot realise: a flag of each row and of each enum value in the tables. */
#include "base/log.h"
#include "vmm/config/config_table.h"
#include "vmm/config/vm_config.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static int check_object(const struct config_table *table, const void *obj,
			const struct config_path *path, struct err *err);

static int refuse(const struct config_path *path, const char *feature, struct err *err)
{
	char where[CONFIG_PATH_MAX];

	return err_set_kind(err, ERR_BAD_REQUEST, -EOPNOTSUPP,
			    "%s: %s: not supported by this version of coracle",
			    config_path_format(path, where), feature);
}

static int check_enum(const struct config_field *field, const void *obj,
		      const struct config_path *path, struct err *err)
{
	uint64_t value = config_field_get(field, obj);

	for (const struct config_enum_value *v = field->values; v->name; v++) {
		if (v->value == value && v->unbuilt)
			return refuse(path, v->unbuilt, err);
	}
	return 0;
}

static int check_list(const struct config_field *field, const void *obj,
		      const struct config_path *path, struct err *err)
{
	const char *data = config_list_data(field, obj);
	int r = 0;

	for (size_t i = 0; r == 0 && i < config_list_count(field, obj); i++) {
		struct config_path here = {.up = path, .index = i};

		r = check_object(field->table, data + i * field->table->size, &here, err);
	}
	return r;
}

static int check_field(const struct config_field *field, const void *obj,
		       const struct config_path *path, struct err *err)
{
	const void *place = (const char *)obj + field->offset;
	const void *sub;

	if (field->unbuilt && !config_field_is_default(field, obj))
		return refuse(path, field->unbuilt, err);
	switch (field->kind) {
	case CONFIG_ENUM: return check_enum(field, obj, path, err);
	case CONFIG_OBJECT: return check_object(field->table, place, path, err);
	case CONFIG_OBJECT_PTR:
		sub = *(void *const *)place;
		return sub ? check_object(field->table, sub, path, err) : 0;
	case CONFIG_OBJECT_LIST: return check_list(field, obj, path, err);
	default: return 0;
	}
}

static int check_object(const struct config_table *table, const void *obj,
			const struct config_path *path, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < table->num_fields; i++) {
		const struct config_field *field = &table->fields[i];
		struct config_path here = {.up = path, .name = field->name};

		if (field->name)
			r = check_field(field, obj, &here, err);
	}
	return r;
}

int config_object_check_supported(const struct config_table *table, const void *obj,
				  const char *where, struct err *err)
{
	struct config_path path = {.name = where};

	return check_object(table, obj, *where ? &path : NULL, err);
}

int vm_config_check_supported(const struct vm_config *config, struct err *err)
{
	static atomic_flag warned = ATOMIC_FLAG_INIT;
	int r = config_object_check_supported(&vm_config_table, config, "", err);

	/* Orchestrators reserve room as a matter of course; the VM is right without it. */
	if (r == 0 && config->memory.has_hotplug_size && !atomic_flag_test_and_set(&warned))
		log_warn("memory.hotplug_size: memory cannot be added to a running VM yet; "
			 "the room is not reserved");
	return r;
}
