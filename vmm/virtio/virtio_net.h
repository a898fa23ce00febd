/* SPDX-License-Identifier: Apache-2.0 */
/* Network device (virtio 1.2, section 5.1): queue pairs onto a tap's queues. */
#ifndef VMM_VIRTIO_VIRTIO_NET_H
#define VMM_VIRTIO_VIRTIO_NET_H

#include "vmm/virtio/virtio.h"

struct tap;

struct virtio_net_params {
	const char *id;	     /* copied; the threads' names begin with it: "_net1_qp0" */
	struct tap *tap;     /* borrowed: outlives the device, which is its only user meanwhile */
	uint8_t mac[6];	     /* the guest's */
	uint16_t mtu;	     /* advice to the guest; 0 = none */
	unsigned num_queues; /* two a pair; as many pairs as the tap has queues */
	uint16_t queue_size; /* power of two */
	bool offload_tso;    /* the guest may have, and give, large TCP segments ... */
	bool offload_ufo;    /* ... UDP datagrams beyond the MTU (where the kernel does) */
	bool offload_csum;   /* ... frames without checksums; the other two need it */
};

/*
 * A device with a thread for each pair, and a control queue. Worker thread. Returns 0 or negative
 * errno; owned by the caller as a device.
 */
int virtio_net_new(const struct device_host *host, const struct virtio_net_params *params,
		   struct virtio_device **ret_vdev, struct err *err);

#endif
