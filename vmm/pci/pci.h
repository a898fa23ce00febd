/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one segment with one bus of 32 slots, function 0 only, reached through ECAM and (segment 0)
 * ports 0xCF8/0xCFC.
 *
 * Theory of operation
 *
 * A struct pci_device holds 256 bytes of configuration space with a mask of what the guest may
 * write; the rest of its 4 KiB ECAM page reads zero. pci.c does what every function needs: sizing
 * and moving BARs (the ranges on the MMIO bus follow, and the device is told), the command register
 * (memory decoding off takes the BARs off the bus), and MSI-X (msix.h). A device sees offsets
 * within its BARs, never addresses. BARs that the guest puts where they must not be (over RAM, over
 * each other, outside the windows) stay undecoded until it moves them again: the access then goes
 * nowhere.
 *
 * Locking: one mutex a device guards its configuration space; BAR handlers run without it.
 *
 * Source: PCI Local Bus 3.0, PCI Express 5.0 section 7.2.2 (ECAM) and 7.5.
 */
#ifndef VMM_PCI_PCI_H
#define VMM_PCI_PCI_H

#include "vmm/bus/bus.h"
#include "vmm/bus/device.h"

#include <pthread.h>

#define PCI_SLOTS	32
#define PCI_CONFIG_SIZE 256
#define PCI_NUM_BARS	6

struct msix;
struct pci_device;
struct pci_segment;

struct pci_device_ops {
	/* A guest's access to memory BAR `bar`; offset + len <= its size; len 1, 2, 4, 8. vCPU
	 * threads, several at once. What falls into the MSI-X table or PBA does not come here. */
	void (*bar_read)(struct pci_device *pdev, unsigned bar, uint64_t offset, void *data,
			 unsigned len);
	void (*bar_write)(struct pci_device *pdev, unsigned bar, uint64_t offset, const void *data,
			  unsigned len);
	/*
	 * BAR `bar` is decoded at `base` from now on (mapped), or no longer (base 0, mapped false):
	 * the place to move ioeventfds. A move is both calls, off first. Called with the device's
	 * configuration lock held. May be NULL.
	 */
	void (*bar_moved)(struct pci_device *pdev, unsigned bar, uint64_t base, bool mapped);
	/* The guest wrote / is about to read [offset, offset + len) of a capability that the device
	 * handles itself (pci_device_add_capability, hooked). The configuration lock is held; both
	 * may look at and change pdev->config there. May be NULL. */
	void (*config_written)(struct pci_device *pdev, unsigned offset, unsigned len);
	void (*config_reading)(struct pci_device *pdev, unsigned offset, unsigned len);
};

struct pci_bar {
	bool used;
	bool is64;
	bool prefetchable;
	uint64_t size_bytes; /* power of two, >= 4096 */
	uint64_t base;	     /* where it decodes, or was last programmed */
	uint64_t home;	     /* where pci_attach() put it */
	bool mapped;	     /* on the bus now */
	struct bus_range range;
	struct pci_device *pdev;
	unsigned index;
};

/* Embedded in each PCI device. */
struct pci_device {
	const struct pci_device_ops *ops;
	struct pci_segment *segment; /* NULL before pci_attach() */
	unsigned slot;
	char name[DEVICE_ID_MAX];
	pthread_mutex_t lock;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE]; /* bits that the guest may change */
	uint8_t hooked[PCI_CONFIG_SIZE];   /* non-zero: bytes for config_written/config_reading */
	uint8_t power_on[PCI_CONFIG_SIZE]; /* config as pci_attach() left it */
	struct pci_bar bars[PCI_NUM_BARS];
	struct msix *msix; /* NULL = none; owned by whoever created it */
	unsigned cap_end;  /* next free byte for capabilities */
	unsigned cap_last; /* offset of the last capability's next pointer; 0 = none yet */
};

struct pci_device_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t revision, prog_if, subclass, class_code;
};

/* Fills the header. `ops` NULL = a function without BAR handlers (host bridge). */
int pci_device_init(struct pci_device *pdev, const struct pci_device_ops *ops, const char *name,
		    const struct pci_device_id *id);
void pci_device_fini(struct pci_device *pdev);

/* Declares memory BAR `index` (a 64-bit one takes index + 1 too). Before pci_attach(). */
int pci_device_add_bar(struct pci_device *pdev, unsigned index, uint64_t size_bytes, bool is64,
		       bool prefetchable);

/*
 * Adds a capability: `body` are the bytes behind id and next (len of them); `mask` (may be NULL =
 * read only) says what the guest may write in body. hooked: accesses call
 * config_written/config_reading. Returns its offset in configuration space or -ENOSPC.
 */
int pci_device_add_capability(struct pci_device *pdev, uint8_t cap_id, const void *body,
			      unsigned len, const void *mask, bool hooked);

struct pci_segment_params {
	uint16_t number;
	uint64_t ecam_base;
	uint64_t mmio32_base, mmio32_size; /* windows for BARs */
	uint64_t mmio64_base, mmio64_size;
	const struct guest_memory *memory; /* BARs must not lie over it */
};

/* Puts ECAM on `mmio` and, for segment 0, 0xCF8..0xCFF on `pio` (may be NULL for others) and the
 * host bridge 8086:0d57 into slot 0. Segment 0's slot 0 is therefore taken, others' is free. */
int pci_segment_new(const struct pci_segment_params *params, struct bus *mmio, struct bus *pio,
		    struct pci_segment **ret_segment, struct err *err);
void pci_segment_free(struct pci_segment *segment); /* all devices are detached */
const struct pci_segment_params *pci_segment_params(const struct pci_segment *segment);

/* The bridge's configuration space and the address that 0xCF8 holds; not the devices. At rest. */
void pci_segment_reset(struct pci_segment *segment);
int pci_segment_save(struct pci_segment *segment, struct buf *out);
int pci_segment_load(struct pci_segment *segment, struct cursor *in, struct err *err);

/*
 * Plugs the function into `slot` (-1 = lowest free), gives its BARs addresses from the windows
 * (32-bit BARs below 4 GiB) and decodes them (memory enable is set, so that firmware-less guests
 * find them assigned). Returns the slot or -EBUSY, -ENOSPC.
 */
int pci_attach(struct pci_segment *segment, struct pci_device *pdev, int slot, struct err *err);

/* Takes the function out; no handler of it runs afterwards. Not from inside one. */
void pci_detach(struct pci_device *pdev);

/* Power-on: command register cleared to its initial value, BARs back where pci_attach() put them,
 * MSI-X off. */
void pci_device_reset(struct pci_device *pdev);

/* "0000:00:03.0"; buf of at least 13 bytes. */
void pci_device_bdf(const struct pci_device *pdev, char *buf, size_t len);

/* Configuration space, BAR addresses and MSI-X, at rest. */
int pci_device_save(struct pci_device *pdev, struct buf *out);
int pci_device_load(struct pci_device *pdev, struct cursor *in, struct err *err);

#endif
