# SPDX-License-Identifier: Apache-2.0
"""The life of a process under valgrind: no invalid access, no leaked memory, no leaked descriptor.

The sandbox is off, as valgrind makes system calls of its own. The guest runs in KVM as always, valgrind sees the monitor.
"""

import os
import re
import shutil
import signal

import pytest

import tiny
from coracle import BINARY, SANITIZER, Coracle, wait_until

pytestmark = [
    tiny.needs_kvm,
    pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed"),
    pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer and valgrind exclude each other"),
]

FOUND_ERRORS = 99
OPTIONS = [
    "--leak-check=full",
    "--show-leak-kinds=definite,indirect,possible",
    "--errors-for-leak-kinds=definite,indirect,possible",
    "--track-fds=yes",
    f"--error-exitcode={FOUND_ERRORS}",
]


class Memcheck(Coracle):
    """A coracle under valgrind, which has begun to serve."""

    def __init__(self, directory, *args):
        self.report_path = directory / "valgrind"
        wrapper = directory / "coracle-under-valgrind"
        options = " ".join(OPTIONS)
        wrapper.write_text(f'#!/bin/sh\nexec valgrind {options} --log-file="{self.report_path}" "{BINARY}" "$@"\n')
        wrapper.chmod(0o755)
        super().__init__("--seccomp", "false", *args, binary=str(wrapper))
        self.ping()

    def assert_clean_end(self):
        """Waits for the end, which somebody has asked for."""
        status = self.wait(60)
        report = self.report_path.read_text()
        assert status == 0, report
        assert not leaked_descriptors(report), report
        assert re.search(r"ERROR SUMMARY: 0 errors", report), report


def leaked_descriptors(report):
    """Those that were still open at the end and that the process has opened itself."""
    lines = [re.sub(r"^==\d+== *", "", line) for line in report.splitlines()]
    assert any(line.startswith("FILE DESCRIPTORS:") for line in lines), report
    return [
        line for line, following in zip(lines, lines[1:]) if line.startswith("Open ") and "<inherited from parent>" not in following
    ]


@pytest.fixture
def memcheck(tmp_path):
    with Memcheck(tmp_path) as vmm:
        yield vmm


def everything(tmp_path):
    """A VM with a device of each kind that needs nothing of the host but files."""
    disk = tiny.sparse_file(tmp_path / "disk", tiny.MIB)
    return tiny.config(
        vcpus=2, serial=tmp_path / "serial", pvpanic=True, rng={"src": "/dev/urandom"},
        console={"mode": "File", "file": str(tmp_path / "console")},
        disks=[{"path": disk, "image_type": "Raw"}, {"path": disk, "readonly": True, "image_type": "Raw"}],
    )  # fmt: skip


def test_create_boot_delete_create_and_the_end_leave_nothing_behind(memcheck, tmp_path):
    config = everything(tmp_path)
    config["disks"].pop()
    memcheck.put("vm.create", config)
    memcheck.put("vm.boot")
    tiny.wait_ready(tmp_path / "serial")
    memcheck.info()
    memcheck.get("vm.counters")
    for verb in ("pause", "resume", "power-button", "nmi", "reboot", "shutdown", "boot", "delete"):
        memcheck.put(f"vm.{verb}")
    memcheck.put("vm.create", config)
    memcheck.put("vmm.shutdown")
    memcheck.assert_clean_end()


def test_signal_ends_a_running_guest_and_its_watchers_without_a_leak(memcheck, tmp_path):
    memcheck.put("vm.create", tiny.config(serial=tmp_path / "serial"))
    with memcheck.events() as events, memcheck.connect():
        memcheck.put("vm.boot")
        events.wait_for("vm:booted")
        memcheck.process.send_signal(signal.SIGTERM)
        memcheck.assert_clean_end()


def test_boots_that_fail_leave_nothing_behind(memcheck, tmp_path):
    no_kernel = tiny.config()
    no_kernel["payload"]["kernel"] = os.path.abspath(__file__)
    no_disk = everything(tmp_path)
    no_disk["disks"][1]["path"] = "/nonexistent/disk"
    for config in (no_kernel, no_disk):
        memcheck.put("vm.create", config)
        assert memcheck.api("PUT", "vm.boot").status == 500
        memcheck.put("vm.delete")
    assert memcheck.api("PUT", "vm.create", b"{" * 100).status == 400
    memcheck.put("vmm.shutdown")
    memcheck.assert_clean_end()


def test_boot_that_is_cancelled_leaves_nothing_behind(memcheck, tmp_path):
    initramfs = tiny.slow_initramfs(tmp_path / "initramfs")
    memcheck.put("vm.create", tiny.config(memory=768 * tiny.MIB, initramfs=initramfs))
    with tiny.SlowBoot(memcheck) as boot:
        memcheck.put("vm.delete")
        boot.answer()
    wait_until(lambda: memcheck.state() is None)
    memcheck.put("vmm.shutdown")
    memcheck.assert_clean_end()
