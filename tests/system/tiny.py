# SPDX-License-Identifier: Apache-2.0
"""VMs with the guest of tests/guest/pvh/tiny.c: up within milliseconds wherever there is a /dev/kvm.

Use `pytestmark = tiny.needs_kvm` in a module that boots it.
"""

import os

import pytest

from coracle import BINARY, CHECKOUT, SANITIZER, wait_until

MIB = 1 << 20


def guest_path(name):
    """A guest of tests/guest/pvh: beside the binary under test, as `make units` makes it; else in the plain build."""
    for build in (os.path.dirname(BINARY), os.path.join(CHECKOUT, "build")):
        path = os.path.join(build, "guest", "pvh", f"{name}.elf")
        if os.path.exists(path):
            return path
    return path


GUEST = guest_path("tiny")

needs_kvm = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is not usable here")


def config(words="ready", serial=None, memory=64 * MIB, initramfs=None, vcpus=1, **more):
    """A VmConfig. words: what the guest does, one after another, before it halts. serial: path of a file for COM1.
    more: further members of the VmConfig."""
    payload = {"kernel": GUEST, "cmdline": words}
    if initramfs:
        payload["initramfs"] = str(initramfs)
    return {
        "cpus": {"boot_vcpus": vcpus, "max_vcpus": vcpus},
        "memory": {"size": memory},
        "payload": payload,
        "serial": {"mode": "File", "file": str(serial)} if serial else {"mode": "Null"},
        "console": {"mode": "Off"},
        **more,
    }


def sparse_file(path, size):
    """A file of zeros that takes no room."""
    with open(path, "wb") as file:
        file.truncate(size)
    return str(path)


def slow_initramfs(path):
    """A file of zeros that takes long enough to load for something to come in between. ThreadSanitizer takes a note of
    each of its bytes, and so takes longer for fewer of them."""
    return sparse_file(path, (64 if SANITIZER == "tsan" else 512) * MIB)


class SlowBoot:
    """vm.boot sent, its answer not awaited: the job is running once the object is made.

    The VM is there already, and has an initramfs large enough to leave time for what the test wants to do meanwhile.
    """

    def __init__(self, vmm, name="vm.boot"):
        with vmm.events() as events:
            self.client = vmm.connect()
            self.client.send(f"PUT /api/v1/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            events.wait_for("vm:booting" if name == "vm.boot" else "vm:rebooting")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def is_going_on(self):
        return self.client.is_silent(0.001)

    def answer(self):
        """Waits for it."""
        return self.client.read_response()


def wait_ready(serial, times=1):
    """Waits until the guest has printed READY so often into the file of its COM1."""

    def printed():
        try:
            with open(serial) as file:
                return file.read().count("READY\n") >= times
        except FileNotFoundError:
            return False

    wait_until(printed)
