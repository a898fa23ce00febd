/* SPDX-License-Identifier: Apache-2.0 */
/* What virtio_pci.c and virtio_pci_common.c share. */
#ifndef VMM_VIRTIO_VIRTIO_PCI_INTERNAL_H
#define VMM_VIRTIO_VIRTIO_PCI_INTERNAL_H

#include "vmm/virtio/virtio_pci.h"

#define VIRTIO_PCI_COMMON_SIZE	  56U
#define VIRTIO_PCI_ISR_QUEUE_BIT  1
#define VIRTIO_PCI_ISR_CONFIG_BIT 2

struct virtio_pci {
	struct device dev; /* first */
	struct pci_device pdev;
	struct virtio_device *vdev;
	struct pci_segment *segment;
	int wanted_slot;
	unsigned window; /* offset of the configuration access capability */
	_Atomic uint32_t device_feature_select;
	_Atomic uint32_t driver_feature_select;
	_Atomic uint16_t queue_select;
	_Atomic uint16_t config_vector;
	_Atomic uint16_t queue_vectors[VIRTIO_MAX_QUEUES];
	_Atomic uint8_t isr;
	/* Under the function's lock. */
	uint64_t notify_base;			 /* ioeventfds are at; 0 = nowhere */
	uint8_t notify_width[VIRTIO_MAX_QUEUES]; /* with which, plus 1; 0 = not registered */
};

/* Selectors, vectors and ISR as after a reset. */
void virtio_pci_clear_registers(struct virtio_pci *vp);

/* A guest's access within the structure or over its end; vCPU threads. A read gives nothing (data
 * is left alone) unless it lies within. */
void virtio_pci_read_common(struct virtio_pci *vp, uint64_t offset, void *data, unsigned len);
void virtio_pci_write_common(struct virtio_pci *vp, uint64_t offset, uint64_t value, unsigned len);

/* The registers, at rest. */
int virtio_pci_save_registers(struct virtio_pci *vp, struct buf *out);
int virtio_pci_load_registers(struct virtio_pci *vp, struct cursor *in, struct err *err);

#endif
