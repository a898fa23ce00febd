# SPDX-License-Identifier: Apache-2.0
"""Writer of "newc" cpio archives, the format of an initramfs
(Documentation/driver-api/early-userspace/buffer-format.rst of the kernel)."""

import os
import stat


class Archive:
    """Collects entries in memory; parents are added by themselves; order is the order of insertion."""

    def __init__(self):
        self._chunks = []
        self._seen = set()

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        fields = (len(self._seen) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08x" % f for f in fields)
        raw = header + name.encode() + b"\0"
        raw += b"\0" * (-len(raw) % 4)
        self._chunks.append(raw + data + b"\0" * (-len(data) % 4))

    def _claim(self, name):
        name = name.strip("/")
        parent = os.path.dirname(name)
        if parent and parent not in self._seen:
            self.directory(parent)
        if name in self._seen:
            raise ValueError(f"{name} is in the archive already")
        self._seen.add(name)
        return name

    def directory(self, name, mode=0o755):
        if name.strip("/") not in self._seen:
            self._entry(self._claim(name), stat.S_IFDIR | mode)

    def file(self, name, data, mode=0o644):
        self._entry(self._claim(name), stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self._entry(self._claim(name), stat.S_IFLNK | 0o777, target.encode())

    def node(self, name, kind, major, minor, mode=0o600):
        """A device node; kind is stat.S_IFCHR or stat.S_IFBLK."""
        self._entry(self._claim(name), kind | mode, rdev=(major, minor))

    def bytes(self):
        """The finished archive."""
        trailer = Archive()
        trailer._entry("TRAILER!!!", 0)
        return b"".join(self._chunks + trailer._chunks)
