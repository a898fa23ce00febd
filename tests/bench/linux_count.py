# SPDX-License-Identifier: Apache-2.0
"""Instructions of the VMM, not the guest, from its start to the power-off of Linux."""

import os

import callgrind
import linux_boot
import linux_guest
from machines import CHECKOUT


def here(argv):
    """Arguments that were meant for the tree in memory, with files where they are."""
    places = {
        linux_guest.KERNEL: os.path.join(CHECKOUT, "build", "guest", "vmlinux"),
        linux_guest.INITRAMFS: linux_boot.INITRAMFS,
    }
    return [places.get(a, a) for a in argv]


def instructions(quick):
    """Instructions of the VMM from exec to the end of Linux"""
    cmdline = f"console=ttyS0 quiet panic=-1 {linux_boot.NO_TESTS} coracle.poweroff"
    ours = linux_guest.coracle(1, linux_boot.MEMORY_MIB, cmdline, "--seccomp", "false")
    programs = {
        "coracle": (here(ours), 3),
        "QEMU microvm": (here(linux_guest.microvm(1, linux_boot.MEMORY_MIB, cmdline)), 0),
    }
    return list(callgrind.rows("instructions of the VMM, exec to the power-off of Linux", programs, 400))


ALL = [instructions]
