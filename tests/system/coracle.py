# SPDX-License-Identifier: Apache-2.0
"""One running coracle process, as an orchestrator sees it: a listener that it inherits, requests, events, its end."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from http_client import EventStream, RawClient

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("CORACLE_BIN") or os.path.join(CHECKOUT, "build", "coracle")


def _sanitizer():
    try:
        with open(BINARY, "rb") as file:
            found = re.search(rb"lib([at]san)\.so", file.read())
    except FileNotFoundError:
        found = None
    return found and found[1].decode()


# What BINARY was built with: "asan" or "tsan", else None.
SANITIZER = _sanitizer()


class ApiError(Exception):
    """A request was answered by an error. status, messages (outermost first)."""

    def __init__(self, what, response):
        self.status = response.status
        self.messages = response.json() if response.body else []
        super().__init__(f"{what}: {self.status} {self.messages}")


class Coracle:
    """Starts BINARY with an inherited API socket. Use as a context manager, or call close().

    args: more command-line arguments. event_monitor: None, or the value of --event-monitor. pass_fds: descriptors that
    the process inherits besides. stdin, stdout, stderr: as for subprocess.Popen; stderr goes to the file `log_path`
    unless given. backlog: of the listening socket.

    Attributes: pid, process (Popen), socket_path, directory (scratch, removed by close()).
    """

    def __init__(self, *args, event_monitor=None, pass_fds=(), binary=BINARY, backlog=128, **popen):
        self.directory = tempfile.mkdtemp(prefix="coracle-")
        self.socket_path = os.path.join(self.directory, "api.sock")
        self.log_path = os.path.join(self.directory, "log")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.socket_path)
        listener.listen(backlog)
        argv = [binary, "--api-socket", f"fd={listener.fileno()}", "-vv", *args]
        if event_monitor is not None:
            argv += ["--event-monitor", event_monitor]
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.DEVNULL)
        log = open(self.log_path, "ab")
        popen.setdefault("stderr", log)
        self.process = subprocess.Popen(argv, pass_fds=(listener.fileno(), *pass_fds), **popen)
        log.close()
        listener.close()
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(f"--- log of coracle {self.pid} ---\n{self.log()[-20000:]}")
        self.close()

    def close(self):
        """Ends the process, gently first, and removes the scratch directory. Returns the exit status. Raises
        AssertionError if a sanitizer had something to say."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        report = re.search(r"^.*(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: )", self.log(), re.MULTILINE)
        log = self.log()[report.start() :] if report else None
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not report, log
        return self.process.returncode

    # --- requests -----------------------------------------------------------------------------------------------------

    def connect(self, timeout=30):
        """A new connection on which bytes are written and read as they are."""
        return RawClient(self.socket_path, timeout)

    def api(self, method, name, body=None, fds=(), timeout=60):
        """Sends one request on a connection of its own. Returns the Response, whatever its status."""
        with self.connect(timeout) as client:
            return client.request(method, f"/api/v1/{name}", body, fds)

    def _checked(self, method, name, body, fds, timeout):
        response = self.api(method, name, body, fds, timeout)
        if response.status not in (200, 204):
            raise ApiError(name, response)
        return response.json() if response.body else None

    def get(self, name, timeout=60):
        """The decoded answer. Raises ApiError."""
        return self._checked("GET", name, None, (), timeout)

    def put(self, name, body=None, fds=(), timeout=60):
        """The decoded answer, None for 204. Raises ApiError."""
        return self._checked("PUT", name, body, fds, timeout)

    def ping(self):
        return self.get("vmm.ping")

    def info(self):
        return self.get("vm.info")

    def state(self):
        """State of the VM; None when there is none."""
        response = self.api("GET", "vm.info")
        return None if response.status == 404 else response.json()["state"]

    def events(self, last_event_id=None, timeout=30):
        """The event stream."""
        return EventStream(self.socket_path, last_event_id, timeout)

    # --- the process --------------------------------------------------------------------------------------------------

    def wait(self, timeout=30):
        """Waits for the process's end. Returns its exit status (negative: the signal)."""
        return self.process.wait(timeout)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        return self.process.wait()

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def fds(self):
        """Open descriptors: {number: what it is}."""
        directory = f"/proc/{self.pid}/fd"
        found = {}
        for name in os.listdir(directory):
            try:
                found[int(name)] = os.readlink(f"{directory}/{name}")
            except FileNotFoundError:
                pass
        return found

    def fds_at_rest(self):
        """The same, once it has seen the end of every connection: of sockets, only the listener is left."""

        def at_rest():
            fds = self.fds()
            return sum(what.startswith("socket:") for what in fds.values()) <= 1 and fds

        return wait_until(at_rest)

    def threads(self):
        """Names of the threads, sorted, but for ThreadSanitizer's own, which has none, and the one that KVM starts when a
        guest first runs."""
        directory = f"/proc/{self.pid}/task"
        nameless = SANITIZER == "tsan"
        names = []
        for task in os.listdir(directory):
            try:
                with open(f"{directory}/{task}/comm") as file:
                    name = file.read().strip()
            except FileNotFoundError:
                continue
            if name.startswith("kvm-nx-lpage"):
                continue
            if not (nameless and name == "coracle" and int(task) != self.pid):
                names.append(name)
        return sorted(names)

    def is_sanitized(self):
        """Whether it is a build with a sanitizer that keeps memory of its own, and freed memory for a while."""
        return SANITIZER is not None

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def wait_until(condition, timeout=30, interval=0.02):
    """Calls condition() until it gives something true, which is returned. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true")
        time.sleep(interval)


# A VM that is never booted: only what vm.create needs, and no console that would want a terminal.
MINIMAL_CONFIG = {
    "cpus": {"boot_vcpus": 4, "max_vcpus": 4},
    "payload": {"kernel": "/nonexistent/vmlinux"},
    "serial": {"mode": "Off"},
    "console": {"mode": "Off"},
}
