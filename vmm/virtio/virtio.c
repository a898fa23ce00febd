/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/virtio.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define BIT(n) ((uint64_t)1 << (n))

#define COMMON_FEATURES \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC))

/* What the driver may set; NEEDS_RESET is ours. */
#define DRIVER_STATUS                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

/* --- life --------------------------------------------------------------------------------- */

static void reset_queue_config(struct virtqueue_config *config)
{
	*config = (struct virtqueue_config){.max_size = config->max_size, .size = config->max_size};
}

static int open_kick_fds(struct virtio_device *vdev)
{
	for (unsigned i = 0; i < vdev->num_queues; i++) {
		vdev->kick_fds[i] = eventfd_new();
		if (vdev->kick_fds[i] < 0)
			return vdev->kick_fds[i];
	}
	return 0;
}

static void close_kick_fds(struct virtio_device *vdev)
{
	for (unsigned i = 0; i < vdev->num_queues; i++)
		fd_close(&vdev->kick_fds[i]);
}

int virtio_device_init(struct virtio_device *vdev, const struct device_ops *dev_ops,
		       const struct virtio_ops *ops, const struct device_host *host, const char *id,
		       unsigned num_queues, uint16_t queue_size, struct err *err)
{
	int rc;

	if (!num_queues || num_queues > VIRTIO_MAX_QUEUES)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: %u queues are not between 1 and %u", id, num_queues,
				    VIRTIO_MAX_QUEUES);
	if (!is_power_of_two(queue_size) || queue_size > VIRTQUEUE_MAX_SIZE)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: queue size %u is not a power of two up to %u", id,
				    queue_size, VIRTQUEUE_MAX_SIZE);
	rc = device_init(&vdev->dev, dev_ops, host, id, err);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < num_queues; i++) {
		vdev->kick_fds[i] = -1;
		vdev->queue_config[i].max_size = queue_size;
		reset_queue_config(&vdev->queue_config[i]);
	}
	vdev->num_queues = num_queues;
	rc = open_kick_fds(vdev);
	if (rc == 0)
		rc = -pthread_mutex_init(&vdev->lock, NULL);
	if (rc < 0) {
		close_kick_fds(vdev);
		vdev->num_queues = 0;
		return err_set_errno(err, rc, "%s: cannot create its queues", id);
	}
	vdev->ops = ops;
	return 0;
}

void virtio_device_fini(struct virtio_device *vdev)
{
	if (!vdev->ops)
		return;
	for (unsigned i = 0; i < vdev->num_queues; i++)
		virtqueue_reset(&vdev->queues[i]);
	close_kick_fds(vdev);
	pthread_mutex_destroy(&vdev->lock);
	vdev->ops = NULL;
}

/* --- data path: start, stop, reset, pause ------------------------------------------------- */

static void tell_transport(struct virtio_device *vdev, bool active)
{
	if (vdev->transport_ops)
		vdev->transport_ops->activated(vdev->transport, active);
}

static void tell_host(struct virtio_device *vdev, const char *event)
{
	const struct device_host *host = vdev->dev.host;

	if (host->device_event)
		host->device_event(host->arg, "virtio-device", event, vdev->dev.id);
}

/* Takes the enabled queues into use, those that are not from before a pause. */
static int start_queues(struct virtio_device *vdev, struct err *err)
{
	for (unsigned i = 0; i < vdev->num_queues; i++) {
		struct virtqueue *vq = &vdev->queues[i];
		int rc;

		if (!vdev->queue_config[i].enabled || vq->desc)
			continue;
		rc = virtqueue_start(vq, vdev->dev.host->memory, &vdev->queue_config[i],
				     vdev->features, err);
		if (rc < 0)
			return err_wrap(err, rc, "queue %u", i);
	}
	return 0;
}

/* Starts what the status asks for, unless something forbids it. */
static void settle(struct virtio_device *vdev)
{
	struct err err = ERR_INIT;
	char why[256];

	if (!(vdev->status & VIRTIO_CONFIG_S_DRIVER_OK) || vdev->started || vdev->paused)
		return;
	tell_transport(vdev, true);
	if (atomic_load(&vdev->needs_reset))
		return;
	if (start_queues(vdev, &err) < 0) {
		virtio_needs_reset(vdev, err_format(&err, why, sizeof(why)));
		return;
	}
	vdev->started = true;
	vdev->ops->start(vdev);
}

/* The data path is at rest: everything as after power-on. */
static void finish_reset(struct virtio_device *vdev)
{
	for (unsigned i = 0; i < vdev->num_queues; i++) {
		virtqueue_reset(&vdev->queues[i]);
		reset_queue_config(&vdev->queue_config[i]);
		eventfd_drain(vdev->kick_fds[i]);
	}
	vdev->resetting = false;
	vdev->status = 0;
	vdev->driver_features = 0;
	vdev->features = 0;
	atomic_store(&vdev->needs_reset, false);
	if (vdev->ops->reset)
		vdev->ops->reset(vdev);
	tell_transport(vdev, false);
}

static void finish_driver_reset(struct virtio_device *vdev)
{
	bool active = vdev->status & VIRTIO_CONFIG_S_DRIVER_OK;

	finish_reset(vdev);
	if (active)
		tell_host(vdev, "reset");
}

/* Main loop: no thread touches the queues any more. */
static void on_rest(struct loop_task *task)
{
	struct virtio_device *vdev = task->arg;
	struct quiesce *pause_wait;

	pthread_mutex_lock(&vdev->lock);
	vdev->started = false;
	vdev->stopping = false;
	if (vdev->resetting)
		finish_driver_reset(vdev);
	pause_wait = TAKE(vdev->pause_wait);
	settle(vdev);
	pthread_mutex_unlock(&vdev->lock);
	/* Whoever waited may free the device from here on. */
	if (pause_wait)
		quiesce_release(pause_wait);
}

static void stop(struct virtio_device *vdev)
{
	if (vdev->stopping)
		return;
	vdev->stopping = true;
	quiesce_init(&vdev->rest_wait, vdev->dev.host->main_loop, on_rest, vdev);
	vdev->ops->stop(vdev, &vdev->rest_wait);
	quiesce_release(&vdev->rest_wait);
}

void virtio_device_reset(struct device *dev)
{
	struct virtio_device *vdev = container_of(dev, struct virtio_device, dev);

	pthread_mutex_lock(&vdev->lock);
	finish_reset(vdev);
	pthread_mutex_unlock(&vdev->lock);
}

void virtio_device_quiesce(struct device *dev, struct quiesce *q)
{
	struct virtio_device *vdev = container_of(dev, struct virtio_device, dev);

	pthread_mutex_lock(&vdev->lock);
	vdev->paused = true;
	if (vdev->started) {
		quiesce_hold(q);
		vdev->pause_wait = q;
		stop(vdev);
	}
	pthread_mutex_unlock(&vdev->lock);
}

void virtio_device_resume(struct device *dev)
{
	struct virtio_device *vdev = container_of(dev, struct virtio_device, dev);

	pthread_mutex_lock(&vdev->lock);
	vdev->paused = false;
	settle(vdev);
	pthread_mutex_unlock(&vdev->lock);
}

/* --- features and status ------------------------------------------------------------------ */

void virtio_set_transport(struct virtio_device *vdev, const struct virtio_transport_ops *ops,
			  void *transport)
{
	vdev->transport_ops = ops;
	vdev->transport = transport;
}

uint64_t virtio_offered_features(struct virtio_device *vdev)
{
	return COMMON_FEATURES | vdev->ops->features(vdev);
}

uint32_t virtio_driver_features(struct virtio_device *vdev, unsigned word)
{
	uint64_t features;

	pthread_mutex_lock(&vdev->lock);
	features = vdev->driver_features;
	pthread_mutex_unlock(&vdev->lock);
	return word > 1 ? 0 : (uint32_t)(features >> 32 * word);
}

void virtio_set_driver_features(struct virtio_device *vdev, unsigned word, uint32_t value)
{
	if (word > 1)
		return;
	pthread_mutex_lock(&vdev->lock);
	if (!(vdev->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		vdev->driver_features &= ~((uint64_t)UINT32_MAX << 32 * word);
		vdev->driver_features |= (uint64_t)value << 32 * word;
	}
	pthread_mutex_unlock(&vdev->lock);
}

uint8_t virtio_status(struct virtio_device *vdev)
{
	uint8_t status;

	pthread_mutex_lock(&vdev->lock);
	status = vdev->status;
	if (atomic_load(&vdev->needs_reset))
		status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	pthread_mutex_unlock(&vdev->lock);
	return status;
}

bool virtio_features_acceptable(struct virtio_device *vdev, uint64_t features)
{
	return !(features & ~virtio_offered_features(vdev)) && features & BIT(VIRTIO_F_VERSION_1);
}

static void driver_reset(struct virtio_device *vdev)
{
	if (!vdev->started) {
		finish_driver_reset(vdev);
		return;
	}
	vdev->resetting = true;
	stop(vdev);
}

/* The bits that `wanted` may add to the status as it is. */
static uint8_t acceptable_bits(struct virtio_device *vdev, uint8_t wanted)
{
	const uint8_t known = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	uint8_t added = wanted & DRIVER_STATUS & ~vdev->status;

	if (added & VIRTIO_CONFIG_S_FEATURES_OK &&
	    ((wanted & known) != known || !virtio_features_acceptable(vdev, vdev->driver_features)))
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(vdev->status & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	return added;
}

static void add_status(struct virtio_device *vdev, uint8_t wanted)
{
	uint8_t added;

	if (vdev->resetting || vdev->status & ~wanted)
		return; /* 2.1.1: the driver must not clear bits */
	added = acceptable_bits(vdev, wanted);
	vdev->status |= added;
	if (added & VIRTIO_CONFIG_S_FEATURES_OK)
		vdev->features = vdev->driver_features;
	if (added & VIRTIO_CONFIG_S_DRIVER_OK) {
		tell_host(vdev, "activated");
		settle(vdev);
	}
}

void virtio_set_status(struct virtio_device *vdev, uint8_t status)
{
	pthread_mutex_lock(&vdev->lock);
	if (status)
		add_status(vdev, status);
	else
		driver_reset(vdev);
	pthread_mutex_unlock(&vdev->lock);
}

/* --- queues and configuration space ------------------------------------------------------- */

struct virtqueue_config virtio_queue_config(struct virtio_device *vdev, unsigned queue)
{
	struct virtqueue_config config = {.size = 0};

	if (queue >= vdev->num_queues)
		return config;
	pthread_mutex_lock(&vdev->lock);
	config = vdev->queue_config[queue];
	pthread_mutex_unlock(&vdev->lock);
	return config;
}

static bool configure_queue(struct virtio_device *vdev, struct virtqueue_config *mine,
			    const struct virtqueue_config *config)
{
	const uint8_t window = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

	if ((vdev->status & window) != VIRTIO_CONFIG_S_FEATURES_OK || mine->enabled)
		return false;
	if (!is_power_of_two(config->size) || config->size > mine->max_size)
		return false;
	mine->size = config->size;
	mine->enabled = config->enabled;
	mine->desc = config->desc;
	mine->avail = config->avail;
	mine->used = config->used;
	return true;
}

bool virtio_configure_queue(struct virtio_device *vdev, unsigned queue,
			    const struct virtqueue_config *config)
{
	bool done;

	if (queue >= vdev->num_queues)
		return false;
	pthread_mutex_lock(&vdev->lock);
	done = configure_queue(vdev, &vdev->queue_config[queue], config);
	pthread_mutex_unlock(&vdev->lock);
	return done;
}

void virtio_kick_queue(struct virtio_device *vdev, unsigned queue)
{
	if (virtio_queue_config(vdev, queue).enabled)
		eventfd_signal(vdev->kick_fds[queue]);
}

void virtio_config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len)
{
	memset(data, 0, len);
	if (!vdev->ops->config_read)
		return;
	pthread_mutex_lock(&vdev->lock);
	vdev->ops->config_read(vdev, offset, data, len);
	pthread_mutex_unlock(&vdev->lock);
}

void virtio_config_write(struct virtio_device *vdev, uint32_t offset, const void *data,
			 unsigned len)
{
	if (!vdev->ops->config_write)
		return;
	pthread_mutex_lock(&vdev->lock);
	vdev->ops->config_write(vdev, offset, data, len);
	pthread_mutex_unlock(&vdev->lock);
}

/* --- the device's calls ------------------------------------------------------------------- */

void virtio_notify_queue(struct virtio_device *vdev, unsigned queue)
{
	if (vdev->transport_ops)
		vdev->transport_ops->notify_queue(vdev->transport, queue);
}

void virtio_config_changed(struct virtio_device *vdev)
{
	atomic_fetch_add(&vdev->config_generation, 1);
	if (vdev->transport_ops)
		vdev->transport_ops->notify_config(vdev->transport);
}

void virtio_needs_reset(struct virtio_device *vdev, const char *why)
{
	if (atomic_exchange(&vdev->needs_reset, true))
		return;
	log_warn_limited("%s: %s; its driver has to reset it", vdev->dev.id, why);
	if (vdev->transport_ops)
		vdev->transport_ops->notify_config(vdev->transport);
}
