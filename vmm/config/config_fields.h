/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shorthand for writing a table's rows. Each macro takes the struct's tag (e.g. disk_config), the
 * member, and then further designated members of struct config_field. Included by the files with
 * tables only.
 */
#ifndef VMM_CONFIG_CONFIG_FIELDS_H
#define VMM_CONFIG_CONFIG_FIELDS_H

#include "vmm/config/config_table.h"
#include "vmm/config/vm_config.h"

#define ROW(tag, member, k, ...)                                                                  \
	{                                                                                         \
		.name = #member, .kind = (k), .offset = offsetof(struct tag, member), __VA_ARGS__ \
	}

/* A member with a `has_` beside it. */
#define OPTIONAL(tag, member, k, ...)                                                 \
	{                                                                             \
		.name = #member, .kind = (k), .offset = offsetof(struct tag, member), \
		.has_offset = offsetof(struct tag, has_##member), __VA_ARGS__         \
	}

#define LIST(tag, member, k, ...)                                                     \
	{                                                                             \
		.name = #member, .kind = (k), .offset = offsetof(struct tag, member), \
		.count_offset = offsetof(struct tag, num_##member), __VA_ARGS__       \
	}

/* The members of struct pci_device_config, as if they were the device's own. */
#define PCI_ROWS(tag, iommu_flags)                                         \
	{.name = "id",                                                     \
	 .kind = CONFIG_STRING,                                            \
	 .offset = offsetof(struct tag, pci.id),                           \
	 .max = 255,                                                       \
	 .help = "identifier, unique in the VM"},                          \
		{.name = "iommu",                                          \
		 .kind = CONFIG_BOOL,                                      \
		 .offset = offsetof(struct tag, pci.iommu),                \
		 .flags = CF_OMIT_FALSE | (iommu_flags),                   \
		 .unbuilt = "a virtual IOMMU",                             \
		 .help = "put it behind the virtual IOMMU"},               \
		{.name = "pci_segment",                                    \
		 .kind = CONFIG_U16,                                       \
		 .offset = offsetof(struct tag, pci.pci_segment),          \
		 .unbuilt = "more than one PCI segment",                   \
		 .help = "PCI segment"},                                   \
	{                                                                  \
		.name = "pci_device_id", .kind = CONFIG_U8,                \
		.offset = offsetof(struct tag, pci.pci_device_id),         \
		.has_offset = offsetof(struct tag, pci.has_pci_device_id), \
		.help = "PCI slot, 1 to 31"                                \
	}

#define TABLE_BODY(schema, tag, rows)                                   \
	.name = (schema), .size = sizeof(struct tag), .fields = (rows), \
	.num_fields = ARRAY_SIZE(rows)

#endif
