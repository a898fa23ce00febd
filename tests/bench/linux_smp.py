# SPDX-License-Identifier: Apache-2.0
"""As linux_boot.py, with four vCPUs: not for a host whose time is its instructions, where one processor has to wait out
every moment in which a vCPU spins for another."""

import linux_boot
import linux_guest


def boot(quick):
    """Linux with four vCPUs from exec to init"""
    linux_guest.stage(linux_boot.INITRAMFS)
    return list(linux_boot.compare(4, linux_boot.NO_TESTS, ", without the kernel's self tests", 1 if quick else 5))


ALL = [boot]
