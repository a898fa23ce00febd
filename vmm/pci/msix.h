/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X: a table of vectors in a BAR, pending bits, and their way to KVM through irqfds.
 *
 * Vectors are masked at reset. A vector's route is handed to irq.h when the guest unmasks it; while
 * `deferred` (before the driver set its device going) the table is not committed, so that a driver
 * that sets up 20 vectors costs one KVM_SET_GSI_ROUTING; msix_set_deferred(false) commits. A vector
 * raised while masked sets its pending bit and fires when unmasked.
 *
 * Locking: one mutex; msix_raise() takes it only when the vector or function is masked or unmasked
 * concurrently (never across an ioctl on the raise path). Source: PCI Local Bus 3.0 section 6.8.2.
 */
#ifndef VMM_PCI_MSIX_H
#define VMM_PCI_MSIX_H

#include "vmm/pci/pci.h"

#define MSIX_ENTRY_SIZE 16

/* Adds an MSI-X capability for `vectors` (1..2048) with table and PBA at the offsets of `bar`.
 * Before pci_attach(). */
int msix_new(struct pci_device *pdev, struct irq_router *router, unsigned vectors, unsigned bar,
	     uint32_t table_offset, uint32_t pba_offset, struct err *err);
void msix_free(struct pci_device *pdev);

/* (pci.c calls these two before the device's BAR handlers.) BAR accesses that fall into the table
 * or PBA; return false when [offset, len) is not theirs. Odd widths and straddling accesses read
 * ones and write nothing. */
bool msix_read(struct msix *msix, unsigned bar, uint64_t offset, void *data, unsigned len);
bool msix_write(struct msix *msix, unsigned bar, uint64_t offset, const void *data, unsigned len);

/* Raises vector (ignored when >= vectors, or MSI-X is disabled). Any thread. */
void msix_raise(struct msix *msix, unsigned vector);

void msix_set_deferred(struct msix *msix, bool deferred);

/* The control word (enable, function mask) may have changed. For pci.c, which holds the
 * configuration lock. */
void msix_control_written(struct msix *msix);

/* Where the capability is in configuration space. */
unsigned msix_cap_offset(const struct msix *msix);

void msix_reset(struct msix *msix);
int msix_save(struct msix *msix, struct buf *out);
int msix_load(struct msix *msix, struct cursor *in, struct err *err);

#endif
