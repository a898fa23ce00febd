# SPDX-License-Identifier: Apache-2.0
"""The Linux guest of the system tests: where its images are, and how they are made from Debian's packages."""

import gzip
import hashlib
import os
import shutil
import subprocess

from guest import cpio, kernel

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(HERE))
DIRECTORY = os.path.join(CHECKOUT, "build", "guest")
BZIMAGE = os.path.join(DIRECTORY, "bzImage")
VMLINUX = os.path.join(DIRECTORY, "vmlinux")
INITRAMFS = os.path.join(DIRECTORY, "initramfs.cpio.gz")

# Loaded by init, where they are not built in.
MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio-rng", "af_packet", "ext4", "button", "evdev"]
# There for modprobe and for coracle.modules=.
MORE_MODULES = [
    "virtio_balloon", "virtio_mem", "virtio_mmio", "virtio_pmem", "virtio_scsi", "virtiofs", "vmw_vsock_virtio_transport",
    "pvpanic-mmio", "pvpanic-pci", "loop", "nvme", "tun", "8021q", "msr",
]  # fmt: skip


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _busybox():
    path = shutil.which("busybox")
    if not path:
        raise kernel.KernelError("busybox is missing: install busybox-static")
    return path


def _modules(guest_kernel):
    """(paths that init loads, in order; paths of all modules of the image). A module that this kernel lacks is no
    error among MORE_MODULES."""
    first = guest_kernel.load_order(MODULES)
    paths = list(first)
    for name in MORE_MODULES:
        try:
            paths += [path for path in guest_kernel.load_order([name]) if path not in paths]
        except kernel.KernelError:
            pass
    return first, paths


def _initramfs(guest_kernel, busybox):
    first, paths = _modules(guest_kernel)
    archive = cpio.Archive()
    for directory in ("dev", "proc", "sys", "tmp", "run", "root", "mnt", "etc", "sbin", "usr/bin", "usr/sbin"):
        archive.directory(directory)
    archive.file("bin/busybox", _read(busybox), 0o755)
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    for applet in applets:
        if applet not in ("busybox", "linuxrc"):
            archive.symlink(f"bin/{applet}", "busybox")
    archive.file("init", _read(os.path.join(HERE, "linux", "init")), 0o755)
    for path in paths:
        # Without .xz or .zst, so that busybox's insmod takes it.
        archive.file(path[: path.index(".ko") + 3], kernel.read_module(path))
    archive.file("modules.order", "".join(path[: path.index(".ko") + 3] + "\n" for path in first).encode())
    archive.file(f"{guest_kernel.modules_dir}/modules.dep", guest_kernel.dependencies(paths).encode())
    return gzip.compress(archive.bytes(), 6, mtime=0)


def _write(path, data):
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.rename(f"{path}.new", path)


def build():
    """Makes what is missing or older than what it is made from; returns True if something was made."""
    guest_kernel = kernel.Kernel("cloud-amd64")
    busybox = _busybox()
    sources = [guest_kernel.image, busybox, os.path.join(HERE, "linux", "init")]
    sources += [os.path.join(HERE, name) for name in ("cpio.py", "images.py", "kernel.py")]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(f"{path} ".encode() + _read(path))
    stamp = os.path.join(DIRECTORY, "stamp")
    wanted = digest.hexdigest().encode()
    outputs = (BZIMAGE, VMLINUX, INITRAMFS, stamp)
    if all(map(os.path.exists, outputs)) and _read(stamp) == wanted:
        return False
    os.makedirs(DIRECTORY, exist_ok=True)
    image = _read(guest_kernel.image)
    _write(BZIMAGE, image)
    _write(VMLINUX, kernel.extract_vmlinux(image))
    _write(INITRAMFS, _initramfs(guest_kernel, busybox))
    _write(stamp, wanted)
    return True
