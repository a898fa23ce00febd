# SPDX-License-Identifier: Apache-2.0
"""The process itself: its command line, its API socket, its signals, its end. None of this needs KVM."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import stat
import struct
import subprocess
import sys

import pytest

from coracle import BINARY, MINIMAL_CONFIG, Coracle, wait_until
from http_client import RawClient

CTL = os.environ.get("CORACLECTL_BIN") or os.path.join(os.path.dirname(BINARY), "coraclectl")
VMM_EVENTS = ("vmm:starting", "vmm:shutdown")


def run(*args, **kwargs):
    """Runs coracle to its end."""
    return subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, **kwargs)


class Served:
    """A coracle that makes its own socket at `path`."""

    def __init__(self, path, *args, **popen):
        self.path = str(path)
        argv = [BINARY, "--api-socket", f"path={self.path}", *args]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **popen)

    def __enter__(self):
        wait_until(lambda: self.process.poll() is not None or self.answers())
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def answers(self):
        try:
            with RawClient(self.path) as client:
                return client.request("GET", "/api/v1/vmm.ping").status == 200
        except (ConnectionRefusedError, FileNotFoundError):
            return False

    def end(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        return self.process.wait(10)


def listener(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(8)
    return sock


# --- command line -----------------------------------------------------------------------------------------------------


def test_version_begins_as_libvirt_needs_it():
    result = run("--version", env={"LC_ALL": "C"})
    assert result.returncode == 0
    match = re.match(r"cloud-hypervisor v(\d+)\.(\d+)", result.stdout)
    assert match and (int(match[1]), int(match[2])) >= (51, 0)
    assert "coracle" in result.stdout.splitlines()[0]
    assert run("-V").stdout == result.stdout


def test_help_names_what_there_is():
    result = run("--help")
    assert result.returncode == 0
    for option in ("--api-socket", "--event-monitor", "--kernel", "--disk", "--net", "--seccomp", "--no-shutdown"):
        assert option in result.stdout
    assert "readonly=" in run("--help", "disk").stdout
    assert run("--help", "nonsense").returncode == 1


@pytest.mark.parametrize(
    "args, words",
    [
        ((), "--api-socket"),
        (("--bogus",), "--bogus"),
        (("--restore", "source_url=file:///x"), "--restore"),
        (("--api-socket", "fd=x"), "fd=x"),
        (("--api-socket", ""), "--api-socket"),
        (("--api-socket", "/nonexistent/api.sock"), "/nonexistent/api.sock"),
        (("--api-socket", "/tmp/" + "x" * 103), "107 bytes"),
        (("--cpus", "boot=1"), "--kernel"),
        (("--kernel", "/x", "--disk", "nonsense=1"), "nonsense"),
        (("--seccomp", "perhaps", "--kernel", "/x"), "perhaps"),
        (("--log-format", "{msg}", "--kernel", "/x"), "templates"),
        (("--log-file", "/nonexistent/log", "--kernel", "/x"), "/nonexistent/log"),
        (("--event-monitor", "path=/nonexistent/fifo", "--kernel", "/x"), "/nonexistent/fifo"),
        (("--event-monitor", "fd=999", "--kernel", "/x"), "999"),
        (("stray",), "stray"),
    ],
)
def test_mistake_is_told_on_stderr_and_ends_with_1(args, words):
    result = run(*args)
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stdout == ""


def test_kernel_that_is_not_there_ends_with_1_and_is_named():
    result = run("--kernel", "/nonexistent/vmlinux", "--console", "off", "--serial", "null")
    assert result.returncode == 1
    assert "/nonexistent/vmlinux" in result.stderr or "/dev/kvm" in result.stderr


def test_json_log_is_one_object_a_line(tmp_path):
    log = tmp_path / "log"
    with Served(tmp_path / "api.sock", "-v", "--log-format", "json", "--log-file", str(log)) as served:
        assert served.end() == 0
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = log.read_text().splitlines()
    assert lines and all(isinstance(json.loads(line), dict) for line in lines)


def test_no_library_is_shared_but_the_c_library(vmm):
    """Each more is paid for at every start, and in the memory of every process."""
    if vmm.is_sanitized():
        pytest.skip("a sanitizer brings libraries of its own")
    with open(f"/proc/{vmm.pid}/maps") as file:
        mapped = {os.path.basename(path) for path in re.findall(r"\S+\.so\S*", file.read())}
    assert mapped == {"libc.so.6", "ld-linux-x86-64.so.2"}


# --- a socket of our own ----------------------------------------------------------------------------------------------


def test_own_socket_is_0600_and_gone_after_the_end(tmp_path):
    path = tmp_path / "api.sock"
    with Served(path) as served:
        assert stat.S_ISSOCK(path.stat().st_mode) and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "api.sock.lock").stat().st_mode) == 0o600
        assert served.end() == 0
    assert not list(tmp_path.iterdir())


def test_bare_path_works_too(tmp_path):
    path = tmp_path / "api.sock"
    process = subprocess.Popen([BINARY, "--api-socket", str(path)], stdin=subprocess.DEVNULL)
    try:
        wait_until(path.exists)
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_socket_left_by_a_killed_process_is_replaced(tmp_path):
    path = tmp_path / "api.sock"
    with Served(path) as first:
        first.end(signal.SIGKILL)
    assert path.exists()
    with Served(path) as second:
        assert second.answers()
        assert second.end() == 0


def test_path_that_another_process_serves_is_refused(tmp_path):
    path = tmp_path / "api.sock"
    with Served(path) as first:
        result = run("--api-socket", str(path))
        assert result.returncode == 1
        assert "locked by another process" in result.stderr
        assert first.answers()


def test_lock_of_any_process_is_respected(tmp_path):
    path = tmp_path / "api.sock"
    lock_file = tmp_path / "api.sock.lock"
    with open(lock_file, "w") as lock:
        # struct flock: l_type, l_whence, l_start, l_len, l_pid
        fcntl.fcntl(lock, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
        result = run("--api-socket", str(path))
    assert result.returncode == 1
    assert str(lock_file) in result.stderr


def test_file_at_the_path_is_not_removed(tmp_path):
    path = tmp_path / "api.sock"
    path.write_text("precious")
    result = run("--api-socket", str(path))
    assert result.returncode == 1
    assert "not a socket" in result.stderr
    assert path.read_text() == "precious"


# --- an inherited socket ----------------------------------------------------------------------------------------------


def test_inherited_socket_stays_after_the_end():
    with Coracle() as vmm:
        vmm.ping()
        vmm.put("vmm.shutdown")
        assert vmm.wait() == 0
        assert stat.S_ISSOCK(os.stat(vmm.socket_path).st_mode)


def test_inherited_socket_can_be_served_again_by_its_owner(tmp_path):
    with listener(tmp_path / "api.sock") as sock:
        for _ in range(2):
            process = subprocess.Popen(
                [BINARY, "--api-socket", f"fd={sock.fileno()}"], stdin=subprocess.DEVNULL, pass_fds=(sock.fileno(),)
            )
            with RawClient(str(tmp_path / "api.sock")) as client:
                assert client.request("GET", "/api/v1/vmm.ping").json()["pid"] == process.pid
            process.terminate()
            assert process.wait(10) == 0


def test_fd_that_is_no_listening_unix_socket_is_explained(tmp_path):
    with open("/dev/null") as file, socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_INET) as inet:
        inet.listen()
        for fd, words in ((file.fileno(), "not a socket"), (idle.fileno(), "not listening"), (inet.fileno(), "AF_UNIX")):
            result = run("--api-socket", f"fd={fd}", pass_fds=(fd,))
            assert result.returncode == 1
            assert words in result.stderr
    result = run("--api-socket", "fd=200")
    assert result.returncode == 1 and "not open" in result.stderr


# Becomes coracle with descriptors from 3 on, as a service manager starts it.
ACTIVATE = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
saved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for i, fd in enumerate(saved):
    os.dup2(fd, 3 + i, inheritable=True)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


def activated(socks, names, *args):
    fds = [sock.fileno() for sock in socks]
    argv = [sys.executable, "-c", ACTIVATE, ",".join(map(str, fds)), names, BINARY, *args]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=fds)


@pytest.mark.parametrize("args", [(), ("--api-socket", "fd=activation"), ("--api-socket", "fd=activation:api")])
def test_activation_socket_is_served(tmp_path, args):
    with listener(tmp_path / "api.sock") as sock:
        process = activated([sock], "api", *args)
        with RawClient(str(tmp_path / "api.sock")) as client:
            assert client.request("GET", "/api/v1/vmm.ping").json()["pid"] == process.pid
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0
    assert (tmp_path / "api.sock").exists()


def test_activation_picks_the_socket_by_name(tmp_path):
    with listener(tmp_path / "other.sock") as other, listener(tmp_path / "api.sock") as sock:
        process = activated([other, sock], "metrics:api", "--api-socket", "fd=activation:api")
        with RawClient(str(tmp_path / "api.sock")) as client:
            assert client.request("GET", "/api/v1/vmm.ping").status == 200
        process.terminate()
        process.communicate(timeout=10)


def test_activation_with_several_sockets_wants_a_name(tmp_path):
    with listener(tmp_path / "a.sock") as a, listener(tmp_path / "b.sock") as b:
        process = activated([a, b], "a:b")
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 1 and "fd=activation:NAME" in stderr
        process = activated([a, b], "a:b", "--api-socket", "fd=activation:c")
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 1 and "named c" in stderr


def test_activation_without_sockets_is_explained():
    result = run("--api-socket", "fd=activation")
    assert result.returncode == 1 and "LISTEN_FDS" in result.stderr


def test_service_manager_hears_ready_and_stopping(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        with Coracle(env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as vmm:
            assert manager.recv(4096).decode().startswith("READY=1")
            vmm.ping()
            vmm.put("vmm.shutdown")
            assert manager.recv(4096).decode().startswith("STOPPING=1")
            assert vmm.wait() == 0


# --- the end ----------------------------------------------------------------------------------------------------------


def names_to_the_end(events):
    names = []
    while True:
        try:
            names.append(events.next().name)
        except EOFError:
            return names


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_in_order_with_0(vmm, signum):
    vmm.put("vm.create", MINIMAL_CONFIG)
    with vmm.events(last_event_id=0) as events:
        os.kill(vmm.pid, signum)
        names = names_to_the_end(events)
    assert [name for name in names if name in VMM_EVENTS] == list(VMM_EVENTS)
    assert names[-1] == "vmm:shutdown"
    assert vmm.wait() == 0


def test_shutdown_by_the_api_is_answered_before_the_end(vmm):
    assert vmm.api("PUT", "vmm.shutdown").status == 204
    assert vmm.wait(3) == 0


def test_nohup_keeps_the_process(tmp_path):
    path = tmp_path / "api.sock"
    process = subprocess.Popen(
        [BINARY, "--api-socket", str(path)],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    try:
        wait_until(path.exists)
        process.send_signal(signal.SIGHUP)
        with RawClient(str(path)) as client:
            assert client.request("GET", "/api/v1/vmm.ping").status == 200
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_waiting_for_the_reader_of_a_fifo_can_be_interrupted(tmp_path):
    os.mkfifo(tmp_path / "events")
    argv = [BINARY, "--api-socket", str(tmp_path / "api.sock"), "--event-monitor", f"path={tmp_path}/events"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert not (tmp_path / "api.sock").exists()
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


def test_standard_streams_that_are_closed_are_not_taken_by_others(tmp_path):
    path = tmp_path / "api.sock"
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$0" --api-socket "$1" <&- >&- 2>&-', BINARY, str(path)], close_fds=True
    )
    try:
        wait_until(path.exists)
        assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    finally:
        process.terminate()
        assert process.wait(10) == 0


# --- the sandbox ------------------------------------------------------------------------------------------------------


def status_field(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(line.split()[1] for line in file if line.startswith(name + ":"))


def test_filters_are_on_by_default(vmm):
    assert status_field(vmm.pid, "Seccomp") == "2"
    assert status_field(vmm.pid, "NoNewPrivs") == "1"


def test_filters_can_be_off():
    with Coracle("--seccomp", "false") as vmm:
        vmm.ping()
        assert status_field(vmm.pid, "Seccomp") == "0"


def test_only_capabilities_that_devices_need_are_kept(vmm):
    needed = {1, 2, 12, 14, 23, 24}  # dac_override, dac_read_search, net_admin, ipc_lock, sys_nice, sys_resource
    effective = int(status_field(vmm.pid, "CapEff"), 16)
    assert {bit for bit in range(64) if effective >> bit & 1} <= needed
    assert int(status_field(vmm.pid, "CapInh"), 16) == 0
    assert int(status_field(vmm.pid, "CapAmb"), 16) == 0


# --- coraclectl -------------------------------------------------------------------------------------------------------


def ctl(vmm, *args, **kwargs):
    argv = [CTL, "--api-socket", vmm.socket_path, *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, **kwargs)


def ctl_on_terminal(vmm, *args):
    """What coraclectl prints to a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([CTL, "--api-socket", vmm.socket_path, *args], stdout=slave)
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.close(master)
    assert process.wait(10) == 0
    return output.decode().replace("\r\n", "\n")


def test_ctl_prints_json_to_a_pipe_and_tables_to_a_terminal(vmm):
    result = ctl(vmm, "ping")
    assert result.returncode == 0
    assert json.loads(result.stdout) == vmm.ping()
    assert f"{vmm.pid}" in ctl_on_terminal(vmm, "ping")
    assert not ctl_on_terminal(vmm, "ping").startswith("{")
    assert json.loads(ctl_on_terminal(vmm, "--json", "ping")) == vmm.ping()


def test_ctl_creates_shows_and_deletes_a_vm(vmm, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(MINIMAL_CONFIG))
    assert ctl(vmm, "create", str(config)).returncode == 0
    assert json.loads(ctl(vmm, "info").stdout)["state"] == "Created"
    assert ctl(vmm, "add-disk", "path=/a b.img,readonly=on").returncode == 0
    assert vmm.info()["config"]["disks"][0]["path"] == "/a b.img"
    assert vmm.info()["config"]["disks"][0]["readonly"] is True
    table = ctl_on_terminal(vmm, "info")
    assert "Created" in table and "/a b.img" in table
    assert ctl(vmm, "delete").returncode == 0
    assert vmm.state() is None
    assert ctl(vmm, "create", input=json.dumps(MINIMAL_CONFIG)).returncode == 0
    assert vmm.state() == "Created"


def test_ctl_tells_the_chain_of_messages_and_ends_with_1(vmm):
    result = ctl(vmm, "info")
    assert result.returncode == 1
    assert "404" in result.stderr and "VM is not created" in result.stderr
    assert ctl(vmm, "create", input="{").returncode == 1
    assert ctl(vmm, "nonsense").returncode == 1
    assert ctl(vmm, "ping", "more").returncode == 1
    assert ctl(vmm, "add-disk").returncode == 1
    assert subprocess.run([CTL, "ping"], capture_output=True).returncode == 1
    assert subprocess.run([CTL, "--api-socket", "/nonexistent", "ping"], capture_output=True).returncode == 1


def test_ctl_lists_events_and_stops_at_the_newest(vmm):
    vmm.put("vm.create", MINIMAL_CONFIG)
    vmm.put("vm.delete")
    events = [json.loads(line) for line in ctl(vmm, "events").stdout.splitlines()]
    assert [(e["source"], e["event"]) for e in events] == [("vmm", "starting"), ("vm", "deleted")]
    rest = ctl(vmm, "events", "--since", "1").stdout.splitlines()
    assert [json.loads(line) for line in rest] == events[1:]
    assert ctl(vmm, "events", "--since", str(len(events))).stdout == ""
    assert "vmm:starting" in ctl_on_terminal(vmm, "events")


def test_ctl_follows_events_to_the_end_of_the_process(vmm):
    argv = [CTL, "--api-socket", vmm.socket_path, "events", "--follow", "--since", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as follower:
        assert json.loads(follower.stdout.readline())["event"] == "starting"
        assert ctl(vmm, "shutdown-vmm").returncode == 0
        assert [json.loads(line)["event"] for line in follower.stdout][-1] == "shutdown"
        assert follower.wait(10) == 0
    assert vmm.wait() == 0
