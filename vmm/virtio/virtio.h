/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device apart from its transport: features, status, queues, and how its data path starts
 * and stops.
 *
 * Theory of operation
 *
 * The transport (virtio_pci.c) calls virtio_set_status() and friends from vCPU threads; a mutex in
 * the device orders them. The data path runs on I/O threads (iothread.h), which are created at
 * realize. DRIVER_OK starts it: virtio.c validates and starts the queues, then calls ops->start(),
 * which hands each queue to its thread (loop_post) and returns. Stopping is asynchronous:
 * ops->stop() tells the threads to finish what is in flight, and releases the barrier when no
 * thread touches the queues any more; the main loop then does what the stop was for. Driver reset
 * and pause are both "stop, then ...", and may ask for the same stop: after a driver reset the
 * status register reads non-zero until the data path is at rest, as the specification lets drivers
 * expect (2.1.2, 4.1.4.3.1), and a pause that meets a reset waits for it. A device that is torn
 * down has been quiesced before.
 *
 * A queue that meets nonsense calls virtio_needs_reset(): DEVICE_NEEDS_RESET is set and the driver
 * told; after its reset the device works again. A device in that state is not started again by a
 * resume.
 *
 * Queue configuration is only writable between FEATURES_OK and DRIVER_OK; feature bits only before
 * FEATURES_OK; status bits can only be added, or all cleared.
 */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include "vmm/bus/device.h"
#include "vmm/virtio/virtqueue.h"

#include <pthread.h>

#define VIRTIO_MAX_QUEUES 64

struct virtio_device;

struct virtio_ops {
	uint16_t device_id; /* virtio 1.2 section 5 */
	/* Device features beyond those virtio.c offers for every device (VERSION_1, EVENT_IDX,
	 * INDIRECT_DESC). Constant. */
	uint64_t (*features)(struct virtio_device *vdev);
	/* Configuration space; offset + len may lie beyond its end: reads give 0 there, writes
	 * nothing. vCPU threads, under vdev->lock. NULL = none */
	void (*config_read)(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len);
	void (*config_write)(struct virtio_device *vdev, uint32_t offset, const void *data,
			     unsigned len);
	/* Queues are started: set the data path going (post to the I/O threads; do not wait). Also
	 * after resume. Under vdev->lock. */
	void (*start)(struct virtio_device *vdev);
	/* Bring the data path to rest; hold `q` until then. Called only when started. Do not wait.
	 * Under vdev->lock. */
	void (*stop)(struct virtio_device *vdev, struct quiesce *q);
	/* The driver reset the device and the data path is at rest: forget what the driver had set.
	 * May be NULL. Under vdev->lock, any thread. */
	void (*reset)(struct virtio_device *vdev);
	/* Own state beyond features, status and queues. May be NULL. */
	int (*save)(struct virtio_device *vdev, struct buf *out);
	int (*load)(struct virtio_device *vdev, struct cursor *in, struct err *err);
};

/* The transport's side, called by the device. Any thread, never blocks. */
struct virtio_transport_ops {
	void (*notify_queue)(void *transport, unsigned queue);
	void (*notify_config)(void *transport);
	/* The data path is going (true) or the device was reset (false): commit interrupt routes,
	 * defer them again. Under vdev->lock. */
	void (*activated)(void *transport, bool active);
};

struct virtio_device {
	struct device dev; /* first */
	const struct virtio_ops *ops;
	const struct virtio_transport_ops *transport_ops;
	void *transport;
	pthread_mutex_t lock;
	unsigned num_queues;
	struct virtqueue_config queue_config[VIRTIO_MAX_QUEUES];
	struct virtqueue queues[VIRTIO_MAX_QUEUES];
	int kick_fds[VIRTIO_MAX_QUEUES]; /* eventfds the driver's notifications arrive at
					    (ioeventfd); owned */
	uint64_t driver_features;	 /* as written */
	uint64_t features;		 /* negotiated, valid from FEATURES_OK on */
	uint8_t status;
	atomic_bool needs_reset;
	atomic_uint config_generation;
	bool started;	/* data path going, or coming to rest */
	bool stopping;	/* ops->stop() was called, rest_wait is not over */
	bool paused;	/* by quiesce(); a start is deferred to resume() */
	bool resetting; /* by the driver, while stopping */
	struct quiesce rest_wait;
	struct quiesce *pause_wait; /* held until at rest; NULL when nobody waits */
};

/*
 * Fills the base for a device with `num_queues` queues of at most queue_size; creates the kick
 * eventfds. `dev_ops`: the generic members below with the device's own realize, unrealize and free.
 * Returns 0 or negative errno, with nothing left to undo. The caller has zeroed *vdev.
 */
int virtio_device_init(struct virtio_device *vdev, const struct device_ops *dev_ops,
		       const struct virtio_ops *ops, const struct device_host *host, const char *id,
		       unsigned num_queues, uint16_t queue_size, struct err *err);

/* At rest, threads joined. Also for one that was zeroed and never initialised. */
void virtio_device_fini(struct virtio_device *vdev);

/* Generic members for the device's `struct device_ops`. */
void virtio_device_reset(struct device *dev);
void virtio_device_quiesce(struct device *dev, struct quiesce *q);
void virtio_device_resume(struct device *dev);
int virtio_device_save(struct device *dev, struct buf *out);
int virtio_device_load(struct device *dev, struct cursor *in, struct err *err);

/* Connects the transport (NULL, NULL: none). While nothing else calls the device. */
void virtio_set_transport(struct virtio_device *vdev, const struct virtio_transport_ops *ops,
			  void *transport);

/* The transport's calls: vCPU threads. */

uint64_t virtio_offered_features(struct virtio_device *vdev);

/* Whether FEATURES_OK may be set with these: all offered, and VERSION_1 among them. */
bool virtio_features_acceptable(struct virtio_device *vdev, uint64_t features);

/* What the driver wrote; word 0 or 1, others read 0. */
uint32_t virtio_driver_features(struct virtio_device *vdev, unsigned word);

/* Ignored from FEATURES_OK on, and for words beyond 1. */
void virtio_set_driver_features(struct virtio_device *vdev, unsigned word, uint32_t value);

uint8_t virtio_status(struct virtio_device *vdev);

/* 0 asks for a reset; else adds bits, as far as that is legal (2.1, 3.1.1): read it back. */
void virtio_set_status(struct virtio_device *vdev, uint8_t status);

/* A copy of the queue's configuration; a queue that does not exist has size 0. */
struct virtqueue_config virtio_queue_config(struct virtio_device *vdev, unsigned queue);

/* Changes the queue's configuration (but max_size) when that is legal now and the size is one;
 * returns whether it did. An enabled queue keeps what it has until reset. */
bool virtio_configure_queue(struct virtio_device *vdev, unsigned queue,
			    const struct virtqueue_config *config);

/* The driver's notification, where it did not take the way of the ioeventfd. Queues that do not
 * exist or are not enabled are not kicked. */
void virtio_kick_queue(struct virtio_device *vdev, unsigned queue);

/* len: 1, 2, 4 or 8; what the device does not have reads 0. */
void virtio_config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len);
void virtio_config_write(struct virtio_device *vdev, uint32_t offset, const void *data,
			 unsigned len);

/* The device's calls. Any thread. */

/* Interrupts for `queue`: virtqueue_flush() said so. */
void virtio_notify_queue(struct virtio_device *vdev, unsigned queue);

/* The configuration space changed (under vdev->lock, given back by now). */
void virtio_config_changed(struct virtio_device *vdev);

/* The driver did something that the device cannot make sense of; `why` goes to the log. */
void virtio_needs_reset(struct virtio_device *vdev, const char *why);

static inline bool virtio_has_feature(const struct virtio_device *vdev, unsigned bit)
{
	return vdev->features >> bit & 1;
}

#endif
