# SPDX-License-Identifier: Apache-2.0
"""Each allocation and each system call of a VM's life fails once, one after another: the process goes on answering, says what
was refused and where, keeps nothing of the attempt, and the same request works when nothing fails any more."""

import collections
import contextlib
import errno
import fcntl
import os
import re
import signal
import struct
import subprocess

import pytest
import tiny
from coracle import BINARY, MINIMAL_CONFIG, SANITIZER, wait_until
from faults import CALLS, FOR_EVER, Faults, FaultyCoracle, environment, needs_library, symbols
from http_client import RawClient
from netns import network_namespace

pytestmark = needs_library

IOLOAD = os.path.join(os.path.dirname(tiny.GUEST), "ioload.elf")
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000

# Refused, these leave a client without an answer: its connection is closed, and what it asked for may have been done.
BREAKS_CONNECTION = ("allocation", "sendto", "recvmsg")
# AddressSanitizer ends the process when it gets no memory of its own.
NOT_SANITIZED = ("mmap", "mprotect", "mremap", "madvise")

sanitized = SANITIZER is not None
is_root = os.geteuid() == 0


def step_of(call, stride=1):
    """How many points to go on at a time. Allocations are many."""
    return stride * (5 if sanitized else 1) if call == "allocation" else 1


def open_tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return fd


def calls():
    return [name for name in CALLS if not (sanitized and name in NOT_SANITIZED)]


class Broken(Exception):
    """The process is of no use for the next point."""


class Rig:
    """A coracle, a connection to it, and the VM that it is to make: consoles of each kind, a disk, an entropy device, and a
    network device where that can be made."""

    def __init__(self, directory, tap_fd=None):
        self.serial = directory / "serial"
        self.serial.touch()
        disk = tiny.sparse_file(directory / "disk", tiny.MIB)
        self.fds = [] if tap_fd is None else [tap_fd]
        self.config = tiny.config(
            serial=self.serial, vcpus=2, disks=[{"path": disk, "image_type": "Raw"}], net=[{"num_queues": 2}] * len(self.fds),
            console={"mode": "Socket", "socket": str(directory / "console")}, debug_console={"mode": "Pty"}, pvpanic=True,
        )  # fmt: skip
        self.vmm = None
        self.start()

    def start(self):
        self.vmm = FaultyCoracle()
        self.faults = self.vmm.faults
        self.client = None
        self.vmm.ping()
        for _ in range(3):
            self.whole_life()
        self.blocks = self.count_blocks()
        self.before = self.usage()

    def close(self):
        if self.client:
            self.client.close()
        assert self.vmm.close() == 0

    def start_again(self):
        """After a failure of the test: what is wrong with this process is known."""
        self.vmm.kill()
        with contextlib.suppress(AssertionError):
            self.vmm.close()
        self.start()

    def request(self, name, method="PUT"):
        """(status, messages); status None: closed without an answer."""
        try:
            if not self.client:
                self.client = self.vmm.connect(10)
            creating = name == "vm.create"
            answer = self.client.request(
                method, f"/api/v1/{name}", self.config if creating else None, self.fds if creating else ()
            )
            if answer.header("Connection") == "close":
                self.client.close()
                self.client = None
            return answer.status, answer.json() if answer.body else []
        except (EOFError, ConnectionError):
            self.client.close()
            self.client = None
            return None, []
        except TimeoutError as hang:
            raise Broken(f"{name} is not answered") from hang

    def demand(self, name, method="PUT"):
        status, messages = self.request(name, method)
        if status not in (200, 204):
            raise Broken(f"{name} when nothing fails: {status} {messages}")
        return messages

    def await_ready(self):
        try:
            wait_until(lambda: "READY\n" in self.serial.read_text(), 10, 0.001)
        except TimeoutError as dead:
            raise Broken("the guest does not run") from dead

    def whole_life(self):
        self.demand("vm.create")
        self.demand("vm.boot")
        self.await_ready()
        self.demand("vm.delete")

    def usage(self):
        kinds = (re.sub(r":?\[\d+\]|/pts/\d+", "", what) for what in self.vmm.fds().values())
        return sorted(kinds), self.vmm.threads()

    def check_alive(self):
        """Returns the state."""
        if self.vmm.process.poll() is not None:
            raise Broken(f"it died ({self.vmm.process.returncode}): {self.vmm.log()[-400:]}")
        self.demand("vmm.ping", "GET")
        return self.vmm.state()

    def check_rest(self):
        try:
            wait_until(lambda: self.usage() == self.before, 10, 0.002)
        except TimeoutError as left:
            raise Broken(f"left over: {self.usage()} instead of {self.before}") from left

    def count_blocks(self):
        """Allocated blocks, when the event log is full: then it has the same number, whatever was in it before."""
        with self.vmm.connect() as client:
            for _ in range(1100):
                for name in ("vm.create", "vm.delete"):
                    body = MINIMAL_CONFIG if name == "vm.create" else None
                    assert client.request("PUT", f"/api/v1/{name}", body).status == 204
        self.demand("vmm.ping", "GET")
        return self.faults.live_blocks


def judge(call, name, status, messages):
    """What is wrong with an answer to a request during which `call` failed."""
    if status is None and call not in BREAKS_CONNECTION:
        raise Broken(f"{name} was not answered")
    if status not in (None, 204, 400, 500):
        raise Broken(f"{name}: {status} {messages}")
    if status in (400, 500) and (not messages or len(" ".join(messages)) < 20):
        raise Broken(f"{name} says nothing of what failed: {messages}")


def sweep(rig, call, attempt, step=1, **where):
    """Has the first `call` of attempt() fail, the second, and so on, until there are no more. Returns how many failed."""
    wrong = []
    nth = 1
    while len(wrong) < 5:
        failed = 0
        try:
            failed = attempt(nth, where)
            rig.check_rest()
        except Broken as broken:
            failed = rig.faults.disarm()
            wrong.append(f"{call} {nth} ({describe(rig)}): {broken}")
            rig.start_again()
        if not failed:
            break
        nth += step
    assert not wrong, "\n".join(wrong)
    return nth - 1


def describe(rig):
    if rig.faults.call == "allocation":
        return symbols(rig.vmm.pid, rig.faults.frames())
    return rig.faults.describe()


@pytest.fixture(scope="module")
def tap():
    """A descriptor of one in a network of its own, None where that cannot be made."""
    with contextlib.ExitStack() as stack:
        fd = None
        if is_root and os.path.exists("/dev/net/tun"):
            stack.enter_context(network_namespace())
            fd = open_tap("tap0")
        yield fd
        if fd is not None:
            os.close(fd)


@pytest.fixture(scope="module")
def rig(tmp_path_factory, tap):
    made = Rig(tmp_path_factory.mktemp("rig"), tap)
    yield made
    made.close()


# --- a VM's life ------------------------------------------------------------------------------------------------------

STATE_AFTER_FAILURE = {"vm.create": (None,), "vm.boot": ("Created",), "vm.delete": ("Running",)}


@tiny.needs_kvm
@pytest.mark.parametrize("call", calls())
def test_any_call_may_fail_while_a_vm_is_made_and_deleted(rig, call):
    def attempt(nth, where):
        rig.demand("vmm.ping", "GET")
        with rig.faults.armed(call, nth, **where):
            for name in ("vm.create", "vm.boot", "vm.delete"):
                status, messages = rig.request(name)
                judge(call, name, status, messages)
                if status != 204:
                    break
                if name == "vm.boot" and call != "write":
                    rig.await_ready()
        failed = rig.faults.failed
        state = rig.check_alive()
        if status and status != 204 and state not in STATE_AFTER_FAILURE[name]:
            raise Broken(f"{name} failed and left {state}")
        if state == "Created":
            rig.demand("vm.boot")
        if state:
            rig.await_ready()
            rig.demand("vm.delete")
        if status != 204:
            rig.whole_life()
        return failed

    sweep(rig, call, attempt, step_of(call))


@tiny.needs_kvm
@pytest.mark.parametrize("call", calls())
def test_any_call_may_fail_while_a_vm_pauses_resumes_and_reboots(rig, call):
    def attempt(nth, where):
        rig.demand("vm.create")
        rig.demand("vm.boot")
        rig.await_ready()
        with rig.faults.armed(call, nth, **where):
            for name in ("vm.pause", "vm.resume", "vm.reboot"):
                status, messages = rig.request(name)
                judge(call, name, status, messages)
                if status != 204:
                    break
        failed = rig.faults.failed
        state = rig.check_alive()
        if name == "vm.reboot" and status == 500 and state not in ("Created", "Running"):
            raise Broken(f"{name} failed and left {state}")
        again = {"Created": "vm.boot", "Paused": "vm.resume", "Running": "vm.reboot"}
        rig.demand(again[state])
        rig.await_ready()
        rig.demand("vm.delete")
        return failed

    sweep(rig, call, attempt, step_of(call, 5))


@tiny.needs_kvm
@pytest.mark.parametrize("call", ["allocation", "openat", "eventfd2", "mmap", "clone", "ioctl", "epoll_create1", "pipe2"])
def test_everything_may_fail_from_some_point_on(rig, call):
    if sanitized and call in NOT_SANITIZED:
        pytest.skip("the sanitizer's own")

    def attempt(nth, where):
        rig.demand("vmm.ping", "GET")
        with rig.faults.armed(call, nth, times=FOR_EVER, **where):
            for name in ("vm.create", "vm.boot", "vm.delete"):
                status, messages = rig.request(name)
                judge(call, name, status, messages)
                if status != 204:
                    break
        failed = rig.faults.failed
        if rig.check_alive():
            rig.demand("vm.delete")
        rig.whole_life()
        return failed

    sweep(rig, call, attempt, step_of(call, 20) if call != "ioctl" else 5)


@tiny.needs_kvm
def test_no_block_of_memory_is_left_of_all_that_was_given_up(rig):
    """The tests above had it give up halfway at each point that there is."""
    if sanitized:
        pytest.skip("the sanitizer looks for leaks itself")
    rig.whole_life()
    rig.count_blocks()

    def as_before():
        # Some are freed in a later turn of the loop.
        rig.demand("vmm.ping", "GET")
        return rig.faults.live_blocks <= rig.blocks + 1

    try:
        wait_until(as_before, 5)
    except TimeoutError:
        pytest.fail(f"{rig.faults.live_blocks} blocks are left of {rig.blocks}")


# --- a VM that runs ---------------------------------------------------------------------------------------------------


@tiny.needs_kvm
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_guest_runs_on_when_its_console_file_cannot_be_written(rig, error):
    counting = {**rig.config, "payload": {**rig.config["payload"], "cmdline": "ready count"}}
    rig.vmm.put("vm.create", counting, rig.fds)
    rig.vmm.put("vm.boot")
    rig.await_ready()
    rig.faults.arm("write", error=error, times=FOR_EVER, target="/serial")
    wait_until(lambda: rig.faults.failed >= 5)
    rig.demand("vmm.ping", "GET")
    rig.faults.disarm()
    size = rig.serial.stat().st_size
    wait_until(lambda: rig.serial.stat().st_size > size)
    rig.demand("vm.delete")
    rig.check_rest()


def errors_of(rig, devices, words, *fault, **more):
    """Boots the guest of tests/guest/pvh/ioload.c with a failing call from the start. Returns how many of its requests it saw
    fail, and how many calls did."""
    config = {**rig.config, "disks": [], "net": [], **devices}
    config["payload"] = {"kernel": IOLOAD, "cmdline": f"ms=300 bytes=4096 depth=4 {words} bye"}
    rig.vmm.put("vm.create", config, rig.fds if config["net"] else ())
    rig.faults.arm(*fault, **more)
    rig.vmm.put("vm.boot")
    wait_until(lambda: "done" in rig.serial.read_text())
    rig.demand("vmm.ping", "GET")
    failed = rig.faults.disarm()
    told = rig.serial.read_text()
    rig.demand("vm.delete")
    rig.check_rest()
    count = {line.split()[0]: int("".join(line.split()[1:]), 16) for line in told.splitlines() if len(line.split()) == 3}
    assert count["requests"] > 0 and failed > 0
    return count["errors"], failed


needs_ioload = pytest.mark.skipif(not os.path.exists(IOLOAD), reason="make units builds guest/pvh/ioload.elf")


@tiny.needs_kvm
@needs_ioload
@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOMEM, errno.EBUSY])
def test_guest_sees_nothing_of_a_ring_that_the_kernel_has_no_room_for(rig, error):
    devices = {"disks": rig.config["disks"]}
    errors, _ = errors_of(rig, devices, "write read", "io_uring_enter", nth=3, error=error, times=20, thread="_disk0")
    assert errors == 0


@tiny.needs_kvm
@needs_ioload
@pytest.mark.parametrize("call, words", [("preadv", "read"), ("pwritev", "write")])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_guest_sees_each_error_of_its_disk_and_goes_on(rig, call, words, error):
    devices = {"disks": [{**rig.config["disks"][0], "disable_io_uring": True}]}
    errors, failed = errors_of(rig, devices, words, call, nth=5, error=error, times=7, thread="_disk0")
    assert errors == failed == 7


@tiny.needs_kvm
@needs_ioload
@pytest.mark.parametrize("call, words", [("write", "bytes=64 send"), ("writev", "bytes=9000 send")])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOBUFS, errno.EBADFD])
def test_guest_goes_on_sending_when_its_tap_takes_nothing(rig, call, words, error):
    if not rig.fds:
        pytest.skip("no tap")
    devices = {"net": rig.config["net"]}
    errors, _ = errors_of(rig, devices, words, call, error=error, times=50, target="/dev/net/tun")
    assert errors == 0


# --- clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO])
def test_clients_are_served_when_they_can_be_accepted_again(error):
    with FaultyCoracle() as vmm, vmm.connect() as old:
        assert old.request("GET", "/api/v1/vmm.ping").status == 200
        vmm.faults.arm("accept4", error=error, times=3)
        answers = []
        for _ in range(4):
            with contextlib.suppress(EOFError, ConnectionError), vmm.connect(5) as client:
                answers.append(client.request("GET", "/api/v1/vmm.ping").status)
            assert old.request("GET", "/api/v1/vmm.ping").status == 200
        assert vmm.faults.failed >= 1
        assert answers and set(answers) <= {200, 503}
        vmm.faults.disarm()
        vmm.ping()


@pytest.mark.parametrize("call", ["allocation", "epoll_ctl", "recvmsg", "sendto", "fcntl", "ioctl", "poll"])
def test_any_call_may_fail_while_a_client_is_served(call):
    with FaultyCoracle() as vmm:
        vmm.ping()
        fds = vmm.fds_at_rest()
        nth = 1
        while True:
            with vmm.faults.armed(call, nth):
                with contextlib.suppress(EOFError, ConnectionError), vmm.connect(5) as client:
                    answer = client.request("GET", "/api/v1/vmm.ping")
                    assert answer.status in (200, 500), answer
            failed = vmm.faults.failed
            vmm.ping()
            assert len(vmm.fds_at_rest()) == len(fds)
            if not failed:
                break
            nth += 1


@pytest.mark.parametrize("call", ["allocation", "sendto", "epoll_ctl"])
def test_reader_of_events_misses_none_without_being_told(call):
    """Its stream may break; who comes again with the last number goes on from there, over a gap at most."""
    with FaultyCoracle() as vmm:
        nth = 1
        while True:
            with vmm.events() as events, vmm.connect() as client:
                client.request("GET", "/api/v1/vmm.ping")
                with vmm.faults.armed(call, nth):
                    with contextlib.suppress(EOFError, ConnectionError):
                        client.request("PUT", "/api/v1/vm.create", MINIMAL_CONFIG)
                        client.request("PUT", "/api/v1/vm.delete")
                failed = vmm.faults.failed
                vmm.api("PUT", "vm.delete")
                vmm.put("vm.create", MINIMAL_CONFIG)
                vmm.put("vm.delete")
                numbers = [read_id(events)]
                last = max(numbers)
            with vmm.events(last_event_id=last) as again:
                vmm.put("vm.create", MINIMAL_CONFIG)
                vmm.put("vm.delete")
                numbers.append(read_id(again))
            assert numbers == sorted(set(numbers)), numbers
            if not failed:
                break
            nth += step_of(call)


def read_id(events):
    """The number of the next event; of the last one, when the stream has ended."""
    with contextlib.suppress(EOFError, ConnectionError):
        events.next()
    return events.last_id


# --- the start --------------------------------------------------------------------------------------------------------

# What libuv abort()s for once in the life of a process, unless its trial of the same call is refused already.
UNANSWERABLE = {("pipe2", 2)}
# A lock that could not be taken may be somebody else's: its file stays.
LEAVES_LOCK = ("fcntl",)


def start(directory, faults):
    """(whether it answered, exit status, what it said) of a coracle that is ended when it answers."""
    path = directory / "api.sock"
    argv = [BINARY, "--api-socket", f"path={path}", "--event-monitor", f"path={directory / 'events'}"]
    process = subprocess.Popen(
        argv, env=environment(faults), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )

    def answers():
        with contextlib.suppress(OSError, EOFError), RawClient(str(path), 5) as client:
            return client.request("GET", "/api/v1/vmm.ping").status == 200
        return False

    try:
        wait_until(lambda: process.poll() is not None or answers(), 10, 0.002)
        up = process.poll() is None
        faults.disarm()
        if up:
            process.send_signal(signal.SIGTERM)
        return up, process.wait(10), process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("call", calls())
def test_any_call_may_fail_at_the_start(tmp_path, call):
    """The API answers all the same, or the process ends with status 1 and a reason."""
    faults = Faults()
    nth, wrong = 1, []
    try:
        while True:
            if (call, nth) in UNANSWERABLE:
                nth += 1
                continue
            faults.arm(call, nth)
            up, status, said = start(tmp_path, faults)
            left = {entry.name for entry in tmp_path.iterdir()} - {"events"}
            if call in LEAVES_LOCK:
                left -= {"api.sock.lock"}
            if status != (0 if up else 1) or left or not (up or re.search("coracle: .{10}", said)):
                wrong.append(f"{call} {nth} ({faults.describe()}): {up} {status} {said!r} {left}")
            for entry in tmp_path.iterdir():
                entry.unlink()
            if not faults.failed:
                break
            # Capabilities are given up by one call each.
            nth += 7 if call == "prctl" else step_of(call)
    finally:
        faults.close()
    assert not wrong, "\n".join(wrong)


# --- a tap that coracle makes -----------------------------------------------------------------------------------------


@tiny.needs_kvm
@pytest.mark.skipif(not is_root, reason="makes taps")
@pytest.mark.parametrize("call", ["openat", "ioctl", "socket", "bind", "sendto", "sendmsg", "recvmsg", "recvfrom", "fcntl"])
def test_any_call_may_fail_while_a_tap_is_made(tmp_path, call):
    """It is made by the first boot of a process, which has the capability: a process for each point."""
    net = {"tap": "made0", "ip": "10.9.1.1", "mask": "255.255.255.0", "mtu": 1400, "host_mac": "52:54:00:00:00:01"}
    serial = tmp_path / "serial"
    seen = collections.Counter()
    with network_namespace():
        nth = 1
        while True:
            with FaultyCoracle() as vmm, vmm.connect() as client:
                vmm.put("vm.create", tiny.config(serial=serial, net=[net]))
                client.request("GET", "/api/v1/vmm.ping")
                with vmm.faults.armed(call, nth, thread="boot"):
                    answer = client.request("PUT", "/api/v1/vm.boot")
                failed = vmm.faults.failed
                seen[answer.status] += 1
                if answer.status == 500:
                    assert len(" ".join(answer.json())) > 40, (vmm.faults.describe(), answer)
                    assert vmm.state() == "Created"
                    # Of what the attempt made nothing is left.
                    assert tap_is_gone("made0") or "made0" not in " ".join(answer.json()), vmm.faults.describe()
                    vmm.put("vm.boot")
                else:
                    assert answer.status == 204, (vmm.faults.describe(), answer)
                tiny.wait_ready(serial)
                vmm.put("vm.delete")
                assert tap_is_gone("made0")
            if not failed:
                break
            nth += 1
    assert seen[204] >= 1


def tap_is_gone(name):
    with open("/proc/thread-self/net/dev") as devices:
        return f"{name}:" not in devices.read()
