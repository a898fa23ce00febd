/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading what every virtio device has: features, status, queues. */
#include "vmm/virtio/virtio.h"

#include "base/state.h"

#include <errno.h>
#include <linux/virtio_config.h>

/* A virtio_device's own part, and a queue's, as plain integers. */
struct device_state {
	uint32_t device_id;
	uint32_t num_queues;
	uint64_t driver_features;
	uint64_t features;
	uint8_t status;
	bool needs_reset;
	uint32_t config_generation;
};

static const struct state_field device_fields[] = {
	STATE_FIELD(STATE_U32, struct device_state, device_id),
	STATE_FIELD(STATE_U32, struct device_state, num_queues),
	STATE_FIELD(STATE_U64, struct device_state, driver_features),
	STATE_FIELD(STATE_U64, struct device_state, features),
	STATE_FIELD(STATE_U8, struct device_state, status),
	STATE_FIELD(STATE_BOOL, struct device_state, needs_reset),
	STATE_FIELD(STATE_U32, struct device_state, config_generation),
};

static const struct state_layout device_layout = {
	.name = "virtio-device",
	.version = 1,
	.fields = device_fields,
	.num_fields = ARRAY_SIZE(device_fields),
	.struct_size = sizeof(struct device_state),
};

static const struct state_field queue_fields[] = {
	STATE_FIELD(STATE_U16, struct virtqueue_config, size),
	STATE_FIELD(STATE_BOOL, struct virtqueue_config, enabled),
	STATE_FIELD(STATE_U64, struct virtqueue_config, desc.v),
	STATE_FIELD(STATE_U64, struct virtqueue_config, avail.v),
	STATE_FIELD(STATE_U64, struct virtqueue_config, used.v),
};

static const struct state_layout queue_layout = {
	.name = "virtio-queue",
	.version = 1,
	.fields = queue_fields,
	.num_fields = ARRAY_SIZE(queue_fields),
	.struct_size = sizeof(struct virtqueue_config),
};

static int save_locked(struct virtio_device *vdev, struct buf *out)
{
	struct device_state state = {
		.device_id = vdev->ops->device_id,
		.num_queues = vdev->num_queues,
		.driver_features = vdev->driver_features,
		.features = vdev->features,
		.status = vdev->status,
		.needs_reset = atomic_load(&vdev->needs_reset),
		.config_generation = atomic_load(&vdev->config_generation),
	};
	int rc = state_save(out, &device_layout, &state);

	for (unsigned i = 0; rc == 0 && i < vdev->num_queues; i++) {
		rc = state_save(out, &queue_layout, &vdev->queue_config[i]);
		if (rc == 0)
			rc = virtqueue_save(&vdev->queues[i], out);
	}
	if (rc == 0 && vdev->ops->save)
		rc = vdev->ops->save(vdev, out);
	return rc;
}

int virtio_device_save(struct device *dev, struct buf *out)
{
	struct virtio_device *vdev = container_of(dev, struct virtio_device, dev);
	int rc;

	pthread_mutex_lock(&vdev->lock);
	rc = save_locked(vdev, out);
	pthread_mutex_unlock(&vdev->lock);
	return rc;
}

/* Whether the driver could have brought the device there. */
static bool state_reachable(struct virtio_device *vdev, const struct device_state *state)
{
	if (state->device_id != vdev->ops->device_id || state->num_queues != vdev->num_queues)
		return false;
	if (state->status &
	    ~(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
	      VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED))
		return false;
	if (state->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return virtio_features_acceptable(vdev, state->features);
	return !state->features && !(state->status & VIRTIO_CONFIG_S_DRIVER_OK);
}

static int load_queue(struct virtio_device *vdev, unsigned i, struct cursor *in, struct err *err)
{
	struct virtqueue_config config = vdev->queue_config[i];
	int rc;

	rc = state_load(in, &queue_layout, &config, err);
	if (rc < 0)
		return rc;
	if (!is_power_of_two(config.size) || config.size > config.max_size)
		return err_set(err, -EBADMSG, "queue %u cannot have %u entries", i, config.size);
	vdev->queue_config[i] = config;
	virtqueue_stop(&vdev->queues[i]);
	return virtqueue_load(&vdev->queues[i], in, err);
}

static int load_locked(struct virtio_device *vdev, struct cursor *in, struct err *err)
{
	struct device_state state = {.status = 0};
	int rc;

	rc = state_load(in, &device_layout, &state, err);
	if (rc < 0)
		return rc;
	if (!state_reachable(vdev, &state))
		return err_set(err, -EBADMSG, "the state is not one of this device");
	for (unsigned i = 0; i < vdev->num_queues; i++) {
		rc = load_queue(vdev, i, in, err);
		if (rc < 0)
			return rc;
	}
	vdev->driver_features = state.driver_features;
	vdev->features = state.features;
	vdev->status = state.status;
	atomic_store(&vdev->needs_reset, state.needs_reset);
	atomic_store(&vdev->config_generation, state.config_generation);
	return vdev->ops->load ? vdev->ops->load(vdev, in, err) : 0;
}

int virtio_device_load(struct device *dev, struct cursor *in, struct err *err)
{
	struct virtio_device *vdev = container_of(dev, struct virtio_device, dev);
	int rc;

	pthread_mutex_lock(&vdev->lock);
	rc = load_locked(vdev, in, err);
	pthread_mutex_unlock(&vdev->lock);
	return rc < 0 ? err_wrap(err, rc, "%s: cannot load its state", dev->id) : 0;
}
