# SPDX-License-Identifier: Apache-2.0
"""What a guest's terminals are connected to: the serial port and virtio-console in each mode, the debug console."""

import contextlib
import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import struct
import termios
import tty

import pytest
import tiny
from coracle import Coracle, wait_until
from guest.console import Console
from guest_vm import READY_S, GuestVm, guest_config

pytestmark = pytest.mark.guest

# On which terminal the guest takes commands.
AGENT = {"serial": "coracle.agent=ttyS0", "console": "coracle.agent=hvc0"}


@contextlib.contextmanager
def terminal():
    """A pseudo-terminal: (master, slave)."""
    master, slave = pty.openpty()
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


def talk(console):
    """Both ways, and more than any buffer on the way holds."""
    console.ready(READY_S)
    assert console.check("echo $((6 * 7))") == "42"
    lines = console.check("seq 1 1000", 120).split()
    assert lines == [str(n) for n in range(1, 1001)]
    word = "x" * 3000
    assert console.check(f"echo {word} | wc -c") == "3001"


def start(device, mode, other="Off", **more):
    """A VM with its terminal of `device` in a mode (an object of VmConfig), the other device in mode `other`."""
    vm = GuestVm(create=False, vmm=more.pop("vmm", None))
    config = {"serial": {"mode": other}, "console": {"mode": other}, "cmdline": AGENT[device], **more}
    config[device] = mode
    try:
        vm.put("vm.create", guest_config(**config))
    except BaseException:
        print(vm.log())
        vm.close()
        raise
    return vm


# --- one terminal at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", AGENT)
def test_socket(device, tmp_path):
    path = str(tmp_path / "terminal")
    with start(device, {"mode": "Socket", "socket": path}) as vm:
        vm.connect_serial(path)
        vm.put("vm.boot")
        talk(vm.console)
        # Another client finds what was said before it came, and goes on.
        vm.guest("echo said be''fore; sleep 1 &")
        vm.connect_serial(path)
        vm.console.expect(rb"said before", 10)
        vm.console.expect(rb"CORACLE-RC 0", 10)
        vm.guest("true")
        vm.put("vmm.shutdown")
        assert vm.wait() == 0
        assert not os.path.exists(path)


@pytest.mark.parametrize("device", AGENT)
def test_pty(device):
    with start(device, {"mode": "Pty"}) as vm:
        path = vm.info()["config"][device]["file"]
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(fd)
            console = Console(fd)
            vm.put("vm.boot")
            talk(console)
            # The same terminal serves the next life.
            vm.put("vm.reboot")
            assert vm.info()["config"][device]["file"] == path
            console.ready(READY_S)
            assert console.check("echo again") == "again"
        finally:
            os.close(fd)


@pytest.mark.parametrize("device", AGENT)
def test_tty(device):
    """On the terminal that coracle was started on, which it leaves as it found it."""
    with terminal() as (master, slave):
        found = termios.tcgetattr(slave)
        with start(device, {"mode": "Tty"}, vmm={"stdin": slave, "stdout": slave}) as vm:
            vm.put("vm.boot")
            console = Console(master)
            talk(console)
            assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON)
            console.send("poweroff -f")
            assert vm.wait(30) == 3
            assert termios.tcgetattr(slave) == found


@pytest.mark.parametrize("device", AGENT)
def test_file_takes_what_the_guest_says(device, tmp_path):
    path = tmp_path / "log"
    path.write_text("old contents that are longer than nothing")
    # "seq 1 3"
    cmdline = f"{AGENT[device]} coracle.run=c2VxIDEgMw== coracle.poweroff"
    with start(device, {"mode": "File", "file": str(path)}, cmdline=cmdline) as vm:
        vm.put("vm.boot")
        assert vm.wait(READY_S) == 3
        text = path.read_text()
        assert "old contents" not in text
        assert re.search(r"CORACLE-GUEST-READY .*\n1\n2\n3\nCORACLE-RC 0\n", text)


@pytest.mark.parametrize("mode", ["Off", "Null"])
def test_without_any_terminal(mode):
    with start("serial", {"mode": mode}, mode) as vm:
        vm.put("vm.boot")
        tree = vm.info()["device_tree"]
        assert ("__serial" in tree, "__console" in tree) == (mode == "Null",) * 2
        # The guest is up once it obeys its power button.
        press_until_off(vm)


def press_until_off(vm):
    """Nobody says when the guest is ready to be told: presses its power button until it has gone off."""

    def gone():
        if vm.process.poll() is None:
            with contextlib.suppress(OSError, EOFError):
                vm.api("PUT", "vm.power-button")
        return vm.process.poll() is not None

    wait_until(gone, READY_S, 0.5)
    assert vm.wait() == 3


# --- both at once -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A guest with its agent on a serial socket, and a console on a terminal."""
    path = str(tmp_path_factory.mktemp("consoles") / "serial")
    with terminal() as (master, slave):
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
        vmm = {"stdin": slave, "stdout": slave}
        serial = {"mode": "Socket", "socket": path}
        with start("serial", serial, console={"mode": "Tty"}, vmm=vmm) as vm:
            vm.connect_serial(path)
            vm.up()
            vm.master, vm.slave = master, slave
            yield vm


def read_from(fd, pattern):
    return Console(fd).expect(pattern, 30)


# Every command opens hvc0 for itself, and it forgets its settings when nobody has it open.
HVC0 = "exec 3<>/dev/hvc0; stty raw -echo <&3"


def test_console_beside_the_serial_port(both):
    both.guest("echo from the gu''est >/dev/hvc0")
    read_from(both.master, rb"from the guest")
    both.console.send(f"{HVC0}; echo liste''ning >&3; head -n 1 <&3")
    read_from(both.master, rb"listening")
    os.write(both.master, b"from the host\n")
    assert b"from the host" in both.console.expect(rb"((?:.|\n)*)CORACLE-RC 0", 30)[1]


def test_input_waits_until_the_guest_reads(both):
    """Far more than the device's queue holds, none of it lost."""
    text = b"".join(b"%07d\n" % n for n in range(4000))
    both.console.send(f"{HVC0}; sleep 1; timeout 60 head -c {len(text)} <&3 >/run/in; wc -c </run/in; md5sum </run/in")
    wanted = hashlib.md5(text).hexdigest()
    length = len(text)
    while text:
        text = text[os.write(both.master, text[:1000]) :]
    answer = both.console.expect(rb"((?:.|\n)*)CORACLE-RC 0", 90)[1].split()
    assert (int(answer[0]), answer[1].decode()) == (length, wanted)


def test_console_has_the_size_of_the_terminal(both):
    assert both.guest("stty -F /dev/hvc0 size") == "33 101"
    fcntl.ioctl(both.slave, termios.TIOCSWINSZ, struct.pack("4H", 44, 132, 0, 0))
    os.kill(both.pid, signal.SIGWINCH)
    wait_until(lambda: both.guest("stty -F /dev/hvc0 size") == "44 132", 10)


@pytest.mark.parametrize("mode", ["Off", "Null", "File", "Pty", "Tty"])
def test_debug_console_and_debug_port(mode, tmp_path):
    """Linux has no port to write to for a shell; the guest of a few hundred instructions has."""
    path = tmp_path / "debug"
    debug = {"mode": mode, "file": str(path)} if mode == "File" else {"mode": mode}
    with terminal() as (master, slave), Coracle(stdin=slave, stdout=slave) as vmm:
        vmm.put("vm.create", tiny.config("debug ready debug", str(tmp_path / "serial"), debug_console=debug))
        fd = master
        if mode == "Pty":
            fd = os.open(vmm.info()["config"]["debug_console"]["file"], os.O_RDWR | os.O_NOCTTY)
            tty.setraw(fd)
        vmm.put("vm.boot")
        tiny.wait_ready(tmp_path / "serial")
        assert "__debug_console" in vmm.info()["device_tree"] or mode == "Off"
        wait_until(lambda: vmm.log().count("code 0x41]") == 2, 10)
        if mode == "File":
            wait_until(lambda: path.read_text() == "debug\n" * 2, 10)
        elif mode in ("Pty", "Tty"):
            Console(fd).expect(rb"debug\r?\ndebug\r?\n", 10)


def test_reader_that_does_not_read_holds_up_nobody(both):
    """The terminal's other end takes nothing; the guest writes on, and what was too much is dropped."""
    both.guest(f"{HVC0}; timeout 60 head -c 2000000 /dev/zero >&3", 90)
    both.ping()
    while select.select([both.master], [], [], 0.5)[0]:
        os.read(both.master, 65536)
    both.guest("echo still he''re >/dev/hvc0")
    read_from(both.master, rb"still here")
