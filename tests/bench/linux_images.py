# SPDX-License-Identifier: Apache-2.0
"""The initramfs of the Linux guest with fio and iperf3 in it: the tests' own, and a second archive behind it."""

import hashlib
import os
import shutil
import sys

from machines import CHECKOUT
from linux_guest import libraries

sys.path.insert(0, os.path.join(CHECKOUT, "tests"))

from guest import cpio, images  # noqa: E402

INITRAMFS = os.path.join(CHECKOUT, "build", "guest", "bench.cpio")
PROGRAMS = ("fio", "iperf3")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def build():
    """Makes INITRAMFS if it is missing or older than what it is made from; its path."""
    images.build()
    programs = [shutil.which(name) for name in PROGRAMS]
    if not all(programs):
        raise RuntimeError("fio or iperf3 is missing: packaging/install-deps bench")
    files = sorted({*programs, *(path for program in programs for path in libraries(program))})
    digest = hashlib.sha256(read(images.INITRAMFS))
    for path in files:
        status = os.stat(path)
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns} ".encode())
    stamp = f"{INITRAMFS}.stamp"
    if not os.path.exists(stamp) or read(stamp).decode() != digest.hexdigest():
        archive = cpio.Archive()
        for path in files:
            archive.file(path, read(path), 0o755)
        # The kernel takes archives one after another, each at a multiple of four bytes.
        first = read(images.INITRAMFS)
        with open(f"{INITRAMFS}.new", "wb") as file:
            file.write(first + b"\0" * (-len(first) % 4) + archive.bytes())
        os.rename(f"{INITRAMFS}.new", INITRAMFS)
        with open(stamp, "w") as file:
            file.write(digest.hexdigest())
    return INITRAMFS
