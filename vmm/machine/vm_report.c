/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "vmm/config/vm_config.h"
#include "vmm/machine/vm_private.h"

#include <errno.h>

/* A guest that reboots has its devices all the time, for whoever asks. Out of memory: it has none.
 */
void vm_keep_report(struct vm *vm)
{
	if (!vm->machine)
		return;
	vm->last_counters = machine_counters(vm->machine);
	vm->last_tree = machine_device_tree(vm->machine);
}

void vm_drop_report(struct vm *vm)
{
	json_put(TAKE(vm->last_counters));
	json_put(TAKE(vm->last_tree));
}

int vm_info(struct vm *vm, struct json **ret_info, struct err *err)
{
	AUTO_JSON struct json *info = NULL;
	struct json *tree;
	bool booted = vm->machine || vm->last_tree;

	if (vm->state == VM_NONE)
		return err_set_kind(err, ERR_NOT_FOUND, -ENOENT, "VM is not created");
	tree = vm->machine ? machine_device_tree(vm->machine) : json_get_ref(vm->last_tree);
	info = json_new_object();
	if (!info || json_set(info, "config", vm_config_to_json(vm->config)) < 0 ||
	    json_set(info, "state", json_new_string(vm_state_name(vm->state))) < 0 ||
	    json_set(info, "memory_actual_size", json_new_uint(vm->config->memory.size)) < 0) {
		json_put(tree);
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (booted && json_set(info, "device_tree", tree) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	*ret_info = TAKE(info);
	return 0;
}

int vm_counters(struct vm *vm, struct json **ret_counters, struct err *err)
{
	struct json *counters;

	if (!vm->machine && !vm->last_counters)
		return err_set(err, -EINVAL, "VM is not running");
	counters = vm->machine ? machine_counters(vm->machine) : json_get_ref(vm->last_counters);
	if (!counters)
		return err_set(err, -ENOMEM, "out of memory");
	*ret_counters = counters;
	return 0;
}
