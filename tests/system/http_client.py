# SPDX-License-Identifier: Apache-2.0
"""A client that sees every byte: requests are written as given, answers are kept as they came."""

import array
import json
import socket
import time


class Response:
    """One answer: status (int), status_line, headers (list of (name, value) as sent), body and raw (bytes)."""

    def __init__(self, raw_head, body):
        lines = raw_head.decode("ascii").split("\r\n")
        self.status_line = lines[0]
        self.status = int(lines[0].split(" ")[1])
        self.headers = [tuple(line.split(": ", 1)) for line in lines[1:] if line]
        self.body = body
        self.raw = raw_head + b"\r\n\r\n" + body

    def header(self, name):
        """Value of the header spelled exactly so, None when it is not there."""
        return dict(self.headers).get(name)

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body!r}>"


class RawClient:
    """A connection to an AF_UNIX socket."""

    def __init__(self, path, timeout=30):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # With a timeout set, connect(2) would not wait for room in the backlog.
        self.sock.connect(path)
        self.sock.settimeout(timeout)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data, fds=()):
        """Sends all of data; the descriptors go with its first byte."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.sock.sendmsg([data], ancillary)
        if sent < len(data):
            self.sock.sendall(data[sent:])

    def request(self, method, path, body=None, fds=(), headers=()):
        """Sends a whole request at once and reads the answer. body: bytes, or something for json.dumps."""
        self.send(request_bytes(method, path, body, headers), fds)
        return self.read_response()

    def _fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"connection closed after {self.buffer!r}")
        self.buffer += data

    def read_until(self, mark):
        while mark not in self.buffer:
            self._fill()
        data, self.buffer = self.buffer.split(mark, 1)
        return data

    def read_exactly(self, length):
        while len(self.buffer) < length:
            self._fill()
        data, self.buffer = self.buffer[:length], self.buffer[length:]
        return data

    def read_head(self):
        """An answer without its body: of a stream, of an interim answer."""
        return Response(self.read_until(b"\r\n\r\n"), b"")

    def read_response(self):
        """The next answer. Strict: what says nothing of its length has no body."""
        head = self.read_head()
        length = int(head.header("Content-Length") or 0)
        head.body = self.read_exactly(length)
        head.raw += head.body
        return head

    def recv_once(self, size):
        """What one recv(2) gives."""
        assert not self.buffer
        return self.sock.recv(size)

    def is_closed(self):
        """Waits for the other end to close. Whether it did, without another byte."""
        try:
            return self.buffer == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def is_silent(self, seconds=0.2):
        """Whether nothing comes for so long."""
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(1)
            return False
        except TimeoutError:
            return not self.buffer
        finally:
            self.sock.settimeout(30)


def request_bytes(method, path, body=None, headers=()):
    """A plain request, with Content-Length only when there is a body."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


class StreamEvent:
    """One record of an event stream: id (int or None), name, data (decoded JSON)."""

    def __init__(self, fields):
        self.id = int(fields["id"]) if "id" in fields else None
        self.name = fields["event"]
        self.data = json.loads(fields["data"])

    def __repr__(self):
        return f"<{self.id} {self.name} {self.data}>"


class EventStream:
    """GET /api/v1/vmm.events. head: the answer's head; last_id: what one would go on from."""

    def __init__(self, path, last_event_id=None, timeout=30):
        self.client = RawClient(path, timeout)
        headers = [] if last_event_id is None else [f"Last-Event-ID: {last_event_id}"]
        self.client.send(request_bytes("GET", "/api/v1/vmm.events", headers=headers))
        self.head = self.client.read_head()
        self.last_id = None
        self.comments = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.client.close()

    def read_block(self):
        """The next block of lines, as a dict of fields; comments only: an empty dict."""
        fields = {}
        for line in self.client.read_until(b"\n\n").decode("ascii").split("\n"):
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, value = line.split(": ", 1)
                fields[name] = value
        if "id" in fields:
            self.last_id = int(fields["id"])
        return fields

    def next(self):
        """The next event or gap."""
        while True:
            fields = self.read_block()
            if "data" in fields:
                return StreamEvent(fields)

    def wait_for(self, name, timeout=30):
        """Passes events over until one of that name, which is returned."""
        deadline = time.monotonic() + timeout
        seen = []
        while time.monotonic() < deadline:
            self.client.sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                event = self.next()
            except TimeoutError:
                break
            if event.name == name:
                return event
            seen.append(event.name)
        raise TimeoutError(f"no event {name} within {timeout} s; there were {seen}")
