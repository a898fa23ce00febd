/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "vmm/machine/machine_private.h"
#include "vmm/pci/pci.h"

#include <errno.h>
#include <string.h>

/* {"PciBar":{"index":0,"base":..,"size":..,"type_":"Mmio64","prefetchable":false}} */
static int add_bar(struct json *resources, unsigned index, const struct pci_bar *bar)
{
	struct json *resource = json_new_object();
	struct json *v = json_new_object();
	/* A vCPU may be moving it, and we do not wait for its lock. */
	uint64_t base = __atomic_load_n(&bar->base, __ATOMIC_RELAXED);
	int r;

	if (!resource || !v) {
		json_put(resource);
		json_put(v);
		return -ENOMEM;
	}
	r = json_set(v, "index", json_new_uint(index));
	if (r >= 0)
		r = json_set(v, "base", json_new_uint(base));
	if (r >= 0)
		r = json_set(v, "size", json_new_uint(bar->size_bytes));
	if (r >= 0)
		r = json_set(v, "type_", json_new_string(bar->is64 ? "Mmio64" : "Mmio32"));
	if (r >= 0)
		r = json_set(v, "prefetchable", json_new_bool(bar->prefetchable));
	if (r < 0)
		json_put(v);
	else
		r = json_set(resource, "PciBar", v);
	if (r < 0) {
		json_put(resource);
		return r;
	}
	return json_append(resources, resource);
}

static int add_resources(struct json *entry, struct pci_device *function)
{
	struct json *resources = json_new_array();
	int r = resources ? 0 : -ENOMEM;

	for (unsigned i = 0; r >= 0 && function && i < PCI_NUM_BARS; i++) {
		if (function->bars[i].used)
			r = add_bar(resources, i, &function->bars[i]);
	}
	if (r < 0) {
		json_put(resources);
		return r;
	}
	return json_set(entry, "resources", resources);
}

static int add_children(struct machine *m, struct json *entry, const char *id)
{
	struct json *children = json_new_array();
	struct list *node;
	int r = children ? 0 : -ENOMEM;

	list_for_each (node, &m->nodes) {
		const struct device *dev = container_of(node, struct machine_node, node)->dev;

		if (r >= 0 && !strcmp(dev->parent, id))
			r = json_append(children, json_new_string(dev->id));
	}
	if (r < 0) {
		json_put(children);
		return r;
	}
	return json_set(entry, "children", children);
}

static int add_node(struct machine *m, struct json *tree, const struct machine_node *n)
{
	struct json *entry = json_new_object();
	char bdf[16];
	int r = entry ? 0 : -ENOMEM;

	if (r >= 0)
		r = json_set(entry, "id", json_new_string(n->dev->id));
	if (r >= 0)
		r = add_resources(entry, n->function);
	if (r >= 0)
		r = json_set(entry, "parent",
			     n->dev->parent[0] ? json_new_string(n->dev->parent) : json_new_null());
	if (r >= 0)
		r = add_children(m, entry, n->dev->id);
	if (r >= 0 && n->function)
		pci_device_bdf(n->function, bdf, sizeof(bdf));
	if (r >= 0)
		r = json_set(entry, "pci_bdf",
			     n->function ? json_new_string(bdf) : json_new_null());
	if (r < 0) {
		json_put(entry);
		return r;
	}
	return json_set(tree, n->dev->id, entry);
}

struct json *machine_device_tree(struct machine *m)
{
	AUTO_JSON struct json *tree = json_new_object();
	struct list *node;

	if (!tree)
		return NULL;
	list_for_each (node, &m->nodes) {
		if (add_node(m, tree, container_of(node, struct machine_node, node)) < 0)
			return NULL;
	}
	return TAKE(tree);
}

struct json *machine_counters(struct machine *m)
{
	AUTO_JSON struct json *all = json_new_object();
	struct list *node;

	if (!all)
		return NULL;
	list_for_each (node, &m->nodes) {
		struct device *dev = container_of(node, struct machine_node, node)->dev;

		if (dev->ops->counters && json_set(all, dev->id, dev->ops->counters(dev)) < 0)
			return NULL;
	}
	return TAKE(all);
}
