/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/vm_config.h"

#include "base/fd.h"
#include "vmm/config/config_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct vm_config *vm_config_new(void)
{
	AUTO_FREE struct vm_config *config = calloc(1, sizeof(*config));

	if (!config || config_object_init(&vm_config_table, config) < 0)
		return NULL;
	return TAKE(config);
}

void vm_config_free(struct vm_config *config)
{
	if (!config)
		return;
	config_object_fini(&vm_config_table, config);
	free(config);
}

int vm_config_copy(const struct vm_config *config, struct vm_config **ret_config, struct err *err)
{
	AUTO_FREE struct vm_config *copy = calloc(1, sizeof(*copy));
	int r = copy ? config_object_copy(&vm_config_table, copy, config) : -ENOMEM;

	if (r < 0)
		return err_set_errno(err, r, "copying the configuration");
	*ret_config = TAKE(copy);
	return 0;
}

int vm_config_parse(const struct json *json, struct vm_config **ret_config, struct err *err)
{
	AUTO_FREE struct vm_config *config = calloc(1, sizeof(*config));
	int r;

	if (!config)
		return err_set(err, -ENOMEM, "out of memory while reading the configuration");
	r = vm_config_parse_object(&vm_config_table, json, config, err);
	if (r == 0)
		*ret_config = TAKE(config);
	return r;
}

struct json *vm_config_to_json(const struct vm_config *config)
{
	return config_object_to_json(&vm_config_table, config);
}

bool vm_config_memory_is_shared(const struct vm_config *config)
{
	const struct memory_config *memory = &config->memory;

	if (memory->num_zones == 0)
		return memory->shared || memory->hugepages;
	for (size_t i = 0; i < memory->num_zones; i++) {
		if (!memory->zones[i].shared && !memory->zones[i].hugepages)
			return false;
	}
	return true;
}

/* --- ids -------------------------------------------------------------------------------------- */

/* The kinds of device whose ids are made up and shown, in the order of their creation. */
static const struct {
	const struct config_table *table;
	const char *prefix;
} auto_ids[] = {
	{&disk_config_table, "_disk"},
	{&net_config_table, "_net"},
	{&fs_config_table, "_fs"},
	{&generic_vhost_user_config_table, "_generic_vhost_user"},
	{&pmem_config_table, "_pmem"},
	{&vsock_config_table, "_vsock"},
	{&vdpa_config_table, "_vdpa"},
	{&device_config_table, "_vfio"},
	{&user_device_config_table, "_vfio_user"},
};

static const struct config_field *find_place(const struct config_table *table)
{
	for (size_t i = 0; i < vm_config_table.num_fields; i++) {
		if (vm_config_table.fields[i].table == table)
			return &vm_config_table.fields[i];
	}
	return NULL;
}

/* Where an object keeps its id, or NULL when its kind has none. */
static char **id_place(const struct config_table *table, void *obj)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		if (table->fields[i].name && strcmp(table->fields[i].name, "id") == 0)
			return (void *)((char *)obj + table->fields[i].offset);
	}
	return NULL;
}

static bool id_taken(struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < vm_config_table.num_fields; i++) {
		const struct config_field *field = &vm_config_table.fields[i];
		size_t count;
		char *objects = config_objects_at(field, config, &count);

		for (size_t k = 0; k < count; k++) {
			char **place = id_place(field->table, objects + k * field->table->size);

			if (place && *place && strcmp(*place, id) == 0)
				return true;
		}
	}
	for (size_t i = 0; i < config->memory.num_zones; i++) {
		if (config->memory.zones[i].id && strcmp(config->memory.zones[i].id, id) == 0)
			return true;
	}
	return false;
}

static int assign_id(struct vm_config *config, char **place, const char *prefix, unsigned *counter)
{
	AUTO_FREE char *id = NULL;

	do {
		free(id);
		if (asprintf(&id, "%s%u", prefix, (*counter)++) < 0) {
			id = NULL;
			return -ENOMEM;
		}
	} while (id_taken(config, id));
	*place = TAKE(id);
	return 0;
}

int vm_config_assign_ids(struct vm_config *config, unsigned *counter, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(auto_ids); i++) {
		const struct config_table *table = auto_ids[i].table;
		size_t count;
		char *objects = config_objects_at(find_place(table), config, &count);

		for (size_t k = 0; k < count; k++) {
			char **place = id_place(table, objects + k * table->size);
			int r = *place ? 0 : assign_id(config, place, auto_ids[i].prefix, counter);

			if (r < 0)
				return err_set(err, r, "out of memory for device ids");
		}
	}
	return 0;
}

/* --- adding and removing ---------------------------------------------------------------------- */

int vm_config_add(struct vm_config *config, const struct config_table *table, void *obj,
		  struct err *err)
{
	const struct config_field *field = find_place(table);
	void **single;
	void *element;

	if (!field || field->kind == CONFIG_OBJECT)
		return err_set(err, -EINVAL, "a %s cannot be added", table->name);
	if (field->kind == CONFIG_OBJECT_PTR) {
		single = (void *)((char *)config + field->offset);
		if (*single)
			return err_set(err, -EEXIST, "%s: the VM has one already", field->name);
		element = *single = calloc(1, table->size);
	} else {
		element = config_list_grow(field, config);
	}
	if (!element)
		return err_set(err, -ENOMEM, "%s: there are too many, or memory is out",
			       field->name);
	memcpy(element, obj, table->size);
	memset(obj, 0, table->size);
	return 0;
}

int vm_config_net_set_fds(struct net_config *net, const int *fds, size_t n, struct err *err)
{
	int *copy;

	if (n == 0 || n > net->num_queues || n * 2 != net->num_queues)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%zu descriptors came for %u queues, must be one for each two",
				    n, net->num_queues);
	copy = calloc(n, sizeof(*copy));
	if (!copy)
		return err_set(err, -ENOMEM, "out of memory for descriptors");
	memcpy(copy, fds, n * sizeof(*copy));
	for (size_t i = 0; i < net->num_fds; i++)
		fd_close(&net->fds[i]);
	free(net->fds);
	net->fds = copy;
	net->num_fds = n;
	return 0;
}

static void remove_at(const struct config_field *field, struct vm_config *config, size_t i)
{
	size_t size = field->table->size;
	size_t *count = (void *)((char *)config + field->count_offset);
	char *data = config_list_data(field, config);

	config_object_fini(field->table, data + i * size);
	memmove(data + i * size, data + (i + 1) * size, (*count - i - 1) * size);
	(*count)--;
}

/* rng and console are always there: what takes a device away leaves them. */
static bool removable(const struct config_field *field)
{
	return (field->kind == CONFIG_OBJECT_PTR || field->kind == CONFIG_OBJECT_LIST) &&
	       field->table != &rate_limiter_group_config_table;
}

int vm_config_remove_device(struct vm_config *config, const char *id, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	for (size_t i = 0; i < vm_config_table.num_fields; i++) {
		const struct config_field *field = &vm_config_table.fields[i];
		size_t count;
		char *objects = config_objects_at(field, config, &count);

		for (size_t k = 0; removable(field) && k < count; k++) {
			char **place = id_place(field->table, objects + k * field->table->size);

			if (!place || !*place || strcmp(*place, id) != 0)
				continue;
			if (field->kind == CONFIG_OBJECT_LIST)
				remove_at(field, config, k);
			else
				return config_field_reset(field, config);
			return 0;
		}
	}
	return err_set_kind(err, ERR_NOT_FOUND, -ENOENT, "there is no device with the id \"%s\"",
			    config_quote(id, quoted));
}
