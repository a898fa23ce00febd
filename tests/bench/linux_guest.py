# SPDX-License-Identifier: Apache-2.0
"""A Linux guest under coracle and under QEMU's microvm, on a KVM host: what both are given alike, and what they cost.

In the emulated host everything that is started or read is copied into memory first: a first read of the machine's tree
is a wait, and in a host whose time is its instructions a wait may last for hours.
"""

import glob
import os
import shutil
import subprocess
import sys
import time

from machines import CHECKOUT, CORACLE, QEMU

sys.path.insert(0, os.path.join(CHECKOUT, "tests"))

from guest.console import Console  # noqa: E402

ROOT = "/run/bench-root"
KERNEL = "/guest/vmlinux"
INITRAMFS = "/guest/initramfs"
# What QEMU reads besides itself, for a microvm.
QEMU_DATA = [
    "/usr/share/qemu/bios-microvm.bin", "/usr/share/seabios/bios-microvm.bin", "/usr/share/qemu/pvh.bin",
    "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/seabios/bios.bin", "/usr/share/qemu/kvmvapic.bin",
]  # fmt: skip
DEBUGFS = "/sys/kernel/debug"


def libraries(program):
    """The shared libraries of a program, its dynamic linker among them."""
    out = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [word for line in out.splitlines() for word in line.split() if word.startswith("/")]


def stage(initramfs):
    """Makes ROOT, a tree in memory with both programs and the guest, and the statistics of KVM readable."""
    if not os.path.ismount(ROOT):
        os.makedirs(ROOT, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3G", "bench", ROOT], check=True)
        for directory in ("dev", "proc", "sys"):
            os.makedirs(f"{ROOT}/{directory}")
            subprocess.run(["mount", "--rbind", f"/{directory}", f"{ROOT}/{directory}"], check=True)
        os.makedirs(f"{ROOT}/tmp")
        for path in {CORACLE, QEMU, *libraries(CORACLE), *libraries(QEMU), *filter(os.path.exists, QEMU_DATA)}:
            copy(path, ROOT + path)
        copy(os.path.join(CHECKOUT, "build", "guest", "vmlinux"), ROOT + KERNEL)
    copy(initramfs, ROOT + INITRAMFS)
    if not os.path.exists(f"{DEBUGFS}/kvm"):
        subprocess.run(["mount", "-t", "debugfs", "debugfs", DEBUGFS], check=True)


def copy(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(source, target)


def coracle(cpus, memory_mib, cmdline, *more):
    return [
        CORACLE, "--kernel", KERNEL, "--initramfs", INITRAMFS, "--cmdline", cmdline, "--cpus", f"boot={cpus}",
        "--memory", f"size={memory_mib}M", "--serial", "tty", "--console", "off", *more,
    ]  # fmt: skip


def microvm(cpus, memory_mib, cmdline, *more, pcie=False):
    """pcie: virtio on PCI, as in coracle, and not on microvm's own virtio-mmio."""
    machine, bus = ("microvm,rtc=on,pcie=on", "pci") if pcie else ("microvm,rtc=on", "device")
    return [
        QEMU, "-M", machine, "-accel", "kvm", "-cpu", "host", "-m", str(memory_mib), "-smp", str(cpus), "-nodefaults",
        "-no-user-config", "-display", "none", "-no-reboot", "-kernel", KERNEL, "-initrd", INITRAMFS,
        "-append", cmdline, "-serial", "stdio", "-device", f"virtio-rng-{bus}", *more,
    ]  # fmt: skip


class LinuxGuest:
    """A VMM whose serial line is its standard input and output: `console` is the guest's terminal."""

    def __init__(self, argv):
        self._before = set(glob.glob(f"{DEBUGFS}/kvm/*-*"))
        told, tell = os.pipe()

        def in_child():
            os.chroot(ROOT)
            os.chdir("/")
            # Not the time that this interpreter takes to fork.
            os.write(tell, b"%d" % time.monotonic_ns())

        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=in_child
        )
        self.spawned_ns = int(os.read(told, 32))
        os.close(told)
        os.close(tell)
        self.console = Console(self.process.stdout.fileno(), self.process.stdin.fileno())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.kill()
        error = self.process.stderr.read()
        self.process.wait()
        if kind is not None:
            print(f"{self.process.args}\n{bytes(self.console.log[-3000:])}\n{error[-2000:]}", file=sys.stderr)
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            file.close()

    def ms_until(self, pattern, timeout):
        """When it came, in ms since the program was started."""
        self.console.expect(pattern, timeout)
        return (time.monotonic_ns() - self.spawned_ns) / 1e6

    def exits(self):
        """KVM's statistics of this machine: {name: number}."""
        found = {}
        for directory in set(glob.glob(f"{DEBUGFS}/kvm/*-*")) - self._before:
            for path in filter(os.path.isfile, glob.glob(f"{directory}/*")):
                with open(path) as file:
                    text = file.read().strip()
                if text.isdigit():
                    found[os.path.basename(path)] = int(text)
        return found

    def cpu_ms(self):
        """What threads that are alive have used: (those of vCPUs, all others)."""
        vcpus = others = 0
        for task in glob.glob(f"/proc/{self.process.pid}/task/*"):
            with open(f"{task}/schedstat") as file:
                used = int(file.read().split()[0]) / 1e6
            if is_vcpu(task):
                vcpus += used
            else:
                others += used
        return vcpus, others


def is_vcpu(task):
    """coracle names them; of QEMU's, only they have spent time in the guest (proc(5), guest_time)."""
    with open(f"{task}/stat") as file:
        name, _, rest = file.read().partition("(")[2].rpartition(")")
    return name.startswith("vcpu") or name.startswith("CPU ") or int(rest.split()[40]) > 0
