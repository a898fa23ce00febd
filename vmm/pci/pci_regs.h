/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space header type 0, PCI Local Bus 3.0 section 6.1 and 6.2. */
#ifndef VMM_PCI_PCI_REGS_H
#define VMM_PCI_PCI_REGS_H

#define PCI_REG_VENDOR	      0x00
#define PCI_REG_DEVICE	      0x02
#define PCI_REG_COMMAND	      0x04
#define PCI_REG_STATUS	      0x06
#define PCI_REG_REVISION      0x08
#define PCI_REG_PROG_IF	      0x09
#define PCI_REG_SUBCLASS      0x0a
#define PCI_REG_CLASS	      0x0b
#define PCI_REG_CACHE_LINE    0x0c
#define PCI_REG_BAR0	      0x10
#define PCI_REG_SUBSYS_VENDOR 0x2c
#define PCI_REG_SUBSYS	      0x2e
#define PCI_REG_CAP_POINTER   0x34
#define PCI_REG_INT_LINE      0x3c
#define PCI_HEADER_SIZE	      0x40

#define PCI_COMMAND_MEMORY 0x0002U
/* What a guest may change: memory, bus master, parity, SERR, INTx disable. There is no I/O BAR. */
#define PCI_COMMAND_WRITABLE 0x0546U
#define PCI_STATUS_CAP_LIST  0x0010U

#define PCI_BAR_64BIT	     0x4U
#define PCI_BAR_PREFETCHABLE 0x8U

#define PCI_CAP_MSIX 0x11

#endif
