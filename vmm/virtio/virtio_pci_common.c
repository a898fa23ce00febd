/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The common configuration structure (virtio 1.2, section 4.1.4.3).
 *
 * Theory of operation
 *
 * Reads of the common configuration are served from an image of it that is made for each access, so
 * any width at any offset is in bounds. Writes take effect only in the widths that 4.1.3.1 asks of
 * drivers: whole fields, or either half of 64-bit ones.
 */
#include "base/endian.h"
#include "base/state.h"
#include "vmm/virtio/virtio_pci_internal.h"

#include <linux/virtio_pci.h>
#include <string.h>

void virtio_pci_clear_registers(struct virtio_pci *vp)
{
	vp->device_feature_select = 0;
	vp->driver_feature_select = 0;
	vp->queue_select = 0;
	vp->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		vp->queue_vectors[i] = VIRTIO_MSI_NO_VECTOR;
	vp->isr = 0;
}

static uint32_t offered_word(struct virtio_pci *vp, uint32_t word)
{
	return word > 1 ? 0 : (uint32_t)(virtio_offered_features(vp->vdev) >> 32 * word);
}

static void put_queue(struct virtio_pci *vp, uint8_t *image)
{
	uint16_t queue = vp->queue_select;
	struct virtqueue_config config = virtio_queue_config(vp->vdev, queue);
	bool exists = queue < vp->vdev->num_queues;

	le_store(image + VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
	le_store(image + VIRTIO_PCI_COMMON_Q_SIZE, config.size, 2);
	le_store(image + VIRTIO_PCI_COMMON_Q_MSIX,
		 exists ? vp->queue_vectors[queue] : VIRTIO_MSI_NO_VECTOR, 2);
	le_store(image + VIRTIO_PCI_COMMON_Q_ENABLE, config.enabled, 2);
	le_store(image + VIRTIO_PCI_COMMON_Q_NOFF, exists ? queue : 0, 2);
	le_store(image + VIRTIO_PCI_COMMON_Q_DESCLO, config.desc.v, 8);
	le_store(image + VIRTIO_PCI_COMMON_Q_AVAILLO, config.avail.v, 8);
	le_store(image + VIRTIO_PCI_COMMON_Q_USEDLO, config.used.v, 8);
}

void virtio_pci_read_common(struct virtio_pci *vp, uint64_t offset, void *data, unsigned len)
{
	struct virtio_device *vdev = vp->vdev;
	uint32_t offered = vp->device_feature_select, accepted = vp->driver_feature_select;
	uint8_t image[VIRTIO_PCI_COMMON_SIZE] = {0};

	le_store(image + VIRTIO_PCI_COMMON_DFSELECT, offered, 4);
	le_store(image + VIRTIO_PCI_COMMON_DF, offered_word(vp, offered), 4);
	le_store(image + VIRTIO_PCI_COMMON_GFSELECT, accepted, 4);
	le_store(image + VIRTIO_PCI_COMMON_GF, virtio_driver_features(vdev, accepted), 4);
	le_store(image + VIRTIO_PCI_COMMON_MSIX, vp->config_vector, 2);
	le_store(image + VIRTIO_PCI_COMMON_NUMQ, vdev->num_queues, 2);
	image[VIRTIO_PCI_COMMON_STATUS] = virtio_status(vdev);
	image[VIRTIO_PCI_COMMON_CFGGENERATION] = (uint8_t)atomic_load(&vdev->config_generation);
	put_queue(vp, image);
	if (range_within(offset, len, 0, sizeof(image)))
		memcpy(data, image + offset, len);
}

/* A vector that does not exist reads back as none: so the driver learns that it got none. */
static uint16_t valid_vector(const struct virtio_pci *vp, uint32_t vector)
{
	return (uint16_t)(vector <= vp->vdev->num_queues ? vector : VIRTIO_MSI_NO_VECTOR);
}

static void set_half(gpa_t *field, bool high, uint32_t value)
{
	unsigned shift = high ? 32 : 0;

	field->v &= ~((uint64_t)UINT32_MAX << shift);
	field->v |= (uint64_t)value << shift;
}

static void write_queue(struct virtio_pci *vp, unsigned field, uint32_t value)
{
	uint16_t queue = vp->queue_select;
	struct virtqueue_config config = virtio_queue_config(vp->vdev, queue);

	if (queue >= vp->vdev->num_queues)
		return;
	switch (field) {
	case VIRTIO_PCI_COMMON_Q_MSIX: vp->queue_vectors[queue] = valid_vector(vp, value); return;
	case VIRTIO_PCI_COMMON_Q_SIZE: config.size = (uint16_t)value; break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (value != 1)
			return; /* 4.1.4.3.2: only a reset disables */
		config.enabled = true;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI: set_half(&config.desc, field & 4, value); break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI: set_half(&config.avail, field & 4, value); break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI: set_half(&config.used, field & 4, value); break;
	default: return;
	}
	virtio_configure_queue(vp->vdev, queue, &config);
}

/* The width in which the field at `offset` is written; 0 for none, or one that is read only. */
static unsigned written_width(uint64_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_STATUS: return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE: return 2;
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI: return 4;
	default: return 0;
	}
}

static bool is_64bit_field(uint64_t offset)
{
	return offset == VIRTIO_PCI_COMMON_Q_DESCLO || offset == VIRTIO_PCI_COMMON_Q_AVAILLO ||
	       offset == VIRTIO_PCI_COMMON_Q_USEDLO;
}

void virtio_pci_write_common(struct virtio_pci *vp, uint64_t offset, uint64_t value, unsigned len)
{
	uint32_t low = (uint32_t)value;

	if (len == 8 && is_64bit_field(offset)) {
		write_queue(vp, (unsigned)offset, low);
		write_queue(vp, (unsigned)offset + 4, (uint32_t)(value >> 32));
		return;
	}
	if (len != written_width(offset))
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT: vp->device_feature_select = low; break;
	case VIRTIO_PCI_COMMON_GFSELECT: vp->driver_feature_select = low; break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_set_driver_features(vp->vdev, vp->driver_feature_select, low);
		break;
	case VIRTIO_PCI_COMMON_MSIX: vp->config_vector = valid_vector(vp, low); break;
	case VIRTIO_PCI_COMMON_STATUS: virtio_set_status(vp->vdev, (uint8_t)low); break;
	case VIRTIO_PCI_COMMON_Q_SELECT: vp->queue_select = (uint16_t)low; break;
	default: write_queue(vp, (unsigned)offset, low); break;
	}
}

/* --- state -------------------------------------------------------------------------------- */

/* The transport's registers as plain integers. */
struct registers {
	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector;
	uint16_t queue_vectors[VIRTIO_MAX_QUEUES];
	uint8_t isr;
};

static const struct state_field register_fields[] = {
	STATE_FIELD(STATE_U32, struct registers, device_feature_select),
	STATE_FIELD(STATE_U32, struct registers, driver_feature_select),
	STATE_FIELD(STATE_U16, struct registers, queue_select),
	STATE_FIELD(STATE_U16, struct registers, config_vector),
	STATE_ARRAY(STATE_U16, struct registers, queue_vectors),
	STATE_FIELD(STATE_U8, struct registers, isr),
};

static const struct state_layout register_layout = {
	.name = "virtio-pci",
	.version = 1,
	.fields = register_fields,
	.num_fields = ARRAY_SIZE(register_fields),
	.struct_size = sizeof(struct registers),
};

int virtio_pci_save_registers(struct virtio_pci *vp, struct buf *out)
{
	struct registers regs = {
		.device_feature_select = vp->device_feature_select,
		.driver_feature_select = vp->driver_feature_select,
		.queue_select = vp->queue_select,
		.config_vector = vp->config_vector,
		.isr = vp->isr,
	};

	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		regs.queue_vectors[i] = vp->queue_vectors[i];
	return state_save(out, &register_layout, &regs);
}

int virtio_pci_load_registers(struct virtio_pci *vp, struct cursor *in, struct err *err)
{
	struct registers regs;
	int rc = state_load(in, &register_layout, &regs, err);

	if (rc < 0)
		return rc;
	vp->device_feature_select = regs.device_feature_select;
	vp->driver_feature_select = regs.driver_feature_select;
	vp->queue_select = regs.queue_select;
	vp->config_vector = valid_vector(vp, regs.config_vector);
	for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
		vp->queue_vectors[i] = valid_vector(vp, regs.queue_vectors[i]);
	vp->isr = regs.isr & (VIRTIO_PCI_ISR_QUEUE_BIT | VIRTIO_PCI_ISR_CONFIG_BIT);
	return 0;
}
