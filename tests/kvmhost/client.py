# SPDX-License-Identifier: Apache-2.0
"""Runs one job on a host by its keeper's socket: standard input, output, signals, the terminal, the time limit."""

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty

import kvmhost.protocol as p

TIMEOUT_STATUS = 124
DEAD_STATUS = 125
# Between the steps at the time limit: SIGTERM, SIGKILL for all that the command started, giving up on the host.
GRACE_SECONDS = 5.0
REPLAY_BYTES = 1 << 20
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class HostDied(Exception):
    """The host is gone and has taken the job with it; the message says how it died."""


class Input:
    """Standard input, which a job that is run again gets from the beginning."""

    def __init__(self):
        self.seen = bytearray()
        self.ended = False
        self.replayable = True

    def read(self):
        try:
            data = os.read(0, p.CHUNK)
        except OSError:
            data = b""
        self.ended = not data
        self.seen += data
        if len(self.seen) > REPLAY_BYTES:
            self.replayable = False
            self.seen.clear()
        return data


def window_size():
    try:
        rows, cols, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        rows, cols = 0, 0
    return {"rows": rows or 24, "cols": cols or 80}


class Client:
    """One job on one connection to a host that is up; wait() returns its exit status."""

    def __init__(self, connection, order, stdin, timeout):
        self.connection = connection
        self.order = order
        self.stdin = stdin
        self.decoder = p.Decoder()
        self.backlog = bytearray()
        self.window = p.STDIN_WINDOW
        self.timeout = timeout
        self.deadline = None
        self.timed_out = False
        self.interrupts = 0
        self.status = None

    def wait(self):
        """Runs the job. Raises HostDied."""
        wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        before = {number: signal.signal(number, lambda *_: None) for number in (*FORWARDED, signal.SIGWINCH)}
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        saved = None
        try:
            if self.order["tty"]:
                saved = termios.tcgetattr(0)
                tty.setraw(0)
            self._begin()
            while self.status is None:
                self._turn(wake)
        finally:
            if saved:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(wake)
            os.close(wake_write)
        return TIMEOUT_STATUS if self.timed_out else self.status

    def _begin(self):
        self.order["time"] = time.time()
        if self.timeout:
            self.deadline = time.monotonic() + self.timeout
        self._send(p.START, {**self.order, **window_size()})
        if self.stdin.seen:
            for start in range(0, len(self.stdin.seen), p.CHUNK):
                self._send(p.STDIN, self.stdin.seen[start : start + p.CHUNK])
            self.window -= len(self.stdin.seen)
        if self.stdin.ended:
            self._send(p.STDIN)

    def _send(self, kind, payload=b""):
        self.backlog += p.encode(kind, 0, payload)

    def _turn(self, wake):
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self.connection, select.POLLIN | (select.POLLOUT if self.backlog else 0))
        if not self.stdin.ended and self.window > 0:
            poll.register(0, select.POLLIN)
        wait = None
        if self.deadline is not None:
            wait = max(0, (self.deadline - time.monotonic()) * 1000)
        for fd, ready in poll.poll(wait):
            if fd == wake:
                for number in os.read(wake, 64):
                    self._signal(number)
            elif fd == 0:
                data = self.stdin.read()
                self.window -= len(data)
                self._send(p.STDIN, data)
            elif ready & ~select.POLLOUT:
                self._read()
        self._flush()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self._out_of_time()

    def _flush(self):
        try:
            while self.backlog:
                sent = self.connection.send(self.backlog[: p.CHUNK], socket.MSG_DONTWAIT)
                del self.backlog[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.backlog.clear()  # reading tells why

    def _signal(self, number):
        if number == signal.SIGWINCH:
            if self.order["tty"]:
                self._send(p.WINDOW, window_size())
            return
        self.interrupts += number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if self.interrupts > 2:
            # The host does not listen: leaving ends the job.
            self.status = 128 + number
        elif self.interrupts == 2:
            self._send(p.KILL)
        else:
            self._send(p.SIGNAL, {"number": int(number)})

    def _out_of_time(self):
        if not self.timed_out:
            self.timed_out = True
            self._send(p.SIGNAL, {"number": int(signal.SIGTERM)})
        elif self.interrupts < 2:
            self.interrupts = 2
            self._send(p.KILL)
        else:
            self.status = TIMEOUT_STATUS
        self._flush()
        self.deadline = time.monotonic() + GRACE_SECONDS

    def _read(self):
        try:
            data = self.connection.recv(4 * p.CHUNK)
        except OSError:
            data = b""
        if not data:
            raise HostDied("its keeper has gone")
        for kind, _, payload in self.decoder.feed(data):
            self._frame(kind, payload)

    def _frame(self, kind, payload):
        if kind in (p.STDOUT, p.STDERR):
            self._print(1 if kind == p.STDOUT else 2, payload)
        elif kind == p.TAKEN:
            self.window += p.decode_json(payload)["bytes"]
        elif kind == p.EXIT:
            self.status = p.decode_json(payload)["status"]
        elif kind == p.DEAD:
            raise HostDied(p.decode_json(payload)["reason"])

    def _print(self, fd, data):
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except BrokenPipeError:
            # As for any program whose reader has gone; leaving ends the job.
            self.status = 128 + signal.SIGPIPE


def facts_of(connection):
    """Waits until the host behind the connection is up; returns what it says about itself. Raises HostDied."""
    decoder = p.Decoder()
    while True:
        data = connection.recv(p.CHUNK)
        if not data:
            raise HostDied("its keeper has gone")
        for kind, _, payload in decoder.feed(data):
            if kind == p.READY:
                return p.decode_json(payload)
            if kind == p.DEAD:
                raise HostDied(p.decode_json(payload)["reason"])


def note(text):
    """A line of the tool's own, on standard error, told apart from the command's by its prefix."""
    print(f"kvmhost: {text}", file=sys.stderr, flush=True)
