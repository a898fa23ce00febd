/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of vm_config_validate(). Each returns 0, or negative errno with err set. */
#ifndef VMM_CONFIG_CONFIG_VALIDATE_H
#define VMM_CONFIG_CONFIG_VALIDATE_H

#include "vmm/config/vm_config.h"

#include <errno.h>

/* Refuses the request with a message. */
#define CONFIG_BAD(err, ...) err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, __VA_ARGS__)

/* Most vCPUs that KVM takes on x86_64. */
#define CONFIG_MAX_VCPUS 8192

/* Host CPUs are given by numbers below this. */
#define CONFIG_MAX_HOST_CPUS 65536

/* Guest memory at boot, zones or not. Only for a valid `memory`. */
uint64_t config_memory_total(const struct memory_config *memory);

int config_validate_cpus(const struct cpus_config *cpus, struct err *err);
int config_validate_memory(const struct memory_config *memory, struct err *err);
int config_validate_payload(const struct payload_config *payload, struct err *err);
int config_validate_platform(const struct vm_config *config, struct err *err);
int config_validate_numa(const struct vm_config *config, struct err *err);
int config_validate_landlock(const struct vm_config *config, struct err *err);

/* Ids of everything, and what all PCI devices share. */
int config_validate_ids(const struct vm_config *config, struct err *err);
int config_validate_pci(const struct vm_config *config, struct err *err);

int config_validate_rate_limit_groups(const struct vm_config *config, struct err *err);
int config_validate_disks(const struct vm_config *config, struct err *err);
int config_validate_net(const struct vm_config *config, struct err *err);
int config_validate_consoles(const struct vm_config *config, struct err *err);
int config_validate_virtio(const struct vm_config *config, struct err *err);
int config_validate_passthrough(const struct vm_config *config, struct err *err);

#endif
