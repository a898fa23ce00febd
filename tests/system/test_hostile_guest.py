# SPDX-License-Identifier: Apache-2.0
"""A guest that means harm, against the real program: tests/guest/pvh/hostile.c says what each word does.

After each attack every device does what a good driver asks of it, the VM runs on, nothing has grown, and the process
can have the next VM.
"""

import contextlib
import os
import socket
import subprocess

import pytest

import tiny
from coracle import Coracle, wait_until
from hostile import MEMORY_KIB, Attack, can_make_taps, check_that_all_is_well, disk, own_rss_kib
from netns import network_namespace
from usage import Usage, check_growth

pytestmark = tiny.needs_kvm

ATTACKS = [
    # descriptors and rings
    "chains",
    "addresses",
    "indirect",
    "available",
    "duplicates",
    "rings",
    # registers
    "registers",
    "status",
    "activated",
    "selectors",
    "vectors",
    "notify",
    "bar",
    "msix",
    # the machine around the devices
    "config",
    "bars",
    "window",
    "ports",
    "strings",
    "holes",
    # what requests say
    "disk",
    # the same again and again
    "flood-serial=30",
    "flood-console=500",
    "flood-entropy=300",
    "flood-notify=3000",
    "flood-panic=5000",
    "flood-activations=600",
    "flood-log=100",
    # a second processor
    "race-descriptors",
    "race-rings",
    "race-reset",
    "race-bars",
    "race-random",
    # anything: seed, steps
    "random=1,2000",
    "random=2,2000",
    "random=3,2000",
]

NET_ATTACKS = ["net", "chains", "duplicates", "rings", "flood-frames=20000", "race-descriptors", "race-reset", "random=4,1000"]


def run(vmm, directory, words, **more):
    attack = Attack(vmm, directory, words, **more)
    attack.finish()
    attack.check()
    check_that_all_is_well(vmm, directory)


@pytest.mark.parametrize("words", ATTACKS)
def test_no_attack_leaves_a_trace(vmm, tmp_path, words):
    run(vmm, tmp_path, words)


@pytest.mark.skipif(not can_make_taps(), reason="makes taps")
@pytest.mark.parametrize("words", NET_ATTACKS)
def test_a_network_device_stands_it_too(tmp_path, words):
    with network_namespace(), Coracle() as vmm:
        run(vmm, tmp_path, words, net=True)


@pytest.mark.skipif(not can_make_taps(), reason="makes taps")
def test_frames_that_nobody_takes_take_no_memory(tmp_path):
    with network_namespace(), Coracle() as vmm:
        attack = Attack(vmm, tmp_path, "duplicates flood-frames=20000", net=True)
        subprocess.run(["ip", "link", "set", attack.TAP, "down"], check=True)
        attack.finish()
        attack.check()
        check_that_all_is_well(vmm, tmp_path)


@pytest.mark.parametrize("words", ["duplicates", "race-rings", "disk"])
@pytest.mark.parametrize("how", [{"direct": True}, {"_disable_io_uring": True}])
def test_no_way_into_an_image_is_weaker_than_another(vmm, tmp_path, words, how):
    image = disk(tmp_path / "other-disk")
    run(vmm, tmp_path, words, disks=[{"path": image, "image_type": "Raw", **how}])


# --- nobody reads -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def deaf_reader(path):
    """Is connected to the socket and reads nothing."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        yield


@pytest.mark.parametrize("readers", [0, 1])
def test_output_that_nobody_reads_takes_no_memory(vmm, tmp_path, readers):
    path = str(tmp_path / "socket")
    attack = Attack(vmm, tmp_path, "flood-console=1000", console={"mode": "Socket", "socket": path})
    with deaf_reader(path) if readers else contextlib.nullcontext():
        attack.finish()
        attack.check()
    check_that_all_is_well(vmm, tmp_path)


@pytest.mark.parametrize("readers", [0, 1])
def test_a_serial_port_that_nobody_reads_takes_no_memory(tmp_path, readers):
    path = str(tmp_path / "socket")
    with Coracle("--no-shutdown") as vmm:
        attack = Attack(vmm, tmp_path, "flood-serial=60 poweroff", serial={"mode": "Socket", "socket": path})
        most = 0

        def is_off():
            nonlocal most
            most = max(most, own_rss_kib(vmm))
            return vmm.state() == "Created"

        with deaf_reader(path) if readers else contextlib.nullcontext():
            wait_until(is_off, timeout=120)
        if not vmm.is_sanitized():
            assert most < attack.rss_kib + MEMORY_KIB
        check_that_all_is_well(vmm, tmp_path)


def test_events_that_nobody_reads_take_no_memory(vmm, tmp_path):
    with vmm.events():
        attack = Attack(vmm, tmp_path, "flood-panic=5000 flood-activations=300")
        attack.finish()
        attack.check()
    check_that_all_is_well(vmm, tmp_path)


# --- in the middle of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["race-random=2000", "duplicates", "status", "rings", "bars", "random=5,1000"])
def test_a_guest_can_be_paused_in_the_middle_of_it(vmm, tmp_path, words):
    attack = Attack(vmm, tmp_path, words)
    wait_until(attack.has_begun)
    for _ in range(20):
        vmm.put("vm.pause")
        assert vmm.info()["state"] == "Paused"
        vmm.get("vm.counters")
        vmm.put("vm.resume")
    attack.finish()
    attack.check()
    check_that_all_is_well(vmm, tmp_path)


@pytest.mark.parametrize("end", ["vm.reboot", "vm.shutdown", "vm.delete"])
@pytest.mark.parametrize("words", ["race-random=5000", "duplicates duplicates", "status status", "flood-activations=5000"])
def test_a_guest_can_be_ended_in_the_middle_of_it(vmm, tmp_path, words, end):
    rest = Usage(vmm)
    for ms in (0, 3, 30):
        attack = Attack(vmm, tmp_path, words)
        wait_until(attack.has_begun)
        wait_for_processors(vmm, ms)
        vmm.put(end)
        if end != "vm.delete":
            vmm.put("vm.delete")
    assert vmm.state() is None
    check_growth(vmm, rest)


def wait_for_processors(vmm, ms):
    """Until the guest's processors have worked for so long."""

    def worked():
        total = 0
        for task in os.listdir(f"/proc/{vmm.pid}/task"):
            with open(f"/proc/{vmm.pid}/task/{task}/comm") as name, open(f"/proc/{vmm.pid}/task/{task}/schedstat") as stat:
                if name.read().startswith("vcpu"):
                    total += int(stat.read().split()[0])
        return total / 1e6

    before = worked()
    wait_until(lambda: worked() >= before + ms)


# --- a guest that does not get anywhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["reset", "triple", "reset-i8042"])
def test_a_guest_that_resets_for_ever_fills_no_log(vmm, tmp_path, words):
    vmm.put("vm.create", tiny.config(words, vcpus=2, serial=tmp_path / "serial"))
    with vmm.events() as events:
        vmm.put("vm.boot")
        for _ in range(20):
            events.wait_for("vm:rebooted")
        before = own_rss_kib(vmm), len(vmm.log())
        for _ in range(30):
            events.wait_for("vm:rebooted")
    assert vmm.ping()
    if not vmm.is_sanitized():
        assert own_rss_kib(vmm) < before[0] + 1024
    assert vmm.log().count("the guest enters") < 20
    check_that_all_is_well(vmm, tmp_path)
