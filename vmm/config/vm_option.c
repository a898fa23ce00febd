/* SPDX-License-Identifier: Apache-2.0 */
/* The command-line options that are a part of VmConfig, and where each goes. */
#include "vmm/config/config_option.h"

#include "base/utf8.h"

#include <errno.h>
#include <string.h>

#define OBJECT(n, t, f, h)                                                                       \
	{                                                                                        \
		.name = (n), .place = VM_OPTION_OBJECT, .table = &(t), .field = (f), .help = (h) \
	}
#define ELEMENT(n, t, f, h)                                                                    \
	{                                                                                      \
		.name = (n), .place = VM_OPTION_LIST, .table = &(t), .field = (f), .help = (h) \
	}
#define PAYLOAD(n, f, h)                                                                           \
	{                                                                                          \
		.name = (n), .place = VM_OPTION_STRING, .field = (f), .in = "payload", .help = (h) \
	}
#define SWITCH(n, f, h)                                                         \
	{                                                                       \
		.name = (n), .place = VM_OPTION_FLAG, .field = (f), .help = (h) \
	}

const struct vm_option vm_options[] = {
	OBJECT("cpus", cpus_config_table, "cpus", "vCPUs"),
	OBJECT("memory", memory_config_table, "memory", "guest memory"),
	{.name = "memory-zone",
	 .place = VM_OPTION_LIST,
	 .table = &memory_zone_config_table,
	 .field = "zones",
	 .in = "memory",
	 .help = "a zone of guest memory"},
	PAYLOAD("kernel", "kernel", "kernel image: bzImage or ELF with a PVH entry"),
	PAYLOAD("cmdline", "cmdline", "the kernel's command line"),
	PAYLOAD("initramfs", "initramfs", "initial file system"),
	PAYLOAD("firmware", "firmware", "firmware image"),
	PAYLOAD("igvm", "igvm", "IGVM image"),
	PAYLOAD("host-data", "host_data", "SEV-SNP host data, 64 hexadecimal digits"),
	{.name = "fw-cfg-config",
	 .place = VM_OPTION_OBJECT,
	 .table = &fw_cfg_config_table,
	 .field = "fw_cfg_config",
	 .in = "payload",
	 .help = "what the fw_cfg device offers"},
	ELEMENT("disk", disk_config_table, "disks", "a disk"),
	ELEMENT("net", net_config_table, "net", "a network device"),
	ELEMENT("rate-limit-group", rate_limiter_group_config_table, "rate_limit_groups",
		"limits that disks share"),
	OBJECT("rng", rng_config_table, "rng", "the entropy device"),
	{.name = "rtc",
	 .place = VM_OPTION_OBJECT,
	 .table = &rtc_config_table,
	 .field = "rtc",
	 .optional_value = true,
	 .help = "a virtio clock"},
	OBJECT("balloon", balloon_config_table, "balloon", "the memory balloon"),
	ELEMENT("fs", fs_config_table, "fs", "a shared directory"),
	ELEMENT("generic-vhost-user", generic_vhost_user_config_table, "generic_vhost_user",
		"any vhost-user device"),
	ELEMENT("pmem", pmem_config_table, "pmem", "persistent memory"),
	OBJECT("serial", serial_config_table, "serial", "the serial port"),
	OBJECT("console", console_config_table, "console", "the virtio console"),
	OBJECT("debug-console", debug_console_config_table, "debug_console", "the debug port"),
	ELEMENT("device", device_config_table, "devices", "a VFIO device"),
	ELEMENT("user-device", user_device_config_table, "user_devices", "a vfio-user device"),
	ELEMENT("vdpa", vdpa_config_table, "vdpa", "a vDPA device"),
	OBJECT("vsock", vsock_config_table, "vsock", "the vsock device"),
	OBJECT("ivshmem", ivshmem_config_table, "ivshmem", "shared memory between VMs"),
	ELEMENT("numa", numa_config_table, "numa", "a NUMA node"),
	ELEMENT("pci-segment", pci_segment_config_table, "pci_segments", "a PCI segment"),
	OBJECT("platform", platform_config_table, "platform", "the platform"),
	OBJECT("tpm", tpm_config_table, "tpm", "the TPM"),
	ELEMENT("landlock-rules", landlock_rule_config_table, "landlock_rules",
		"a path that stays reachable under Landlock"),
	SWITCH("landlock", "landlock_enable", "confine the process by Landlock"),
	SWITCH("pvpanic", "pvpanic", "the pvpanic device"),
	SWITCH("watchdog", "watchdog", "the virtio watchdog"),
	{.name = NULL},
};

const struct vm_option *vm_option_find(const char *name)
{
	for (const struct vm_option *o = vm_options; o->name; o++) {
		if (strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

static const struct config_field *find_field(const struct config_table *table, const char *name)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		if (table->fields[i].name && strcmp(table->fields[i].name, name) == 0)
			return &table->fields[i];
	}
	return NULL;
}

/* The object at that place, made first where it is optional and absent. */
static void *object_at(const struct config_field *field, void *obj)
{
	void *place = (char *)obj + field->offset;
	AUTO_FREE void *fresh = NULL;

	if (field->kind == CONFIG_OBJECT)
		return place;
	if (!*(void **)place) {
		fresh = calloc(1, field->table->size);
		if (!fresh || config_object_init(field->table, fresh) < 0)
			return NULL;
		*(void **)place = TAKE(fresh);
	}
	return *(void **)place;
}

static int replace_object(const struct config_field *field, void *obj, const char *text,
			  struct err *err)
{
	AUTO_FREE void *fresh = calloc(1, field->table->size);
	void *place;
	int r;

	if (!fresh)
		return err_set(err, -ENOMEM, "out of memory");
	r = config_parse_option(field->table, text, fresh, err);
	if (r < 0)
		return r;
	place = object_at(field, obj);
	if (!place) {
		config_object_fini(field->table, fresh);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (field->table == &memory_config_table) { /* --memory-zone may have come before */
		struct memory_config *old = place, *new = fresh;

		new->num_zones = old->num_zones;
		new->zones = TAKE(old->zones);
		old->num_zones = 0;
	}
	config_object_fini(field->table, place);
	memcpy(place, fresh, field->table->size);
	return 0;
}

static int append_object(const struct config_field *field, void *obj, const char *text,
			 struct err *err)
{
	AUTO_FREE void *fresh = calloc(1, field->table->size);
	void *element;
	int r;

	if (!fresh)
		return err_set(err, -ENOMEM, "out of memory");
	r = config_parse_option(field->table, text, fresh, err);
	if (r < 0)
		return r;
	element = config_list_grow(field, obj);
	if (!element) {
		config_object_fini(field->table, fresh);
		return err_set(err, -ENOMEM, "there are too many, or memory is out");
	}
	memcpy(element, fresh, field->table->size);
	return 0;
}

static int set_string(const struct config_field *field, void *obj, const char *text,
		      struct err *err)
{
	char **place = (void *)((char *)obj + field->offset);
	int r = config_check_string(field, text, field->name, err);
	char *s = r < 0 ? NULL : strdup(text);

	if (r == 0 && !s)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r == 0) {
		free(*place);
		*place = s;
	}
	return r;
}

static int apply(void *obj, const struct config_field *field, const struct vm_option *option,
		 const char *text, struct err *err)
{
	if (option->place == VM_OPTION_FLAG) {
		config_field_set(field, obj, true);
		return 0;
	}
	if (!text && !option->optional_value)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "needs a value");
	switch (option->place) {
	case VM_OPTION_OBJECT: return replace_object(field, obj, text, err);
	case VM_OPTION_LIST: return append_object(field, obj, text, err);
	default: return set_string(field, obj, text, err);
	}
}

int vm_option_apply(struct vm_config *config, const struct vm_option *option, const char *text,
		    struct err *err)
{
	const struct config_table *table = &vm_config_table;
	const struct config_field *field;
	void *obj = config;
	int r;

	/* JSON, in which the configuration is shown, has no way to say it. */
	if (text && !utf8_valid(text, strlen(text)))
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "--%s is not UTF-8",
				    option->name);
	if (option->in) {
		field = find_field(table, option->in);
		obj = object_at(field, config);
		table = field->table;
		if (!obj)
			return err_set(err, -ENOMEM, "--%s: out of memory", option->name);
	}
	field = find_field(table, option->field);
	r = apply(obj, field, option, text, err);
	return r < 0 ? err_wrap(err, r, "--%s", option->name) : 0;
}
