# SPDX-License-Identifier: Apache-2.0
"""The life of a machine with Linux in it: reboot, power-off, panic, pause, two at once, and every way to the end."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from coracle import BINARY, wait_until
from guest.console import Console
from guest_vm import EMULATED, MIB, READY_S, AuditLog, GuestVm, events_so_far, guest_config
from http_client import RawClient

pytestmark = pytest.mark.guest

OFF, PANIC = 3, 4  # exit status


@pytest.fixture
def vm():
    with GuestVm() as running:
        running.up()
        yield running


# --- reboot -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_reboots_by_the_api_and_by_the_guest_leave_nothing_behind():
    with GuestVm(cpus=2) as vm:
        vm.up()
        lives = {vm.boot_id()}
        for n in range(10):
            if n % 2:
                vm.console.send("reboot -f")
            else:
                vm.put("vm.reboot")
            assert vm.ready()["cpus"] == 2
            lives.add(vm.boot_id())
            wait_until(lambda: vm.state() == "Running", 10)
            if n == 1:
                before, rss = vm.resources(), vm.rss_kib()
        assert len(lives) == 11
        assert vm.resources() == before
        # Guest memory is new each time, and how much of it a boot touches differs a little.
        assert vm.rss_kib() < rss + 32 * 1024
        names = events_so_far(vm)
        assert names.count("vm:rebooting") == names.count("vm:rebooted") == 10


def test_triple_fault_is_told_and_reboots_in_place():
    with GuestVm(cmdline="reboot=t") as vm:
        vm.up()
        first, pid = vm.boot_id(), vm.ping()["pid"]
        vm.console.send("reboot -f")
        vm.ready()
        assert vm.boot_id() != first and vm.ping()["pid"] == pid
        names = events_so_far(vm)
        assert names.index("guest:triple-fault") < names.index("vm:rebooting") < names.index("vm:rebooted")
        assert "guest:panic" not in names


# --- power-off --------------------------------------------------------------------------------------------------------


def test_guest_powers_off_and_the_process_ends_with_3(tmp_path):
    events = tmp_path / "events"
    with GuestVm(vmm={"event_monitor": f"path={events}"}) as vm:
        vm.up()
        vm.console.send("poweroff -f")
        assert vm.wait(30) == OFF
        assert "ACPI Shutdown signalled" in vm.log()
        text = events.read_text()
        names = [word for word in ("starting", "booting", "booted", '"vm",\n  "event": "shutdown"', "deleted")]
        places = [text.index(name) for name in names]
        assert places == sorted(places)
        assert '"panic"' not in text


def test_power_button_ends_the_guest(vm):
    vm.put("vm.power-button")
    vm.console.expect(rb"CORACLE-POWER-BUTTON", 30)
    assert vm.wait(30) == OFF


def test_no_shutdown_keeps_the_process_and_the_vm_boots_again():
    with GuestVm("--no-shutdown") as vm:
        vm.up()
        first = vm.boot_id()
        vm.console.send("poweroff -f")
        wait_until(lambda: vm.state() == "Created", 30)
        assert [name for name in vm.threads() if name.startswith("vcpu")] == []
        vm.up()
        assert vm.boot_id() != first
        vm.put("vm.power-button")
        wait_until(lambda: vm.state() == "Created", 30)
        names = events_so_far(vm)
        assert names.count("vm:booted") == names.count("vm:shutdown") == 2


# --- panic ------------------------------------------------------------------------------------------------------------

PANICKING = {"pvpanic": True, "cmdline": "coracle.modules=pvpanic-pci panic=-1"}


def test_panic_is_told_and_the_guest_does_as_it_likes():
    with GuestVm(**PANICKING) as vm:
        vm.up()
        first = vm.boot_id()
        vm.console.send("echo c >/proc/sysrq-trigger")
        with vm.events(last_event_id=0) as stream:
            assert stream.wait_for("guest:panic").data["properties"] == {"event": "panic"}
            stream.wait_for("vm:rebooted")
        vm.ready()
        assert vm.boot_id() != first
        # The guest that panicked is gone: this one ends well.
        vm.console.send("poweroff -f")
        assert vm.wait(30) == OFF


def test_panic_ends_the_process_with_4_if_asked_to():
    """By way of an NMI that the guest has been told to panic at."""
    with GuestVm("--on-panic", "exit", pvpanic=True, cmdline="coracle.modules=pvpanic-pci") as vm:
        vm.up()
        vm.guest("echo 1 >/proc/sys/kernel/unknown_nmi_panic")
        vm.put("vm.nmi")
        assert vm.wait(30) == PANIC


def test_guest_that_reported_a_panic_and_powers_off_ends_with_4():
    with GuestVm(pvpanic=True) as vm:
        vm.up()
        # No driver is loaded: the report is written by hand.
        device = next(node for node in vm.info()["device_tree"].values() if "pvpanic" in node["id"])
        bar = device["resources"][0]["PciBar"]["base"]
        vm.guest(f"echo 1 >/sys/bus/pci/devices/{device['pci_bdf']}/enable")
        vm.guest(f"devmem {bar:#x} 8 1")
        with vm.events(last_event_id=0) as stream:
            stream.wait_for("guest:panic")
        assert vm.state() == "Running"
        vm.console.send("poweroff -f")
        assert vm.wait(30) == PANIC


# --- pause ------------------------------------------------------------------------------------------------------------


def test_pause_stops_the_guest_and_its_work_goes_on_after_resume():
    with GuestVm(cpus=2) as vm:
        vm.up()
        vm.guest("(n=0; while :; do n=$((n+1)); echo $n >/run/n.new; mv /run/n.new /run/n; usleep 20000; done) >/dev/null &")
        count = "cat /run/n"
        wait_until(lambda: int(vm.guest(f"{count} || echo 0")) > 5)
        clock = "cut -d' ' -f1 /proc/uptime"
        uptime, start = float(vm.guest(clock)), time.monotonic()
        before = int(vm.guest(count))
        vm.put("vm.pause")
        assert vm.state() == "Paused"
        asked = time.monotonic()
        vm.console.send(count)
        time.sleep(2)
        # A paused machine takes no processor time: not even its idle loop.
        ticks = cpu_ticks(vm)
        time.sleep(0.5)
        assert cpu_ticks(vm) - ticks < 10
        vm.put("vm.pause")  # the paused may be paused
        vm.put("vm.resume")
        answer = vm.console.expect(rb"(\d+)\r?\nCORACLE-RC 0\r?\n", 30)
        assert vm.state() == "Running"
        assert before <= int(answer[1]) < before + 100 * (asked - start) + 50
        wait_until(lambda: int(vm.guest(count)) > int(answer[1]) + 5)
        passed = float(vm.guest(clock)) - uptime
        assert 0 < passed < time.monotonic() - start + 0.5
        assert EMULATED or vm.kernel_complaints() == ""
        assert "soft lockup" not in vm.kernel_complaints()
        names = [name for name in events_so_far(vm) if name.startswith("vm:")]
        assert names[-4:] == ["vm:pausing", "vm:paused", "vm:resuming", "vm:resumed"]


def cpu_ticks(vm):
    with open(f"/proc/{vm.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_pausing_twenty_times_loses_nothing(vm):
    vm.guest("seq 1 100000 | sha256sum >/run/right")
    vm.console.send("for i in 1 2 3 4; do seq 1 100000 | sha256sum | cmp - /run/right || echo wrong; done; echo all-right")
    for _ in range(20):
        vm.put("vm.pause")
        vm.put("vm.resume")
    output = vm.console.expect(rb"((?:.|\n)*)CORACLE-RC 0", READY_S)[1]
    assert output.split() == [b"all-right"]


def test_paused_machine_can_be_shut_down_and_rebooted(vm):
    vm.put("vm.pause")
    vm.put("vm.reboot")
    vm.ready()
    assert vm.state() == "Running"
    vm.put("vm.pause")
    vm.put("vm.shutdown")
    assert vm.state() == "Created"


# --- more than one ----------------------------------------------------------------------------------------------------


def test_two_machines_side_by_side():
    with GuestVm(cpus=2) as a, GuestVm(memory=320 * MIB) as b:
        a.put("vm.boot")
        b.put("vm.boot")
        assert (a.ready()["cpus"], b.ready()["cpus"]) == (2, 1)
        assert a.boot_id() != b.boot_id()
        a.guest("echo a >/run/name")
        b.guest("echo b >/run/name")
        a.put("vm.pause")
        assert b.guest("cat /run/name") == "b"
        a.put("vm.resume")
        assert b.kill() == -signal.SIGKILL
        assert a.guest("cat /run/name") == "a"


def test_shutdown_delete_and_boot_again(vm):
    lives = {vm.boot_id()}
    before = vm.resources()
    vm.put("vm.shutdown")
    assert vm.state() == "Created"
    vm.up()
    lives.add(vm.boot_id())
    assert vm.resources() == before
    vm.put("vm.delete")  # of a running machine
    assert vm.state() is None
    vm.create(memory=320 * MIB)
    vm.up()
    lives.add(vm.boot_id())
    assert len(lives) == 3
    assert vm.info()["memory_actual_size"] == 320 * MIB
    assert vm.resources() == before


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("how", ["vmm.shutdown", "SIGTERM", "SIGINT"])
def test_process_ends_soon_under_a_running_guest(vm, how, busy):
    """Orchestrators kill after three seconds."""
    if busy:
        vm.guest("(while :; do :; done) >/dev/null & (while :; do echo x; done) >/dev/kmsg &")
    start = time.monotonic()
    if how == "vmm.shutdown":
        vm.put(how)
    else:
        vm.process.send_signal(getattr(signal, how))
    assert vm.wait(10) == 0
    assert time.monotonic() - start < 3


def test_everything_works_again_after_kill_9(tmp_path):
    path, serial, monitor = (str(tmp_path / name) for name in ("api.sock", "serial.sock", "events"))
    for life in range(2):
        process = subprocess.Popen(
            [BINARY, "--api-socket", f"path={path}", "--event-monitor", f"path={monitor}"], stdin=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: answers(path))
            with RawClient(path) as client:
                config = guest_config(serial={"mode": "Socket", "socket": serial})
                assert client.request("PUT", "/api/v1/vm.create", config).status == 204
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(serial)
                    assert client.request("PUT", "/api/v1/vm.boot").status == 204
                    Console(line.fileno()).ready(READY_S)
        finally:
            process.kill()
            process.wait()
        assert life or os.path.exists(path)


def answers(path):
    try:
        with RawClient(path) as client:
            return client.request("GET", "/api/v1/vmm.ping").status == 200
    except (ConnectionRefusedError, FileNotFoundError):
        return False


# --- the sandbox ------------------------------------------------------------------------------------------------------

# A filter that logs getppid and allows the rest, and one getppid.
LOGS_GETPPID = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
code = b"".join(struct.pack("HBBI", *op) for op in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 110), (0x06, 0, 0, 0x7FFC0000), (0x06, 0, 0, 0x7FFF0000)))
memory = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(memory))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.getppid()
"""


@pytest.fixture
def audit():
    """The audit log, shown to be one in which a logged system call can be seen."""
    try:
        log = AuditLog()
    except PermissionError:
        pytest.skip("the kernel's log may not be read")
    process = subprocess.Popen([sys.executable, "-c", LOGS_GETPPID])
    assert process.wait() == 0
    deadline = time.monotonic() + 5
    while not (seen := log.lines(f"pid={process.pid} ")) and time.monotonic() < deadline:
        time.sleep(0.1)
    if not seen:
        assert not EMULATED
        pytest.skip("this host's kernel log does not show system calls that a filter logs")
    yield log
    log.close()


@pytest.mark.slow
def test_nothing_that_a_machine_does_is_outside_the_system_call_lists(audit, tmp_path):
    """A day in the life of a VM under `--seccomp log`: whatever a list lacks shows in the audit log. The other tests run
    with the lists in force, and would die of it."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(16 * MIB))
    events = tmp_path / "events"
    devices = {
        "disks": [{"path": str(disk), "image_type": "Raw"}],
        "net": [{"ip": "192.168.77.1", "mask": "255.255.255.0"}],
        "console": {"mode": "Pty"},
        "debug_console": {"mode": "File", "file": str(tmp_path / "debug")},
        "pvpanic": True,
        "memory": {"size": 256 * MIB, "shared": True, "prefault": True},
    }
    with GuestVm("--seccomp", "log", vmm={"event_monitor": f"path={events}"}, cpus=2, **devices) as vm:
        with vm.events() as stream:
            vm.up()
            use_devices(vm)
            vm.put("vm.pause")
            vm.info()
            vm.get("vm.counters")
            vm.put("vm.resume")
            vm.put("vm.nmi")
            vm.put("vm.reboot")
            vm.ready()
            use_devices(vm)
            stream.wait_for("vm:rebooted")
        vm.console.send("reboot -f")
        vm.ready()
        vm.put("vm.shutdown")
        vm.put("vm.delete")
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(vm.socket_path)
            line.sendall(b"nonsense\r\n\r\n")
        vm.create(memory={"size": 256 * MIB, "thp": False})
        vm.up()
        vm.console.send("poweroff -f")
        assert vm.wait(30) == OFF
        assert audit.lines(f"pid={vm.pid} ") == []


def use_devices(vm):
    vm.guest("dd if=/dev/urandom of=/dev/vda bs=64k count=32 conv=fsync && "
             "dd if=/dev/vda of=/dev/null bs=4k && blkdiscard /dev/vda")  # fmt: skip
    vm.guest("ip addr add 192.168.77.2/24 dev eth0 && ip link set eth0 up && ping -c 2 192.168.77.1", 90)
    vm.guest("head -c 1000 /dev/hwrng >/dev/null; stty -F /dev/hvc0 raw -echo; echo words >/dev/hvc0; "
             "printf x | dd of=/dev/port bs=1 seek=233 conv=notrunc")  # fmt: skip
