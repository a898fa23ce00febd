# SPDX-License-Identifier: Apache-2.0
"""What a VMM has used up so far: CPU time by thread, exits, system calls."""

import ctypes
import os
import struct
import subprocess
import time

TRACEFS = "/sys/kernel/tracing"
PERF_EVENT_OPEN = 298  # x86-64
PERF_TYPE_TRACEPOINT = 2
PERF_FLAG_FD_CLOEXEC = 8


def process_cpu_ns(pid):
    """User and system time of all threads, also of those that have ended."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def is_vcpu(name):
    return name.startswith("vcpu") or name.startswith("CPU ")


class Sample:
    """One moment of a process. QEMU names its threads only when told (-name x,debug-threads=on)."""

    def __init__(self, pid):
        self.time_ns = time.monotonic_ns()
        self.cpu_ns = process_cpu_ns(pid)
        self.vcpu_ns = 0
        self.threads = {}
        for tid in os.listdir(f"/proc/{pid}/task"):
            try:
                self.add_thread(f"/proc/{pid}/task/{tid}")
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has ended meanwhile

    def add_thread(self, path):
        with open(f"{path}/schedstat") as file:
            ran_ns = int(file.read().split()[0])
        with open(f"{path}/comm") as file:
            name = file.read().strip()
        self.threads[name] = self.threads.get(name, 0) + ran_ns
        if is_vcpu(name):
            self.vcpu_ns += ran_ns


class Account:
    """What was used up between two samples. vmm_ns: by all threads but those of vCPUs, whose time in the guest the kernel
    tells in ticks only."""

    def __init__(self, begin, end):
        self.wall_ns = end.time_ns - begin.time_ns
        self.vmm_ns = (end.cpu_ns - begin.cpu_ns) - (end.vcpu_ns - begin.vcpu_ns)
        self.threads = {k: v - begin.threads.get(k, 0) for k, v in end.threads.items()}


# --- events -----------------------------------------------------------------------------------------------------------


class Counter:
    """How often a trace point is passed by some threads from now on. OSError where the kernel does not let us count.
    Counting slows down what is counted: not for runs whose time is taken."""

    def __init__(self, event, tids):
        self.fds = []
        with open(f"{TRACEFS}/events/{event}/id") as file:
            number = int(file.read())
        # struct perf_event_attr as of its first version, 64 bytes: type, size, config, and nothing else.
        attr = struct.pack("IIQ", PERF_TYPE_TRACEPOINT, 64, number).ljust(64, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        for tid in tids:
            fd = libc.syscall(PERF_EVENT_OPEN, attr, tid, -1, -1, ctypes.c_ulong(PERF_FLAG_FD_CLOEXEC))
            if fd < 0:
                self.close()
                raise OSError(ctypes.get_errno(), f"cannot count {event}: {os.strerror(ctypes.get_errno())}")
            self.fds.append(fd)

    def read(self):
        return sum(struct.unpack("Q", os.read(fd, 8))[0] for fd in self.fds)

    def close(self):
        while self.fds:
            os.close(self.fds.pop())


class Events:
    """Exits of the vCPUs, those of them that reach the VMM, and system calls of its other threads."""

    def __init__(self, pid):
        mount_tracefs()
        names = {int(tid): read_name(pid, tid) for tid in os.listdir(f"/proc/{pid}/task")}
        vcpus = [tid for tid, name in names.items() if is_vcpu(name)]
        others = [tid for tid, name in names.items() if not is_vcpu(name) and not name.startswith("kvm-")]
        self.counters = {
            "kvm_exit": Counter("kvm/kvm_exit", vcpus),
            "emulated": Counter("kvm/kvm_emulate_insn", vcpus),
            "exits to the VMM": Counter("kvm/kvm_userspace_exit", vcpus),
            "system calls": Counter("raw_syscalls/sys_enter", others),
        }

    def finish(self):
        seen = {name: counter.read() for name, counter in self.counters.items()}
        for counter in self.counters.values():
            counter.close()
        # Not every KVM has the first one; what devices cost is all emulated instructions.
        exits, emulated = seen.pop("kvm_exit"), seen.pop("emulated")
        return {"exits": exits or emulated, **seen}


def read_name(pid, tid):
    with open(f"/proc/{pid}/task/{tid}/comm") as file:
        return file.read().strip()


def mount_tracefs():
    if not os.path.exists(f"{TRACEFS}/events"):
        subprocess.run(["mount", "-t", "tracefs", "none", TRACEFS], check=False, stderr=subprocess.DEVNULL)
