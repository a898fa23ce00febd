/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "vmm/config/vm_config.h"
#include "vmm/machine/vm_private.h"

#include <errno.h>

int vm_info(struct vm *vm, struct json **ret_info, struct err *err)
{
	AUTO_JSON struct json *info = NULL;

	if (vm->state == VM_NONE)
		return err_set_kind(err, ERR_NOT_FOUND, -ENOENT, "VM is not created");
	info = json_new_object();
	if (!info || json_set(info, "config", vm_config_to_json(vm->config)) < 0 ||
	    json_set(info, "state", json_new_string(vm_state_name(vm->state))) < 0 ||
	    json_set(info, "memory_actual_size", json_new_uint(vm->config->memory.size)) < 0 ||
	    (vm->machine && json_set(info, "device_tree", machine_device_tree(vm->machine)) < 0))
		return err_set(err, -ENOMEM, "out of memory");
	*ret_info = TAKE(info);
	return 0;
}

int vm_counters(struct vm *vm, struct json **ret_counters, struct err *err)
{
	struct json *counters;

	if (!vm->machine)
		return err_set(err, -EINVAL, "VM is not running");
	counters = machine_counters(vm->machine);
	if (!counters)
		return err_set(err, -ENOMEM, "out of memory");
	*ret_counters = counters;
	return 0;
}
