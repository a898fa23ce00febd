# SPDX-License-Identifier: Apache-2.0
"""A coracle whose allocations and system calls fail on demand: the other end of tests/fault/failing_calls.c."""

import contextlib
import errno
import mmap
import os
import struct
import subprocess
import tempfile

import pytest
from coracle import BINARY, Coracle

LIBRARY = os.path.join(os.path.dirname(BINARY), "fault", "failing_calls.so")

needs_library = pytest.mark.skipif(not os.path.exists(LIBRARY), reason="make units builds fault/failing_calls.so")

ALLOCATION = 512
NONE = 0xFFFFFFFF
FOR_EVER = 0xFFFFFFFF

# Numbers on x86-64 of the calls that failing_calls.c can make fail, and the error that each is most likely to see.
CALLS = {
    "allocation": (ALLOCATION, errno.ENOMEM),
    "open": (2, errno.EMFILE),
    "openat": (257, errno.EMFILE),
    "read": (0, errno.EIO),
    "write": (1, errno.ENOSPC),
    "readv": (19, errno.EIO),
    "writev": (20, errno.EIO),
    "pread64": (17, errno.EIO),
    "pwrite64": (18, errno.ENOSPC),
    "preadv": (295, errno.EIO),
    "pwritev": (296, errno.ENOSPC),
    "preadv2": (327, errno.EIO),
    "pwritev2": (328, errno.ENOSPC),
    "mmap": (9, errno.ENOMEM),
    "mprotect": (10, errno.ENOMEM),
    "mremap": (25, errno.ENOMEM),
    "madvise": (28, errno.EAGAIN),
    "mbind": (237, errno.ENOMEM),
    "mlock": (149, errno.ENOMEM),
    "ioctl": (16, errno.ENOMEM),
    "eventfd2": (290, errno.EMFILE),
    "timerfd_create": (283, errno.EMFILE),
    "signalfd4": (289, errno.EMFILE),
    "epoll_create1": (291, errno.EMFILE),
    "epoll_ctl": (233, errno.ENOSPC),
    "pipe2": (293, errno.EMFILE),
    "memfd_create": (319, errno.EMFILE),
    "ftruncate": (77, errno.ENOSPC),
    "fallocate": (285, errno.ENOSPC),
    "fsync": (74, errno.EIO),
    "fdatasync": (75, errno.EIO),
    "lseek": (8, errno.EIO),
    "fcntl": (72, errno.ENOLCK),
    "dup": (32, errno.EMFILE),
    "dup3": (292, errno.EMFILE),
    "fstat": (5, errno.EIO),
    "newfstatat": (262, errno.EIO),
    "stat": (4, errno.EIO),
    "lstat": (6, errno.EIO),
    "statx": (332, errno.EIO),
    "statfs": (137, errno.EIO),
    "fstatfs": (138, errno.EIO),
    "getdents64": (217, errno.EIO),
    "readlink": (89, errno.EIO),
    "unlink": (87, errno.EIO),
    "chmod": (90, errno.EROFS),
    "fchmod": (91, errno.EROFS),
    "socket": (41, errno.ENOBUFS),
    "socketpair": (53, errno.EMFILE),
    "bind": (49, errno.ENOMEM),
    "listen": (50, errno.EADDRINUSE),
    "connect": (42, errno.EAGAIN),
    "accept4": (288, errno.EMFILE),
    "sendmsg": (46, errno.ENOBUFS),
    "sendto": (44, errno.ENOBUFS),
    "recvmsg": (47, errno.ENOBUFS),
    "recvfrom": (45, errno.ENOBUFS),
    "getsockopt": (55, errno.ENOBUFS),
    "setsockopt": (54, errno.ENOBUFS),
    "getsockname": (51, errno.ENOBUFS),
    "io_uring_setup": (425, errno.ENOMEM),
    "io_uring_enter": (426, errno.EAGAIN),
    "io_uring_register": (427, errno.ENOMEM),
    "clone": (56, errno.EAGAIN),
    "clone3": (435, errno.EAGAIN),
    "prctl": (157, errno.EPERM),
    "seccomp": (317, errno.ENOMEM),
    "capget": (125, errno.EPERM),
    "capset": (126, errno.EPERM),
    "sched_setaffinity": (203, errno.EINVAL),
    "prlimit64": (302, errno.EPERM),
    "getrandom": (318, errno.EAGAIN),
    "rt_sigaction": (13, errno.EINVAL),
    "poll": (7, errno.ENOMEM),
}


class Faults:
    """struct control of failing_calls.c, shared with the process under test."""

    SIZE = 8192
    ARGS = 192
    CALLS = 496

    def __init__(self):
        fd, self.path = tempfile.mkstemp(prefix="coracle-fault-")
        os.truncate(fd, self.SIZE)
        self.map = mmap.mmap(fd, self.SIZE)
        os.close(fd)
        self.disarm()

    def close(self):
        os.unlink(self.path)

    def arm(self, call, nth=1, error=None, times=1, thread="", target=""):
        """Has `call` fail when it is made for the nth time from now on, `times` times in a row; nth 0: only counts.
        thread, target: only calls of threads whose name begins so, on descriptors whose link contains that."""
        kind, usual = CALLS[call]
        self.disarm()
        self.call = call
        struct.pack_into("16s128sII", self.map, 16, thread.encode(), target.encode(), 0, 0)
        struct.pack_into("III", self.map, 4, nth, times, error or usual)
        struct.pack_into("I", self.map, 0, kind)

    def disarm(self):
        """Nothing fails from now on. Returns how many did."""
        struct.pack_into("I", self.map, 0, NONE)
        return self.failed

    @contextlib.contextmanager
    def armed(self, *args, **kwargs):
        self.arm(*args, **kwargs)
        try:
            yield self
        finally:
            self.disarm()

    def _word(self, offset, kind="I"):
        return struct.unpack_from(kind, self.map, offset)[0]

    @property
    def seen(self):
        return self._word(160)

    @property
    def failed(self):
        return self._word(164)

    @property
    def live_blocks(self):
        return self._word(168, "q")

    @property
    def live_bytes(self):
        return self._word(176, "q")

    def calls(self, call):
        """How many there were, of all."""
        return self._word(self.CALLS + 8 * CALLS[call][0], "Q")

    def frames(self):
        """Return addresses of the last allocation that failed, the innermost first."""
        return struct.unpack_from("16Q", self.map, self.ARGS + 48)[: self._word(188)]

    def describe(self):
        """The last one that failed."""
        if self.call == "allocation":
            return " ".join(f"{frame:#x}" for frame in self.frames())
        args = ", ".join(f"{arg:#x}" for arg in struct.unpack_from("6Q", self.map, self.ARGS))
        where = self.map[368:496].split(b"\0")[0].decode("utf-8", "replace")
        return f"{self.call}({args}) on {where!r}"


def symbols(pid, frames):
    """The functions of coracle among the frames, if addr2line is there and the process still is."""
    try:
        with open(f"/proc/{pid}/maps") as maps:
            base = next(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith("/coracle"))
        addresses = [f"{frame - base - 1:#x}" for frame in frames if frame > base]
        done = subprocess.run(["addr2line", "-fse", BINARY, *addresses], stdout=subprocess.PIPE, text=True, check=True)
        return " < ".join(name for name in done.stdout.split("\n")[::2] if name not in ("??", ""))
    except (OSError, StopIteration, subprocess.CalledProcessError):
        return "allocation"


class FaultyCoracle(Coracle):
    """`faults`: what to arm. Nothing fails from its start unless the caller hands armed ones over."""

    def __init__(self, *args, faults=None, **popen):
        self.faults = faults or Faults()
        super().__init__(*args, env=environment(self.faults), **popen)

    def close(self):
        try:
            return super().close()
        finally:
            self.faults.close()


def environment(faults):
    options = os.environ.get("ASAN_OPTIONS", "")
    return {
        **os.environ,
        "CORACLE_FAULT": faults.path,
        "LD_PRELOAD": LIBRARY,
        # The library stands before AddressSanitizer's, and passes allocations on to it. A search for leaks stops all
        # threads, and so the one that must answer for its system calls.
        "ASAN_OPTIONS": f"{options}:verify_asan_link_order=0:allocator_may_return_null=1:detect_leaks=0".lstrip(":"),
    }
