# SPDX-License-Identifier: Apache-2.0
"""Every endpoint in every state, against one table of what it answers and what state it leaves."""

import shutil
import time

import pytest

import tiny
from coracle import Coracle, wait_until

pytestmark = tiny.needs_kvm

# Columns of the table. "Failed": a boot has just failed, which leaves the VM as it was before. "Booting": the boot job
# is running; what changes the VM waits for its end, but vm.delete and vm.shutdown cancel it.
STATES = ("None", "Created", "Running", "Paused", "Failed", "Booting")

# An answer is "status state-afterwards"; "=" leaves the state alone. While a boot is running that is "Running" once
# it is done, or, after "!", what the cancelled boot left.
#
# Bodies: 204 has none, an error is an array of strings, of 200 see CONTENTS.
DISK = {"path": "/nonexistent/disk", "image_type": "Raw"}
NET = {"tap": "coracle-none"}
TABLE = [
    # method, endpoint, body          None        Created        Running        Paused         Failed         Booting
    ("GET", "vmm.ping", None, ("200 =", "200 =", "200 =", "200 =", "200 =", "200 =")),
    ("GET", "vm.info", None, ("404 =", "200 =", "200 =", "200 =", "200 =", "200 =")),
    ("GET", "vm.counters", None, ("500 =", "500 =", "200 =", "200 =", "500 =", "500 =")),
    ("PUT", "vm.create", {}, ("204 Created", "500 =", "500 =", "500 =", "500 =", "500 =")),
    ("PUT", "vm.delete", None, ("204 =", "204 None", "204 None", "204 None", "204 None", "204 !None")),
    ("PUT", "vm.boot", None, ("404 =", "204 Running", "500 =", "204 Running", "500 =", "500 =")),
    ("PUT", "vm.shutdown", None, ("500 =", "500 =", "204 Created", "204 Created", "500 =", "204 !Created")),
    ("PUT", "vm.reboot", None, ("404 =", "404 =", "204 =", "204 Running", "404 =", "204 =")),
    ("PUT", "vm.pause", None, ("500 =", "500 =", "204 Paused", "204 =", "500 =", "204 Paused")),
    ("PUT", "vm.resume", None, ("500 =", "500 =", "204 =", "204 Running", "500 =", "204 =")),
    ("PUT", "vm.power-button", None, ("500 =", "500 =", "204 =", "204 =", "500 =", "204 =")),
    ("PUT", "vm.nmi", None, ("500 =", "500 =", "204 =", "204 =", "500 =", "204 =")),
    ("PUT", "vm.add-disk", DISK, ("404 =", "204 =", "500 =", "500 =", "204 =", "500 =")),
    ("PUT", "vm.add-net", NET, ("404 =", "204 =", "500 =", "500 =", "204 =", "500 =")),
]
# In the API document, but not built: unknown, in every state.
UNBUILT = [
    f"vm.{name}"
    for name in (
        "resize resize-disk resize-zone add-device add-user-device add-fs add-generic-vhost-user add-pmem add-vdpa "
        "add-vsock remove-device snapshot restore send-migration receive-migration coredump"
    ).split()
]
# Members of the answer where it is 200.
CONTENTS = {"vmm.ping": "version", "vm.info": "config", "vm.counters": None}

PUTS_WITHOUT_BODY = [name for method, name, body, _ in TABLE if method == "PUT" and body is None]
PUTS_WITH_BODY = [name for method, name, body, _ in TABLE if method == "PUT" and body is not None]
GETS = [name for method, name, _, _ in TABLE if method == "GET"]


@pytest.fixture(scope="module")
def initramfs(tmp_path_factory):
    """Takes long enough to load for a request to come in between."""
    return tiny.slow_initramfs(tmp_path_factory.mktemp("states") / "initramfs")


@pytest.fixture(scope="module")
def vmm():
    """One process for all: each test finds and leaves it in whatever state."""
    with Coracle() as process:
        yield process


def enter(vmm, state):
    """Whatever it was before: from None to the state."""
    vmm.put("vm.delete")
    if state == "None":
        return
    if state == "Failed":
        config = tiny.config()
        config["payload"]["kernel"] = "/nonexistent/vmlinux"
        vmm.put("vm.create", config)
        assert vmm.api("PUT", "vm.boot").status == 500
        return
    vmm.put("vm.create", tiny.config())
    if state in ("Running", "Paused"):
        vmm.put("vm.boot")
    if state == "Paused":
        vmm.put("vm.pause")


def state_now(vmm):
    return vmm.state() or "None"


def check_body(name, response):
    if response.status == 204:
        assert response.body == b"" and response.header("Content-Length") is None
    elif response.status == 200:
        answer = response.json()
        assert isinstance(answer, dict)
        assert CONTENTS[name] is None or CONTENTS[name] in answer
    else:
        messages = response.json()
        assert messages and all(isinstance(message, str) and message for message in messages)


def body_of(name, body):
    return tiny.config() if name == "vm.create" else body


def cells(*states):
    return [
        pytest.param(method, name, body, state, cell, id=f"{name}-{state}")
        for method, name, body, row in TABLE
        for state, cell in zip(STATES, row, strict=True)
        if state in states
    ]


@pytest.mark.parametrize("method, name, body, state, cell", cells("None", "Created", "Running", "Paused", "Failed"))
def test_endpoint_in_state(vmm, method, name, body, state, cell):
    enter(vmm, state)
    before = state_now(vmm)
    assert before == ("Created" if state == "Failed" else state)
    status, after = cell.split()
    response = vmm.api(method, name, body_of(name, body))
    assert response.status == int(status), response
    check_body(name, response)
    assert state_now(vmm) == (before if after == "=" else after)


@pytest.mark.parametrize("method, name, body, state, cell", cells("Booting"))
def test_endpoint_while_a_boot_is_running(vmm, initramfs, method, name, body, state, cell):
    enter(vmm, "None")
    vmm.put("vm.create", tiny.config(memory=640 * tiny.MIB, initramfs=initramfs))
    status, after = cell.split()
    with tiny.SlowBoot(vmm) as boot:
        assert state_now(vmm) == "Created"
        response = vmm.api(method, name, body_of(name, body))
        if method == "GET":
            assert boot.is_going_on(), "it was answered only after the boot"
        assert response.status == int(status), response
        check_body(name, response)
        booted = boot.answer()
    if after.startswith("!"):
        assert booted.status == 500
        assert "cancelled" in " ".join(booted.json())
    else:
        assert booted.status == 204
    assert state_now(vmm) == ("Running" if after == "=" else after.lstrip("!"))


def test_vm_that_reboots_goes_on_telling_of_its_devices(vmm, initramfs):
    enter(vmm, "None")
    vmm.put("vm.create", tiny.config(memory=640 * tiny.MIB, initramfs=initramfs))
    vmm.put("vm.boot")
    before = vmm.info()
    with tiny.SlowBoot(vmm, "vm.reboot") as reboot:
        during = vmm.info()
        counters = vmm.get("vm.counters")
        assert reboot.is_going_on()
        assert reboot.answer().status == 204
    assert during == before
    assert counters == vmm.get("vm.counters")
    assert vmm.info()["device_tree"].keys() == before["device_tree"].keys()


def in_every_settled_state(vmm):
    for state in ("None", "Created", "Running", "Paused", "Failed"):
        enter(vmm, state)
        before = state_now(vmm)
        yield state
        assert state_now(vmm) == before


def refused(vmm, status, method, name, body=None):
    response = vmm.api(method, name, body)
    assert response.status == status, (method, name, response)
    check_body(name, response)


def test_endpoints_that_are_not_built_are_unknown_in_every_state(vmm):
    for _ in in_every_settled_state(vmm):
        for name in UNBUILT:
            refused(vmm, 404, "PUT", name, {})
            refused(vmm, 404, "PUT", name)


def test_wrong_methods_are_refused_in_every_state(vmm):
    for _ in in_every_settled_state(vmm):
        for name in GETS:
            for method in ("PUT", "PATCH", "DELETE"):
                refused(vmm, 400, method, name)
        for name in (*PUTS_WITHOUT_BODY, *PUTS_WITH_BODY, "vmm.shutdown"):
            for method in ("GET", "PATCH", "DELETE"):
                refused(vmm, 400, method, name)


def test_bodies_where_there_must_be_none_are_refused_in_every_state(vmm):
    for _ in in_every_settled_state(vmm):
        for name in PUTS_WITHOUT_BODY:
            refused(vmm, 400, "PUT", name, {})


def test_missing_and_broken_bodies_are_refused_in_every_state(vmm):
    for _ in in_every_settled_state(vmm):
        for name in PUTS_WITH_BODY:
            refused(vmm, 400, "PUT", name)
            refused(vmm, 400, "PUT", name, b"{")
            refused(vmm, 400, "PUT", name, b"[]")


def test_bodies_of_gets_are_ignored(vmm):
    enter(vmm, "Running")
    for name in GETS:
        assert vmm.api("GET", name, b"{").status == 200


def test_event_stream_opens_in_every_state(vmm):
    for _ in in_every_settled_state(vmm):
        with vmm.events() as events:
            assert events.head.status == 200


@pytest.mark.parametrize("state", STATES)
def test_vmm_shutdown_ends_the_process_in_every_state(initramfs, state):
    with Coracle() as vmm:
        if state == "Booting":
            vmm.put("vm.create", tiny.config(memory=640 * tiny.MIB, initramfs=initramfs))
            with tiny.SlowBoot(vmm) as boot:
                assert vmm.api("PUT", "vmm.shutdown").status == 204
                assert boot.answer().status == 500
        else:
            enter(vmm, state)
            response = vmm.api("PUT", "vmm.shutdown")
            assert response.status == 204 and response.body == b""
        assert vmm.wait(3) == 0


# --- the guest's own transitions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words, code", [("poweroff", 3), ("panic poweroff", 4)])
def test_guest_that_powers_off_ends_the_process(words, code):
    with Coracle() as vmm:
        vmm.put("vm.create", tiny.config(words, pvpanic=True))
        vmm.put("vm.boot")
        assert vmm.wait(10) == code


def test_guest_that_powers_off_leaves_the_vm_with_no_shutdown():
    with Coracle("--no-shutdown") as vmm, vmm.events() as events:
        vmm.put("vm.create", tiny.config("poweroff"))
        for _ in range(3):
            vmm.put("vm.boot")
            events.wait_for("vm:shutdown")
            wait_until(lambda: vmm.state() == "Created")


@pytest.mark.parametrize("words", ["reset", "reset-i8042", "triple"])
def test_guest_that_resets_is_rebooted(vmm, words):
    enter(vmm, "None")
    with vmm.events() as events:
        vmm.put("vm.create", tiny.config(words))
        vmm.put("vm.boot")
        for _ in range(3):
            if words == "triple":
                events.wait_for("guest:triple-fault")
            events.wait_for("vm:rebooting")
            events.wait_for("vm:rebooted")
        # A guest that resets again and again does not keep the API from its turn.
        assert vmm.api("PUT", "vm.delete").status == 204
    assert vmm.state() is None


def config_with_kernel_of_its_own(path, words):
    config = tiny.config(words)
    config["payload"]["kernel"] = str(shutil.copy(tiny.GUEST, path))
    return config


def test_reboot_that_fails_leaves_created(vmm, tmp_path):
    enter(vmm, "None")
    kernel = tmp_path / "kernel"
    vmm.put("vm.create", config_with_kernel_of_its_own(kernel, "ready"))
    vmm.put("vm.boot")
    kernel.rename(tmp_path / "elsewhere")
    refused(vmm, 500, "PUT", "vm.reboot")
    assert vmm.state() == "Created"
    (tmp_path / "elsewhere").rename(kernel)
    vmm.put("vm.boot")
    assert vmm.state() == "Running"


@pytest.mark.parametrize("stays", [False, True])
def test_reset_by_the_guest_that_fails_is_an_error(tmp_path, stays):
    kernel = tmp_path / "kernel"
    with Coracle(*["--no-shutdown"] * stays) as vmm:
        vmm.put("vm.create", config_with_kernel_of_its_own(kernel, "reset"))
        vmm.put("vm.boot")
        kernel.unlink()
        if stays:
            wait_until(lambda: vmm.state() == "Created")
            assert vmm.api("PUT", "vm.delete").status == 204
        else:
            assert vmm.wait(10) == 1
        assert str(kernel) in vmm.log()


def test_panic_is_told_and_the_guest_lives_on(vmm, tmp_path):
    enter(vmm, "None")
    with vmm.events() as events:
        vmm.put("vm.create", tiny.config("panic ready", serial=tmp_path / "serial", pvpanic=True))
        vmm.put("vm.boot")
        assert events.wait_for("guest:panic").data["properties"] == {"event": "panic"}
    tiny.wait_ready(tmp_path / "serial")
    assert vmm.state() == "Running"


def test_paused_guest_stands_still_and_goes_on(vmm, tmp_path):
    serial = tmp_path / "serial"

    def lines():
        return len(serial.read_text().split())

    enter(vmm, "None")
    vmm.put("vm.create", tiny.config("count", serial=serial))
    vmm.put("vm.boot")
    wait_until(lambda: lines() > 5)
    vmm.put("vm.pause")
    held = lines()
    with pytest.raises(TimeoutError):
        wait_until(lambda: lines() > held, timeout=0.3)
    vmm.put("vm.resume")
    wait_until(lambda: lines() > held + 5)
    numbers = [int(line) for line in serial.read_text().split("\n")[:-1]]
    assert numbers == list(range(len(numbers)))


def test_all_that_a_guest_said_is_out_when_its_pause_is_answered(vmm, tmp_path):
    serial = tmp_path / "serial"
    enter(vmm, "None")
    vmm.put("vm.create", tiny.config("count", serial=serial))
    vmm.put("vm.boot")
    for n in range(40):
        before = serial.read_bytes()
        wait_until(lambda before=before: serial.read_bytes() != before)
        # The guest says something each ten milliseconds: at another moment each time.
        time.sleep(n / 4000)
        vmm.put("vm.pause")
        held = serial.read_bytes()
        with pytest.raises(TimeoutError):
            wait_until(lambda held=held: serial.read_bytes() != held, timeout=0.03)
        vmm.put("vm.resume")
