# SPDX-License-Identifier: Apache-2.0
"""The Linux guest of the system tests does what those tests rely on, shown on QEMU as the VMM, so that a failure of
theirs is one of the VMM under test. Wants a KVM host: tests/kvmhost/run pytest tests/guest."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from guest import images  # noqa: E402
from guest.console import Console  # noqa: E402

pytestmark = pytest.mark.skipif(
    not (os.environ.get("KVMHOST") and shutil.which("qemu-system-x86_64")), reason="wants a KVM host and QEMU"
)


class Guest:
    """A guest in QEMU: console is its terminal, qemu the process."""

    def __init__(self, directory, kernel, cmdline, extra):
        ours, theirs = socket.socketpair()
        monitor, theirs_monitor = socket.socketpair()
        command = ["qemu-system-x86_64", "-M", "microvm,pcie=on,rtc=on,acpi=on,isa-serial=on", "-accel", "kvm"]
        command += ["-cpu", "host", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-kernel", kernel, "-initrd", images.INITRAMFS, "-append", f"console=ttyS0 quiet panic=-1 {cmdline}"]
        command += ["-chardev", f"socket,id=s,fd={theirs.fileno()}", "-serial", "chardev:s"]
        command += ["-chardev", f"socket,id=m,fd={theirs_monitor.fileno()}", "-mon", "chardev=m,mode=control"]
        with open(directory / "qemu.log", "wb") as log:
            self.qemu = subprocess.Popen(
                command + extra, stderr=log, stdout=log, pass_fds=[theirs.fileno(), theirs_monitor.fileno()]
            )
        theirs.close()
        theirs_monitor.close()
        self._serial = ours  # kept open
        self._monitor = monitor
        self.console = Console(ours.fileno())

    def monitor(self, command):
        for execute in ("qmp_capabilities", command):
            self._monitor.sendall(json.dumps({"execute": execute}).encode())
            time.sleep(0.2)


@pytest.fixture
def boot(tmp_path):
    images.build()
    with contextlib.ExitStack() as stack:

        def start(cmdline="", extra=(), kernel=images.VMLINUX):
            guest = Guest(tmp_path, kernel, cmdline, list(extra))
            stack.callback(guest.qemu.wait)
            stack.callback(guest.qemu.kill)
            return guest

        yield start


def test_guest_reports_what_it_has_and_runs_commands(boot, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * (1 << 20))
    drive = ["-drive", f"if=none,id=d,file={disk},format=raw", "-device", "virtio-blk-pci,drive=d"]
    guest = boot(extra=["-smp", "2", *drive])
    facts = guest.console.ready()
    assert facts["cpus"] == 2
    assert 180 << 10 < facts["mem_kb"] < 256 << 10
    assert guest.console.run("echo hello; exit 3") == (3, "hello\n")
    assert guest.console.check("cat /dev/null; head -c 4 /dev/vda") == "xxxx"
    guest.console.check("printf written | dd of=/dev/vda bs=512 seek=1 conv=fsync,notrunc")
    assert disk.read_bytes()[512:519] == b"written"
    guest.console.send("poweroff -f")
    assert guest.qemu.wait(60) == 0


def test_power_button_powers_the_guest_off(boot):
    guest = boot()
    guest.console.ready()
    guest.monitor("system_powerdown")
    guest.console.expect(rb"CORACLE-POWER-BUTTON")
    assert guest.qemu.wait(60) == 0


def test_script_of_the_command_line_runs_and_guest_powers_off(boot):
    # "uname -s; exit 5"
    guest = boot("coracle.run=dW5hbWUgLXM7IGV4aXQgNQ== coracle.poweroff", kernel=images.BZIMAGE)
    guest.console.ready(120)
    guest.console.expect(rb"^Linux\r?\nCORACLE-RC 5\r?\n")
    assert guest.qemu.wait(60) == 0
