# SPDX-License-Identifier: Apache-2.0
"""What Debian's kernel packages put on this machine: images, modules with what they need, and the ELF image inside a
bzImage."""

import bz2
import glob
import gzip
import lzma
import os
import re
import shutil
import struct
import subprocess


class KernelError(Exception):
    """No such kernel or module, or an image that is not what it should be."""


def _version_key(path):
    return [int(n) for n in re.findall(r"\d+", os.path.basename(path))]


class Kernel:
    """An installed kernel; flavour is "amd64" (generic) or "cloud-amd64"; the newest one is taken."""

    def __init__(self, flavour):
        found = [
            path
            for path in glob.glob(f"/boot/vmlinuz-*-{flavour}")
            if re.fullmatch(r"vmlinuz-[0-9.+~a-z]+(-[0-9]+)?-" + flavour, os.path.basename(path))
            and os.path.exists(f"/lib/modules/{os.path.basename(path)[8:]}/modules.dep")
        ]
        if not found:
            raise KernelError(f"no /boot/vmlinuz-*-{flavour} with its modules: install linux-image-{flavour}")
        self.image = max(found, key=_version_key)
        self.version = os.path.basename(self.image)[len("vmlinuz-") :]
        self.modules_dir = f"/lib/modules/{self.version}"
        self._depends = {}
        self._paths = {}
        with open(f"{self.modules_dir}/modules.dep", encoding="utf-8") as dep:
            for line in dep:
                path, _, needs = line.partition(":")
                self._paths[_module_name(path)] = path
                self._depends[path] = needs.split()
        with open(f"{self.modules_dir}/modules.builtin", encoding="utf-8") as builtin:
            self._builtin = {_module_name(line.strip()) for line in builtin}

    def load_order(self, names):
        """Paths of the files of the named modules and of all they need, in an order in which insmod takes them.
        Modules that are built in are left out; a name that the kernel does not know at all is an error."""
        order = []

        def add(path):
            # modules.dep lists what is needed closest first: the last one has to be loaded first.
            for need in reversed(self._depends[path]):
                add(need)
            full = f"{self.modules_dir}/{path}"
            if full not in order:
                order.append(full)

        for name in names:
            key = _module_name(name)
            if key in self._paths:
                add(self._paths[key])
            elif key not in self._builtin:
                raise KernelError(f"kernel {self.version} has no module {name}")
        return order

    def dependencies(self, paths):
        """The lines of modules.dep for modules given by full path, as busybox's modprobe reads them: absolute, unpacked."""

        def plain(path):
            return f"{self.modules_dir}/{path}"[: len(self.modules_dir) + 1 + path.index(".ko") + 3]

        relative = [os.path.relpath(path, self.modules_dir) for path in paths]
        return "".join(f"{plain(path)}: {' '.join(map(plain, self._depends[path]))}\n" for path in relative)


def _module_name(path):
    return re.sub(r"\.ko(\.\w+)?$", "", os.path.basename(path)).replace("-", "_")


def read_module(path):
    """The module's bytes, unpacked if the package has it compressed."""
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zst"):
        return _pipe(["zstd", "-dc"], data)
    return data


def _pipe(command, data):
    if not shutil.which(command[0]):
        raise KernelError(f"{command[0]} is needed to unpack this kernel")
    # Trailing bytes after the compressed stream make some tools fail after all output has been written.
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout


_UNPACK = (
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"\x5d\0\0", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x1f\x8b", lambda data: _pipe(["gzip", "-dc"], data)),
    (b"\x28\xb5\x2f\xfd", lambda data: _pipe(["zstd", "-dc"], data[:-4])),
    (b"\x02\x21\x4c\x18", lambda data: _pipe(["lz4", "-dc"], data[:-4])),
)


def extract_vmlinux(image):
    """The ELF image inside the bzImage whose bytes are given (Documentation/x86/boot.rst: payload_offset counts from the
    start of the protected-mode code; the last four bytes of most payloads are the unpacked size)."""
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        raise KernelError("not a bzImage")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise KernelError(f"boot protocol {version:#x} does not tell where the payload is")
    setup_sects = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sects + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpack in _UNPACK:
        if payload.startswith(magic):
            elf = unpack(payload)
            break
    else:
        raise KernelError(f"unknown compression: payload starts with {payload[:6].hex()}")
    if not elf.startswith(b"\x7fELF"):
        raise KernelError("the payload is not an ELF image")
    return elf
