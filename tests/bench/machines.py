# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured, started with sockets that they inherit, so that nobody waits for a file to appear."""

import json
import os
import platform
import shutil
import signal
import socket
import tempfile
import time

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Where the programs are that are measured, and the results go.
BUILD = os.environ.get("BENCH_BUILD") or os.path.join(CHECKOUT, "build")
CORACLE = os.path.join(BUILD, "coracle")
GUEST = os.path.join(BUILD, "guest", "pvh", "tiny.elf")
QEMU = shutil.which("qemu-system-x86_64")
# Not every KVM lets QEMU set the MSR that this feature stands for.
QEMU_CPU = "host,-arch-capabilities"
QEMU_MACHINE = "microvm,pcie=on,acpi=on,rtc=on,isa-serial=on"
MEMORY_MIB = 128


def describe_host():
    with open("/proc/cpuinfo") as file:
        lines = file.read().split("\n")
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "?")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    kvm = "emulated host" if os.environ.get("KVMHOST") == "emulated" else "this machine"
    hardware = "vmx" in flags or "svm" in flags
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{model}, {os.cpu_count()} CPUs",
        "kernel": platform.release(),
        "kvm": kvm + ("" if hardware else ", no vmx or svm: what a guest does in CPL 0 is emulated"),
        "load": "%.2f %.2f %.2f" % os.getloadavg(),
    }


class Process:
    """A program with a scratch directory and sockets. spawned_ns: when it was about to be started."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="bench-")
        self.pid = None
        self.sockets = []
        self.listeners = []

    def listen(self, name):
        """A listening socket for the program to inherit, and a client that is connected to it already."""
        path = os.path.join(self.directory, name)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(128)
        listener.set_inheritable(True)
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.settimeout(10)
        self.sockets.append(client)
        self.listeners.append(listener)
        return listener, client

    def spawn(self, argv):
        null = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in range(3)]
        self.spawned_ns = time.monotonic_ns()
        self.pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
        os.close(null)
        # A program that ends at once must not leave its clients waiting for an answer.
        for listener in self.listeners:
            listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.sockets:
            s.close()
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(self.pid, 0)
        shutil.rmtree(self.directory, ignore_errors=True)

    def us_since_spawn(self):
        return (time.monotonic_ns() - self.spawned_ns) / 1e3

    def memory_kib(self):
        """RSS and USS in KiB without guest memory, USS by what it is."""
        rss = uss = 0
        parts = {}
        name, size = "", 0
        with open(f"/proc/{self.pid}/smaps") as file:
            for line in file:
                words = line.split()
                if "-" in words[0] and not words[0].endswith(":"):
                    name = words[5] if len(words) > 5 else "anonymous"
                elif words[0] == "Size:":
                    size = int(words[1])
                elif size >= MEMORY_MIB * 1024:
                    continue
                elif words[0] == "Rss:":
                    rss += int(words[1])
                elif words[0] in ("Private_Clean:", "Private_Dirty:"):
                    uss += int(words[1])
                    parts[kind_of(name)] = parts.get(kind_of(name), 0) + int(words[1])
        return rss, uss, {k: v for k, v in sorted(parts.items(), key=lambda p: -p[1]) if v}


def kind_of(name):
    if name.startswith("["):
        return name.strip("[]").split(":")[0]
    if name.startswith("anon_inode") or name == "anonymous":
        return name.split(":")[0]
    return "libraries" if ".so" in name else "program" if os.access(name, os.X_OK) else "other files"


class Coracle(Process):
    """With its API on `api`, a connected client."""

    def __init__(self, *args):
        super().__init__()
        listener, self.api = self.listen("api.sock")
        self.path = os.path.join(self.directory, "api.sock")
        self.spawn([CORACLE, "--api-socket", f"fd={listener.fileno()}", *args])

    def ask(self, method, verb, body=None, client=None):
        """(status, decoded answer); raises RuntimeError for an error."""
        client = client or self.api
        text = json.dumps(body) if body is not None else ""
        length = f"Content-Length: {len(text)}\r\n" if text else ""
        client.sendall(f"{method} /api/v1/{verb} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{text}".encode())
        return read_answer(client, verb)

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.settimeout(60)
        self.sockets.append(client)
        return client

    def config(self, **more):
        """A VM with 1 vCPU whose serial line is a socket."""
        return {
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
            "memory": {"size": MEMORY_MIB << 20},
            "payload": {"kernel": GUEST, "cmdline": "ready"},
            "serial": {"mode": "Socket", "socket": os.path.join(self.directory, "serial")},
            "console": {"mode": "Off"},
            **more,
        }

    def serial(self):
        line = socket.socket(socket.AF_UNIX)
        line.connect(os.path.join(self.directory, "serial"))
        line.settimeout(10)
        self.sockets.append(line)
        return line


def read_answer(client, what):
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(client)
    head, body = data.split(b"\r\n\r\n", 1)
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += receive(client)
    status = int(head.split()[1])
    if status >= 300:
        raise RuntimeError(f"{what}: {status} {body.decode('utf-8', 'replace')}")
    return status, json.loads(body) if body else None


def receive(client):
    data = client.recv(65536)
    if not data:
        raise EOFError("the other end has closed")
    return data


class Qemu(Process):
    """microvm with the same guest; `qmp` and `line` are connected clients of its monitor and its serial line."""

    def __init__(self, *args, kernel=GUEST, append="ready"):
        super().__init__()
        monitor, self.qmp = self.listen("qmp.sock")
        serial, self.line = self.listen("serial.sock")
        self.spawn([
            QEMU, "-M", QEMU_MACHINE, "-accel", "kvm", "-cpu", QEMU_CPU,
            "-m", str(MEMORY_MIB), "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none",
            "-chardev", f"socket,id=m,fd={monitor.fileno()},server=on,wait=off", "-mon", "chardev=m,mode=control",
            "-chardev", f"socket,id=s,fd={serial.fileno()},server=on,wait=off", "-serial", "chardev:s",
            "-kernel", kernel, "-append", append, *args,
        ])  # fmt: skip
