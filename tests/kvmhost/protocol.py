# SPDX-License-Identifier: Apache-2.0
"""Frames on the three stretches of a job's way: client - keeper (unix socket), keeper - emulated host (virtio-serial).

A frame is a header (type, job, length of the payload) and a payload. Bytes of a stream travel as they are, everything
else as JSON. This file runs on both sides, so it is plain Python 3.9 with nothing but struct and json."""

import json
import struct

HEADER = struct.Struct("<BII")
MAX_PAYLOAD = 1 << 20
CHUNK = 64 << 10
# A client has at most this many bytes of standard input on the way.
STDIN_WINDOW = 256 << 10

# towards the emulated host
CONFIG = 1  # json: shares, out, time, rlimits
START = 2  # json: argv, env, cwd, tty, rows, cols, time
STDIN = 3  # bytes; an empty frame is the end of file
SIGNAL = 4  # json: number
WINDOW = 5  # json: rows, cols
KILL = 6  # the job and all that it started
NUDGE = 7  # nothing: an interrupt for a host that has gone quiet

# from the emulated host
HELLO = 16  # the job server runs and waits for CONFIG
READY = 17  # json: facts about the host
BEAT = 18
STDOUT = 19  # bytes
STDERR = 20  # bytes
TAKEN = 21  # json: bytes of STDIN that the job has taken
EXIT = 22  # json: status (as of a shell), signal

# between client and keeper only
STOP = 32  # end the host
DEAD = 33  # json: reason; the host is gone, and the job with it


class ProtocolError(Exception):
    """The peer sent what no peer sends."""


def encode(kind, job=0, payload=b""):
    """One frame; a payload that is no bytes object becomes JSON."""
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        # Names and arguments are bytes on Linux: surrogates carry those that are not UTF-8.
        payload = json.dumps(payload).encode("ascii")
    return HEADER.pack(kind, job, len(payload)) + bytes(payload)


def decode_json(payload):
    return json.loads(bytes(payload).decode("ascii"))


class Decoder:
    """Cuts a byte stream into frames."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """Yields (type, job, payload) for each frame that is complete."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, job, length = HEADER.unpack_from(self._buffer)
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"frame of {length} bytes")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield kind, job, payload
