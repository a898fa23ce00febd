# SPDX-License-Identifier: Apache-2.0
"""Builds the emulated host's initramfs and the command line of the QEMU that emulates it."""

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys

from guest import cpio, kernel

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(HERE))
STATE = os.path.join(CHECKOUT, "build", "kvmhost")

# Wanted before the machine's tree is there, and what is quicker loaded from memory.
ROOT_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console", "virtio-rng"]
APPLETS = ["cat", "cp", "insmod", "mkdir", "mount", "poweroff", "sh", "switch_root"]
KVM_MODULES = ["kvm-amd", "tun", "vhost_net", "unix", "af_packet"]


class SetupError(Exception):
    """The machine lacks something that the emulated host needs."""


def _cached(name, inputs, build):
    """The path of a file under STATE whose content build() makes from the inputs (strings and bytes)."""
    digest = hashlib.sha256()
    for item in inputs:
        data = item if isinstance(item, bytes) else str(item).encode()
        digest.update(b"%d:" % len(data) + data)
    stem, extension = os.path.splitext(name)
    path = os.path.join(STATE, f"{stem}-{digest.hexdigest()[:16]}{extension}")
    if not os.path.exists(path):
        os.makedirs(STATE, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(build())
        os.rename(temporary, path)
    return path


def _stamp(path):
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _python():
    """An interpreter of the machine's tree; the distribution's own starts fastest."""
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else os.path.realpath(sys.executable)


def _busybox():
    path = shutil.which("busybox")
    if not path or b"\x7fELF" != _read(path)[:4]:
        raise SetupError("busybox is missing: install busybox-static")
    return path


def initramfs(host_kernel):
    """The path of the emulated host's initramfs."""
    files = {name: _read(os.path.join(HERE, "l1", name)) for name in ("init", "job", "core", "jobd.py")}
    files["protocol.py"] = _read(os.path.join(HERE, "protocol.py"))
    busybox = _busybox()
    first = host_kernel.load_order(ROOT_MODULES)
    later = [path for path in host_kernel.load_order(KVM_MODULES) if path not in first]

    def build():
        archive = cpio.Archive()
        archive.file("bin/busybox", _read(busybox), 0o755)
        for applet in APPLETS:
            archive.symlink(f"bin/{applet}", "busybox")
        archive.file("init", files["init"], 0o755)
        for name, data in files.items():
            if name != "init":
                archive.file(f"kvmhost/{name}", data, 0o755)
        archive.file("kvmhost/busybox", _read(busybox), 0o755)
        for order, paths in (("order", first), ("order.kvm", later)):
            for path in paths:
                archive.file(f"modules/{os.path.basename(path)}", kernel.read_module(path))
            lines = "".join(f"/modules/{os.path.basename(path)}\n" for path in paths)
            archive.file(f"modules/{order}", lines.encode())
        for directory in ("dev", "proc", "sys"):
            archive.directory(directory)
        archive.file("python", _python().encode())
        return archive.bytes()

    inputs = [*files.keys(), *files.values(), *map(_stamp, [busybox, *first, *later]), _python()]
    inputs += [_stamp(cpio.__file__), _stamp(__file__)]
    return _cached("initramfs.cpio", inputs, build)


def vmlinux(host_kernel):
    """The path of the host kernel as an ELF image, which QEMU starts by PVH: nothing has to be unpacked under TCG."""

    def build():
        return kernel.extract_vmlinux(_read(host_kernel.image))

    return _cached("vmlinux", [_stamp(host_kernel.image)], build)


class Settings:
    """What an emulated host is made of; everything here is JSON so that a host can be started again as it was."""

    def __init__(self, memory="6G", cpus=1, cpu="EPYC-v3,+vgif", shares=(), out=None, watchdog=45, qemu_args=(), counted=False):
        self.memory = memory
        self.cpus = cpus
        self.cpu = cpu
        self.shares = [CHECKOUT, *(os.path.abspath(path) for path in shares)]
        self.out = os.path.abspath(out or os.path.join(STATE, "out"))
        self.watchdog = watchdog
        self.qemu_args = list(qemu_args)
        self.counted = counted


def _export(tag, path, readonly):
    # QEMU takes a doubled comma for a comma in a path.
    path = path.replace(",", ",,")
    mode = ",readonly=on" if readonly else ""
    return [
        "-fsdev",
        f"local,id={tag},path={path},security_model=none,multidevs=remap{mode}",
        "-device",
        f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]


def qemu_command(settings, directory, jobs_fd):
    """The command line; jobs_fd is one end of a socket pair, directory takes the console's log."""
    qemu = shutil.which("qemu-system-x86_64")
    if not qemu:
        raise SetupError("qemu-system-x86_64 is missing: install qemu-system-x86")
    try:
        host_kernel = kernel.Kernel("amd64")
        images = ["-kernel", vmlinux(host_kernel), "-initrd", initramfs(host_kernel)]
    except kernel.KernelError as error:
        raise SetupError(str(error)) from error
    command = [qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35"]
    if settings.counted:
        # An instruction takes a nanosecond, and waiting takes no time at all.
        command += ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-rtc", "base=utc,clock=vm"]
    else:
        command += ["-accel", "tcg,thread=multi", "-rtc", "base=utc,clock=host"]
    command += ["-cpu", settings.cpu, "-smp", str(settings.cpus), "-m", settings.memory]
    command += images
    command += ["-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable"]
    command += ["-chardev", f"file,id=console,path={os.path.join(directory, 'console.log').replace(',', ',,')}"]
    command += ["-serial", "chardev:console"]
    command += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    command += ["-chardev", f"socket,id=jobs,fd={jobs_fd}"]
    command += ["-device", "virtserialport,chardev=jobs,name=kvmhost.jobs"]
    command += _export("kvmroot", "/", True)
    for number, path in enumerate(settings.shares):
        command += _export(f"share{number}", path, True)
    command += _export("out", settings.out, False)
    return command + settings.qemu_args


def spawn(command, directory, keep_fd):
    """Starts QEMU so that it ends with this process; returns the Popen."""
    libc = ctypes.CDLL(None, use_errno=True)
    keeper = os.getpid()

    def in_child():
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != keeper:
            os._exit(1)

    with open(os.path.join(directory, "qemu.log"), "wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[keep_fd], preexec_fn=in_child
        )
