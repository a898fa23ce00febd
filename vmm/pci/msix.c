/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * `setup` serialises everything that the guest does: table writes, the control word, and the
 * owner's reset and load; ioctls happen under it. `lock` is the short one of the raise path: it
 * guards pending bits and the change of a vector's `live` flag, and no system call but the
 * eventfd's write happens under it.
 *
 * A vector is live when MSI-X is on, neither function nor vector is masked, it has an irqfd and KVM
 * has its route. msix_raise() on a live vector is an atomic load and a write to the eventfd. On a
 * vector that is not live it sets the pending bit, which fires when the vector comes alive. So what
 * is raised while the commit is deferred, or under way, is not lost either.
 *
 * The memory of an irqfd stays until msix_reset() or msix_free(), which happen when nobody raises
 * any more.
 */
#include "vmm/pci/msix.h"

#include "base/endian.h"
#include "base/log.h"
#include "base/state.h"
#include "vmm/bus/irq.h"
#include "vmm/pci/pci_regs.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define CONTROL_OFFSET	      2 /* from the capability's start */
#define CONTROL_ENABLE	      0x8000U
#define CONTROL_FUNCTION_MASK 0x4000U

#define ENTRY_DWORDS	    4
#define VECTOR_CONTROL_MASK 1U

#define MAX_VECTORS 2048U

struct msix_vector {
	struct irq_msi irq;
	atomic_bool live;
};

struct msix {
	struct pci_device *pdev;
	struct irq_router *router;
	unsigned num_vectors;
	unsigned cap;
	unsigned bar;
	uint32_t table_offset, table_bytes;
	uint32_t pba_offset, pba_bytes;

	pthread_mutex_t setup; /* before lock */
	bool enabled;
	bool function_masked;
	bool deferred;
	struct msix_vector *vectors;

	pthread_mutex_t lock; /* guards pending, changes of live, writes of enabled */

	/* One allocation, table and pending bits, as save() writes it. */
	uint32_t *table;
	uint64_t *pending;
};

static bool parameters_fit(const struct pci_device *pdev, const struct msix *m)
{
	const struct pci_bar *bar;

	if (!m->num_vectors || m->num_vectors > MAX_VECTORS || m->bar >= PCI_NUM_BARS)
		return false;
	bar = &pdev->bars[m->bar];
	return bar->used && !(m->table_offset & 7) && !(m->pba_offset & 7) &&
	       range_within(m->table_offset, m->table_bytes, 0, bar->size_bytes) &&
	       range_within(m->pba_offset, m->pba_bytes, 0, bar->size_bytes) &&
	       !ranges_overlap(m->table_offset, m->table_bytes, m->pba_offset, m->pba_bytes);
}

static int add_capability(struct msix *m)
{
	uint8_t body[10] = {0}, mask[10] = {0};

	le_store(&body[0], m->num_vectors - 1, 2);
	le_store(&body[2], m->table_offset | m->bar, 4);
	le_store(&body[6], m->pba_offset | m->bar, 4);
	le_store(&mask[0], CONTROL_ENABLE | CONTROL_FUNCTION_MASK, 2);
	return pci_device_add_capability(m->pdev, PCI_CAP_MSIX, body, sizeof(body), mask, false);
}

static void mask_all(struct msix *m)
{
	memset(m->table, 0, m->table_bytes);
	memset(m->pending, 0, m->pba_bytes);
	for (unsigned v = 0; v < m->num_vectors; v++)
		m->table[v * ENTRY_DWORDS + 3] = VECTOR_CONTROL_MASK;
}

static void free_msix(struct msix *m)
{
	free(m->vectors);
	free(m->table);
	free(m);
}

int msix_new(struct pci_device *pdev, struct irq_router *router, unsigned vectors, unsigned bar,
	     uint32_t table_offset, uint32_t pba_offset, struct err *err)
{
	struct msix *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return err_set_errno(err, -ENOMEM, "%s: cannot create MSI-X", pdev->name);
	m->pdev = pdev;
	m->router = router;
	m->num_vectors = vectors;
	m->bar = bar;
	m->table_offset = table_offset;
	m->pba_offset = pba_offset;
	m->table_bytes = MIN(vectors, MAX_VECTORS) * MSIX_ENTRY_SIZE;
	m->pba_bytes = (MIN(vectors, MAX_VECTORS) + 63) / 64 * 8;
	if (pdev->msix || !parameters_fit(pdev, m)) {
		free_msix(m);
		return err_set(err, -EINVAL, "%s: %u MSI-X vectors do not fit BAR %u", pdev->name,
			       vectors, bar);
	}
	m->vectors = calloc(vectors, sizeof(*m->vectors));
	m->table = calloc(1, m->table_bytes + m->pba_bytes);
	if (!m->vectors || !m->table) {
		free_msix(m);
		return err_set_errno(err, -ENOMEM, "%s: cannot create MSI-X", pdev->name);
	}
	m->pending = (uint64_t *)(void *)((uint8_t *)m->table + m->table_bytes);
	for (unsigned v = 0; v < vectors; v++)
		m->vectors[v].irq.fd = -1;
	mask_all(m);
	rc = add_capability(m);
	if (rc < 0) {
		free_msix(m);
		return err_set_errno(err, rc, "%s: no room for the MSI-X capability", pdev->name);
	}
	m->cap = (unsigned)rc;
	pthread_mutex_init(&m->setup, NULL);
	pthread_mutex_init(&m->lock, NULL);
	pdev->msix = m;
	return 0;
}

static void release_vectors(struct msix *m)
{
	for (unsigned v = 0; v < m->num_vectors; v++) {
		m->vectors[v].live = false;
		irq_msi_fini(m->router, &m->vectors[v].irq);
	}
}

void msix_free(struct pci_device *pdev)
{
	struct msix *m = pdev->msix;

	if (!m)
		return;
	pdev->msix = NULL;
	release_vectors(m);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->setup);
	free_msix(m);
}

unsigned msix_cap_offset(const struct msix *msix)
{
	return msix->cap;
}

/* --- vectors coming alive and going --- */

static bool wanted(const struct msix *m, unsigned v)
{
	return m->enabled && !m->function_masked &&
	       !(m->table[v * ENTRY_DWORDS + 3] & VECTOR_CONTROL_MASK);
}

/* Makes the vector's route what the table says, so that the next commit carries it. */
static void prepare(struct msix *m, unsigned v)
{
	struct irq_msi *irq = &m->vectors[v].irq;
	const uint32_t *entry = &m->table[v * ENTRY_DWORDS];
	int rc;

	if (irq->fd < 0) {
		rc = irq_msi_init(m->router, irq);
		if (rc < 0) {
			log_warn_limited("%s: no interrupt for MSI-X vector %u: %s", m->pdev->name,
					 v, strerror(-rc));
			return;
		}
	}
	irq_msi_route(m->router, irq, entry[0] | (uint64_t)entry[1] << 32, entry[2]);
}

static void fire_if_pending(struct msix *m, unsigned v)
{
	uint64_t bit = 1ULL << (v % 64);

	if (!(m->pending[v / 64] & bit))
		return;
	m->pending[v / 64] &= ~bit;
	irq_msi_raise(&m->vectors[v].irq);
}

/* Sets vectors [first, first + count) to what table and control word say. setup is held. */
static void update(struct msix *m, unsigned first, unsigned count)
{
	bool any = false;
	int rc;

	for (unsigned v = first; v < first + count; v++) {
		if (wanted(m, v)) {
			prepare(m, v);
			any = true;
		} else if (m->vectors[v].live) {
			pthread_mutex_lock(&m->lock);
			m->vectors[v].live = false;
			pthread_mutex_unlock(&m->lock);
		}
	}
	if (!any || m->deferred)
		return;
	rc = irq_commit(m->router);
	if (rc < 0) {
		log_warn_limited("%s: cannot hand KVM the interrupt routes: %s", m->pdev->name,
				 strerror(-rc));
		return;
	}
	pthread_mutex_lock(&m->lock);
	for (unsigned v = first; v < first + count; v++) {
		if (!wanted(m, v) || m->vectors[v].irq.fd < 0)
			continue;
		m->vectors[v].live = true;
		fire_if_pending(m, v);
	}
	pthread_mutex_unlock(&m->lock);
}

void msix_control_written(struct msix *msix)
{
	uint16_t control = (uint16_t)le_load(&msix->pdev->config[msix->cap + CONTROL_OFFSET], 2);

	pthread_mutex_lock(&msix->setup);
	pthread_mutex_lock(&msix->lock);
	msix->enabled = control & CONTROL_ENABLE;
	msix->function_masked = control & CONTROL_FUNCTION_MASK;
	pthread_mutex_unlock(&msix->lock);
	update(msix, 0, msix->num_vectors);
	pthread_mutex_unlock(&msix->setup);
}

void msix_set_deferred(struct msix *msix, bool deferred)
{
	pthread_mutex_lock(&msix->setup);
	msix->deferred = deferred;
	if (!deferred)
		update(msix, 0, msix->num_vectors);
	pthread_mutex_unlock(&msix->setup);
}

void msix_raise(struct msix *msix, unsigned vector)
{
	struct msix_vector *v;

	if (vector >= msix->num_vectors)
		return;
	v = &msix->vectors[vector];
	if (v->live) {
		irq_msi_raise(&v->irq);
		return;
	}
	pthread_mutex_lock(&msix->lock);
	if (v->live)
		irq_msi_raise(&v->irq);
	else if (msix->enabled)
		msix->pending[vector / 64] |= 1ULL << (vector % 64);
	pthread_mutex_unlock(&msix->lock);
}

/* --- table and PBA --- */

/* Whether the access touches [start, start + size) of the BAR. */
static bool touches(const struct msix *m, unsigned bar, uint64_t offset, unsigned len,
		    uint32_t start, uint32_t size)
{
	return bar == m->bar && ranges_overlap(offset, len, start, size);
}

/* 6.8.2: software uses aligned dword or qword accesses. */
static bool legal(uint64_t offset, unsigned len, uint32_t start, uint32_t size)
{
	return (len == 4 || len == 8) && !(offset & (len - 1)) &&
	       range_within(offset, len, start, size);
}

bool msix_read(struct msix *msix, unsigned bar, uint64_t offset, void *data, unsigned len)
{
	bool table = touches(msix, bar, offset, len, msix->table_offset, msix->table_bytes);
	bool pba = touches(msix, bar, offset, len, msix->pba_offset, msix->pba_bytes);

	if (!table && !pba)
		return false;
	memset(data, 0xff, len);
	if (table && legal(offset, len, msix->table_offset, msix->table_bytes)) {
		const uint32_t *p = &msix->table[(offset - msix->table_offset) / 4];

		pthread_mutex_lock(&msix->setup);
		le_store(data, p[0] | (len == 8 ? (uint64_t)p[1] << 32 : 0), len);
		pthread_mutex_unlock(&msix->setup);
	} else if (pba && legal(offset, len, msix->pba_offset, msix->pba_bytes)) {
		uint64_t at = offset - msix->pba_offset;

		pthread_mutex_lock(&msix->lock);
		le_store(data, msix->pending[at / 8] >> (at % 8 * 8), len);
		pthread_mutex_unlock(&msix->lock);
	}
	return true;
}

bool msix_write(struct msix *msix, unsigned bar, uint64_t offset, const void *data, unsigned len)
{
	if (touches(msix, bar, offset, len, msix->pba_offset, msix->pba_bytes))
		return true; /* read only */
	if (!touches(msix, bar, offset, len, msix->table_offset, msix->table_bytes))
		return false;
	if (!legal(offset, len, msix->table_offset, msix->table_bytes))
		return true;

	pthread_mutex_lock(&msix->setup);
	for (unsigned i = 0; i < len / 4; i++) {
		size_t dword = (offset - msix->table_offset) / 4 + i;
		uint32_t value = (uint32_t)le_load((const uint8_t *)data + 4 * (size_t)i, 4);

		if (dword % ENTRY_DWORDS == 3)
			value &= VECTOR_CONTROL_MASK;
		else if (dword % ENTRY_DWORDS == 0)
			value &= ~3U; /* dword aligned, 6.8.2.7 */
		msix->table[dword] = value;
	}
	update(msix, (unsigned)((offset - msix->table_offset) / MSIX_ENTRY_SIZE), 1);
	pthread_mutex_unlock(&msix->setup);
	return true;
}

/* --- reset, save, load --- */

void msix_reset(struct msix *msix)
{
	uint8_t *control = &msix->pdev->config[msix->cap + CONTROL_OFFSET];

	pthread_mutex_lock(&msix->pdev->lock);
	le_store(control, le_load(control, 2) & ~(uint64_t)(CONTROL_ENABLE | CONTROL_FUNCTION_MASK),
		 2);
	pthread_mutex_unlock(&msix->pdev->lock);

	pthread_mutex_lock(&msix->setup);
	pthread_mutex_lock(&msix->lock);
	msix->enabled = false;
	msix->function_masked = false;
	mask_all(msix);
	pthread_mutex_unlock(&msix->lock);
	release_vectors(msix);
	pthread_mutex_unlock(&msix->setup);
}

/* The layout depends on the number of vectors: table and pending bits, one after the other. */
static struct state_layout layout_of(const struct msix *m, struct state_field fields[2])
{
	fields[0] = (struct state_field){
		.name = "table",
		.type = STATE_U32,
		.offset = 0,
		.count = m->table_bytes / 4,
		.since = 1,
	};
	fields[1] = (struct state_field){
		.name = "pending",
		.type = STATE_U64,
		.offset = m->table_bytes,
		.count = m->pba_bytes / 8,
		.since = 1,
	};
	return (struct state_layout){
		.name = "msix",
		.version = 1,
		.fields = fields,
		.num_fields = 2,
		.struct_size = m->table_bytes + m->pba_bytes,
	};
}

int msix_save(struct msix *msix, struct buf *out)
{
	struct state_field fields[2];
	struct state_layout layout = layout_of(msix, fields);
	int rc;

	pthread_mutex_lock(&msix->setup);
	pthread_mutex_lock(&msix->lock);
	rc = state_save(out, &layout, msix->table);
	pthread_mutex_unlock(&msix->lock);
	pthread_mutex_unlock(&msix->setup);
	return rc;
}

int msix_load(struct msix *msix, struct cursor *in, struct err *err)
{
	struct state_field fields[2];
	struct state_layout layout = layout_of(msix, fields);
	int rc;

	pthread_mutex_lock(&msix->setup);
	pthread_mutex_lock(&msix->lock);
	rc = state_load(in, &layout, msix->table, err);
	for (unsigned v = 0; rc >= 0 && v < msix->num_vectors; v++) {
		msix->table[v * ENTRY_DWORDS] &= ~3U;
		msix->table[v * ENTRY_DWORDS + 3] &= VECTOR_CONTROL_MASK;
	}
	/* Bits past the last vector mean nothing. */
	if (rc >= 0 && msix->num_vectors % 64)
		msix->pending[msix->num_vectors / 64] &= (1ULL << (msix->num_vectors % 64)) - 1;
	pthread_mutex_unlock(&msix->lock);
	pthread_mutex_unlock(&msix->setup);
	if (rc < 0)
		return rc;
	/* Configuration space, with the control word, was loaded before. */
	pthread_mutex_lock(&msix->pdev->lock);
	msix_control_written(msix);
	pthread_mutex_unlock(&msix->pdev->lock);
	return 0;
}
