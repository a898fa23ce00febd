# SPDX-License-Identifier: Apache-2.0
"""A Linux guest under coracle, for the tests that are marked `guest`."""

import os
import socket
import time
from collections import Counter

from coracle import Coracle
from guest import images
from guest.console import Console

EMULATED = os.environ.get("KVMHOST") == "emulated"
# How long a guest may take until it is up: a boot takes one second on hardware, and five in an emulated host that has
# its processors for itself.
READY_S = 120 if EMULATED else 30
MIB = 1 << 20


def guest_config(cpus=1, memory=256 * MIB, kernel=images.VMLINUX, cmdline="", **more):
    """A VmConfig that boots the guest of tests/guest. Its command line has "console=ttyS0 quiet" in front of `cmdline`.
    cpus: a number, or a whole CpusConfig. memory: bytes, or a whole MemoryConfig. more: members of VmConfig, which replace those here."""
    config = {
        "cpus": cpus if isinstance(cpus, dict) else {"boot_vcpus": cpus, "max_vcpus": cpus},
        "memory": memory if isinstance(memory, dict) else {"size": memory},
        "payload": {
            "kernel": kernel,
            "initramfs": images.INITRAMFS,
            "cmdline": f"console=ttyS0 quiet {cmdline}".strip(),
        },
        "serial": {"mode": "Null"},
        "console": {"mode": "Off"},
    }
    config.update(more)
    return config


class GuestVm(Coracle):
    """A coracle whose VM has its serial port on a socket: console is its terminal (guest.console.Console).

    args, vmm: for Coracle. create=False: no VM yet. The rest is for guest_config(). The VM is not booted: up() does it.
    """

    def __init__(self, *args, vmm=None, create=True, **config):
        super().__init__(*args, **(vmm or {}))
        self.console = None
        self.line = None
        try:
            if create:
                self.create(**config)
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.line:
            self.line.close()
            self.line = None
        return super().close()

    def __exit__(self, kind, *rest):
        if kind is not None and self.console:
            print(f"--- console of the guest ---\n{bytes(self.console.log[-6000:]).decode('utf-8', 'replace')}")
        super().__exit__(kind, *rest)

    def create(self, **config):
        """vm.create, and a connection to the serial port."""
        path = os.path.join(self.directory, "serial")
        self.put("vm.create", guest_config(**{"serial": {"mode": "Socket", "socket": path}, **config}))
        self.connect_serial(path)

    def connect_serial(self, path):
        """Makes `console` the terminal behind the UNIX socket at `path`."""
        if self.line:
            self.line.close()
        self.line = socket.socket(socket.AF_UNIX)
        self.line.connect(path)
        self.console = Console(self.line.fileno())

    def ready(self):
        """Waits until the guest is up; returns what it reports."""
        return self.console.ready(READY_S)

    def up(self):
        """Boots the guest and waits until it is up; returns what it reports."""
        self.put("vm.boot")
        return self.ready()

    def guest(self, command, timeout=60):
        """Runs a shell command in the guest, which has to succeed. Returns its output, stripped."""
        return self.console.check(command, timeout)

    def boot_id(self):
        """Tells one life of the guest's kernel from another."""
        return self.guest("cat /proc/sys/kernel/random/boot_id")

    def kernel_complaints(self):
        """Lines of the guest's log that speak of trouble."""
        return self.guest("dmesg | grep -E 'BUG|Oops|soft lockup|rcu:.*stall|clocksource: Long|hung task|Call Trace' || true")

    def capabilities(self):
        """Whatever any thread still may: {(thread, set): mask}, without those that are empty."""
        found = {}
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/status") as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                if int(fields[name], 16):
                    found[fields["Name"], name] = fields[name]
        return found

    def resources(self):
        """Threads, and open descriptors by kind, once no connection or job comes or goes: two equal states of the
        process give equal values."""

        def sample():
            return self.threads(), Counter(target.split(":[")[0] for target in self.fds().values())

        last = None
        for _ in range(50):
            now = sample()
            if now == last:
                return now
            last = now
            time.sleep(0.1)
        raise AssertionError(f"descriptors come and go: {last}")


def events_so_far(vmm):
    """All events that the stream can replay, as "source:event"."""
    names = []
    with vmm.events(last_event_id=0, timeout=1) as stream:
        try:
            while True:
                names.append(stream.next().name)
        except (TimeoutError, EOFError):
            return names


class AuditLog:
    """Lines that the kernel's audit log gets from now on, as far as they are about system call filters."""

    def __init__(self):
        # One that may not be read, or that a daemon takes away, is shown by seccomp_control().
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)

    def close(self):
        os.close(self.fd)

    def lines(self, about):
        """Those not yet read that contain `about`."""
        found = []
        while True:
            try:
                record = os.read(self.fd, 8192).decode("utf-8", "replace")
            except BrokenPipeError:
                raise AssertionError("the kernel's log was overwritten before it was read") from None
            except BlockingIOError:
                return found
            if "type=1326" in record and about in record:
                found.append(record.split(";", 1)[1].splitlines()[0])
