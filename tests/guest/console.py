# SPDX-License-Identifier: Apache-2.0
"""Drives the Linux guest of the system tests by the terminal on which it takes commands (linux/init)."""

import os
import re
import select
import time


class GuestTimeout(Exception):
    """The guest did not say what was awaited; the message ends with the last it said."""


class Console:
    """A guest's terminal behind a file descriptor: a connected socket, a pty's master, a pair of pipes."""

    def __init__(self, fd, write_fd=None):
        self.fd = fd
        self.write_fd = fd if write_fd is None else write_fd
        self.log = bytearray()  # all that was ever read
        self._mark = 0

    def expect(self, pattern, timeout=60):
        """Waits for a regular expression (bytes) in what comes; returns the match. What was matched is not seen again.
        Raises GuestTimeout, EOFError when the other end has gone."""
        deadline = time.monotonic() + timeout
        regex = re.compile(pattern, re.MULTILINE)
        while True:
            match = regex.search(self.log, self._mark)
            if match:
                self._mark = match.end()
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise GuestTimeout(f"{pattern!r} did not come; last: {self._last()}")
            data = os.read(self.fd, 65536)
            if not data:
                raise EOFError(f"the terminal was closed; last: {self._last()}")
            self.log += data

    def _last(self):
        return bytes(self.log[-2000:]).decode("utf-8", "replace")

    def ready(self, timeout=60):
        """Waits until the guest is up; returns {"cpus": int, "mem_kb": int, "kernel": str, "uptime": float}."""
        match = self.expect(rb"CORACLE-GUEST-READY cpus=(\d+) mem_kb=(\d+) kernel=(\S+) uptime=([0-9.]+)\r?\n", timeout)
        cpus, mem_kb, version, uptime = match.groups()
        return {"cpus": int(cpus), "mem_kb": int(mem_kb), "kernel": version.decode(), "uptime": float(uptime)}

    def send(self, command):
        """Types a line of at most 4,000 bytes without waiting for what it does."""
        line = command.encode() + b"\n"
        if len(line) > 4000:
            raise ValueError("the guest's terminal takes no line of more than 4,000 bytes")
        while line:
            line = line[os.write(self.write_fd, line) :]

    def run(self, command, timeout=60):
        """Runs a shell command in the guest; returns (exit status, output)."""
        start = self._mark
        self.send(command)
        match = self.expect(rb"CORACLE-RC (\d+)\r?\n", timeout)
        return int(match[1]), bytes(self.log[start : match.start()]).decode("utf-8", "replace")

    def check(self, command, timeout=60):
        """Runs a shell command that has to succeed; returns its output without white space around it."""
        status, output = self.run(command, timeout)
        if status:
            raise AssertionError(f"{command!r} in the guest: status {status}: {output}")
        return output.strip()
