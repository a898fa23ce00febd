# SPDX-License-Identifier: Apache-2.0
"""The guest of tests/guest/pvh/hostile.c: its words are in that file's head."""

import os
import re
import stat
import time

import tiny
from coracle import wait_until

SECTOR = 512
DISK_BYTES = tiny.MIB
RAM_BYTES = 64 * tiny.MIB

# The guest may have some of its own messages logged each second, and some at once.
LOG_BYTES = 24 << 10
LOG_BYTES_A_SECOND = 4 << 10
MEMORY_KIB = 6 << 10


def disk(path):
    """An image whose sectors begin with the letter that the guest looks for."""
    with open(path, "wb") as file:
        for sector in range(DISK_BYTES // SECTOR):
            file.write(b"S%d" % sector + bytes(SECTOR - len(b"S%d" % sector)))
    return str(path)


def can_make_taps():
    """Whether coracle may have a tap, in a network namespace of the test's own."""
    try:
        return os.geteuid() == 0 and stat.S_ISCHR(os.stat("/dev/net/tun").st_mode)
    except FileNotFoundError:
        return False


def own_rss_kib(vmm):
    """Resident memory without the guest's."""
    total = 0
    size = rss = 0
    with open(f"/proc/{vmm.pid}/smaps") as file:
        for line in file:
            if line.startswith("Size:"):
                size = int(line.split()[1])
            elif line.startswith("Rss:"):
                rss = int(line.split()[1])
                if size != RAM_BYTES >> 10:
                    total += rss
    return total


class Attack:
    """A VM with one device of each kind, whose guest does `words`. vm.boot has been answered.

    net: with a tap, made anew. more: further members of the VmConfig, or others in their place.
    """

    TAP = "hostile"

    def __init__(self, vmm, directory, words, net=False, **more):
        self.vmm = vmm
        self.words = words
        self.serial = os.path.join(directory, "serial")
        self.config = tiny.config(
            words,
            serial=self.serial,
            memory=RAM_BYTES,
            vcpus=2,
            disks=[{"path": disk(os.path.join(directory, "disk")), "image_type": "Raw"}],
            rng={"src": "/dev/urandom"},
            pvpanic=True,
            **({"net": [{"tap": self.TAP}]} if net else {}),
        )
        self.config["console"] = {"mode": "File", "file": os.path.join(directory, "console")}
        self.config["payload"]["kernel"] = tiny.guest_path("hostile")
        self.config.update(more)
        self.begin = time.monotonic()
        vmm.put("vm.create", self.config)
        vmm.put("vm.boot")
        self.rss_kib = own_rss_kib(vmm)

    def report(self):
        """What the guest has said so far, the lines that count."""
        with open(self.serial, errors="replace") as file:
            return re.findall("^(?:ATTACK|END|ALIVE|DEAD|WRONG|FAULT).*", file.read(), re.MULTILINE)

    def is_over(self):
        report = self.report()
        attacks = self.words.count(" ") + 1
        if any(line.startswith("FAULT") for line in report):
            return True
        return sum(line.startswith(("ALIVE", "DEAD")) for line in report) >= attacks

    def has_begun(self):
        return any(line.startswith("ATTACK") for line in self.report())

    def finish(self, timeout=120):
        """Until the guest has done all its words; the API answers all the while. Checks what it says."""

        def answers():
            assert self.vmm.get("vmm.ping", timeout=10)
            return self.is_over()

        wait_until(answers, timeout, interval=0.1)
        for line in self.report():
            assert line.startswith(("ATTACK", "END", "ALIVE")), "\n".join(self.report())

    def check(self):
        """The VM runs, and neither memory nor log have grown by more than they may."""
        assert self.vmm.info()["state"] == "Running"
        log = [line for line in self.vmm.log().splitlines(True) if "API:" not in line]
        seconds = time.monotonic() - self.begin
        assert len("".join(log)) < LOG_BYTES + LOG_BYTES_A_SECOND * seconds, "".join(log)[-4000:]
        if not self.vmm.is_sanitized():
            grown = own_rss_kib(self.vmm) - self.rss_kib
            assert grown < MEMORY_KIB, f"{grown} KiB more"


def check_that_all_is_well(vmm, directory):
    """The VM is deleted, and the next one boots."""
    vmm.put("vm.delete")
    serial = os.path.join(directory, "good")
    vmm.put("vm.create", tiny.config(serial=serial))
    vmm.put("vm.boot")
    tiny.wait_ready(serial)
    vmm.put("vm.delete")
