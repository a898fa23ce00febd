# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, deaf, or never come to an end: what they hold is bounded, and others are served meanwhile."""

import json
import re
import signal
import socket
import threading

import pytest
from coracle import MINIMAL_CONFIG, Coracle, wait_until
from http_client import request_bytes
from usage import Usage, check_growth, cpu_seconds

MIB = 1 << 20
PING = request_bytes("GET", "/api/v1/vmm.ping")
CREATE = request_bytes("PUT", "/api/v1/vm.create", MINIMAL_CONFIG)
CHUNKED = b"PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


class Stalled:
    """A process, and clients that stopped in the middle of a request when it was made."""

    CUTS = {
        "request line": b"GET /api/v1/vmm",
        "headers": PING[:-2],
        "body": CREATE[:-1],
        "behind an interim answer": CREATE[: CREATE.index(b"\r\n\r\n")] + b"\r\nExpect: 100-continue\r\n\r\n",
        "size of a chunk": CHUNKED + b"5",
        "chunk": CHUNKED + b"5\r\n{",
        "trailers": CHUNKED + b"2\r\n{}\r\n0\r\nX: y\r\n",
        "empty lines": b"\r\n",
    }

    def __init__(self):
        self.vmm = Coracle()
        self.vmm.ping()
        self.before = self.vmm.fds_at_rest()
        self.clients = {}
        for where, data in self.CUTS.items():
            self.clients[where] = self.vmm.connect(60)
            self.clients[where].send(data)
        # Its other end is in the process alone: nobody is left who could close it.
        with self.vmm.connect() as client:
            client.send(PING[:10], [client.sock.fileno()])
        self.slow, self.idle = self.vmm.connect(), self.vmm.connect()
        assert self.idle.request("GET", "/api/v1/vmm.ping").status == 200
        self.slow.send(b"GET /api/v1/vmm.ping HTTP/1.1\r\nX-Slow: ")
        self.enough = threading.Event()
        self.feeder = threading.Thread(target=self.feed, daemon=True)
        self.feeder.start()

    def feed(self):
        while not self.enough.wait(1):
            self.slow.send(b"x")

    def stop_feeding(self):
        self.enough.set()
        self.feeder.join()


@pytest.fixture(scope="module", autouse=True)
def stalled():
    """Made first and looked at last, since it takes its time to be given up."""
    it = Stalled()
    with it.vmm:
        yield it
        it.stop_feeding()


# --- slow ------------------------------------------------------------------------------------------------------------


def test_request_that_comes_byte_by_byte_is_served_and_so_are_others(vmm):
    with vmm.connect() as slow, vmm.connect() as other:
        for i in range(len(CREATE)):
            slow.send(CREATE[i : i + 1])
            if i % 16 == 0:
                assert other.request("GET", "/api/v1/vm.info").status == 404
        assert slow.read_response().status == 204
        assert other.request("GET", "/api/v1/vm.info").status == 200


def test_answer_that_is_read_byte_by_byte_comes_in_full(vmm):
    vmm.put("vm.create", {**MINIMAL_CONFIG, "payload": {"kernel": "/k", "cmdline": "x" * 65000}})
    with vmm.connect() as client:
        client.send(request_bytes("GET", "/api/v1/vm.info") + PING)
        for _ in range(1000):
            client.buffer += client.sock.recv(1)
        assert len(client.read_response().json()["config"]["payload"]["cmdline"]) == 65000
        assert client.read_response().status == 200


def test_half_requests_can_wait_for_their_other_half(vmm):
    """Hundreds, cut at every byte; the other halves come in another order."""
    cuts = range(1, len(CREATE), 2)
    clients = [vmm.connect() for _ in cuts]
    for client, cut in zip(clients, cuts, strict=True):
        client.send(CREATE[:cut])
    assert vmm.ping() and vmm.state() is None
    for client, cut in reversed(list(zip(clients, cuts, strict=True))):
        client.send(CREATE[cut:])
    statuses = [client.read_response().status for client in clients]
    assert statuses.count(204) == 1 and set(statuses) == {204, 500}
    for client in clients:
        client.close()


# --- memory that clients hold -------------------------------------------------------------------------------------------


def test_bodies_that_are_never_finished_share_a_bound(vmm):
    before = Usage(vmm)
    head = b"PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (4 * MIB)
    clients = [vmm.connect() for _ in range(60)]
    for client in clients:
        client.send(head + b" " * (4 * MIB - 1))
    assert vmm.ping()
    assert vmm.is_sanitized() or vmm.rss_kib() < before.rss_kib + 80 * 1024
    # Who moves is served, whatever the size.
    for length in (1000, 60000, MIB, 4 * MIB):
        assert vmm.api("PUT", "vm.create", json.dumps(MINIMAL_CONFIG).encode().ljust(length)).status == 204
        vmm.put("vm.delete")
    # Those that stood still the longest were turned away.
    for client in clients[:40]:
        answer = client.read_response()
        assert answer.status == 503 and answer.json()[-1] == "Too many large requests at once"
        assert client.is_closed()
    assert clients[-1].is_silent()
    for client in clients:
        client.close()
    check_growth(vmm, before, 8192)


def test_answers_that_nobody_reads_share_a_bound(vmm):
    config = {**MINIMAL_CONFIG, "disks": [{"path": "/" + "a" * 4000, "image_type": "Raw"} for _ in range(250)]}
    vmm.put("vm.create", config)
    length = len(vmm.api("GET", "vm.info").body)
    assert length > 1000000
    before = vmm.rss_kib()
    deaf = [vmm.connect() for _ in range(100)]
    for client in deaf:
        client.send(request_bytes("GET", "/api/v1/vm.info"))
    assert len(vmm.api("GET", "vm.info").body) == length
    assert vmm.is_sanitized() or vmm.rss_kib() < before + 80 * 1024
    # The oldest have lost theirs, the newest may still read them.
    with pytest.raises((EOFError, ConnectionResetError)):
        deaf[0].read_response()
    assert len(deaf[-1].read_response().body) == length
    for client in deaf:
        client.close()
    assert len(vmm.api("GET", "vm.info").body) == length


def test_event_streams_that_nobody_reads_cost_little_and_are_told_of_the_gap(vmm):
    streams = [vmm.events() for _ in range(100)]
    before = vmm.rss_kib()
    with vmm.connect() as client:
        for _ in range(2000):
            for name, body in (("vm.create", MINIMAL_CONFIG), ("vm.delete", None)):
                assert client.request("PUT", f"/api/v1/{name}", body).status == 204
    assert vmm.is_sanitized() or vmm.rss_kib() < before + 100 * 40
    for stream in streams:
        names = []
        while not names or names[-1] != "gap":
            names.append(stream.next().name)
        assert set(names[:-1]) <= {"vm:deleted"}
        stream.close()
    assert vmm.ping()


# --- floods ----------------------------------------------------------------------------------------------------------


def test_flood_of_pipelined_requests_leaves_others_their_turn(vmm):
    """Whose turn it was stands in the log."""
    flood = b"GET /api/v1/vm.info HTTP/1.1\r\n\r\n" * 400
    with vmm.connect() as greedy, vmm.connect() as modest:
        modest.request("GET", "/api/v1/vmm.ping")
        vmm.process.send_signal(signal.SIGSTOP)
        greedy.send(flood)
        modest.send(PING)
        vmm.process.send_signal(signal.SIGCONT)
        assert modest.read_response().status == 200
        assert {greedy.read_response().status for _ in range(400)} == {404}
    served = re.findall(r"API: GET /api/v1/(vm\.info|vmm\.ping)", vmm.log())
    assert served.count("vm.info") == 400
    last_ping = len(served) - 1 - served[::-1].index("vmm.ping")
    assert served[:last_ping].count("vm.info") <= 16 * 4


def test_flood_whose_answers_are_read_is_answered_to_the_last(vmm):
    count = 20000
    with vmm.connect() as client:

        def write():
            for _ in range(count // 500):
                client.sock.sendall(PING * 500)

        writer = threading.Thread(target=write)
        writer.start()
        assert all(client.read_response().status == 200 for _ in range(count))
        writer.join()
        assert client.is_silent()


def beginning(data):
    """For the name of a test."""
    return f"{data[:20]!r}-{len(data)}"


# --- heads -----------------------------------------------------------------------------------------------------------


def head_of(length):
    head = b"GET /api/v1/vmm.ping HTTP/1.1\r\nX: "
    return head + b"x" * (length - len(head) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("piece", [16384, 1000, 7])
def test_head_of_16_kib_is_read_and_one_byte_more_refused(vmm, piece):
    for length, status in ((16383, 200), (16384, 200), (16385, 400)):
        with vmm.connect() as client:
            head = head_of(length)
            try:
                for start in range(0, length, piece):
                    client.send(head[start : start + piece])
            except BrokenPipeError:
                pass
            answer = client.read_response()
            assert answer.status == status
            if status == 400:
                assert "16 KiB" in answer.json()[-1] and client.is_closed()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 16000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"\xff" * 8000 + b" HTTP/1.1\r\n\r\n",
        b"GET /api/v1/vmm.ping HTTP/1.1\r\n" + b"a:\r\n" * 4000 + b"\r\n",
        b"GET /api/v1/vmm.ping HTTP/1.1\r\n" + b"Expect: 100-continue\r\n" * 600 + b"\r\n",
        b"\r\n" * 8000 + PING,
    ],
    ids=beginning,
)
def test_odd_heads_within_the_limit_get_one_answer(vmm, head):
    with vmm.connect() as client:
        client.send(head + PING)
        assert client.read_response().status in (200, 404)
        assert client.read_response().status == 200
        assert client.is_silent()


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n" * 9000,
        b"a" * 20000,
        b"GET " + b"/" * 20000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000,
        b"GET / HTTP/1.1\r\n" + b"a" * 20000,
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 0x10\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\x1b[2J HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=beginning,
)
def test_heads_that_are_none_are_refused_and_the_connection_closed(vmm, head):
    with vmm.connect() as client:
        client.send(head)
        answer = client.read_response()
        assert answer.status == 400 and answer.header("Connection") == "close"
        assert len(answer.json()) == 2
        assert client.is_closed()
    assert vmm.ping()


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"\r\n",
        b"0x5\r\n",
        b"fffffffffffffffff\r\n",
        b"2\r\n{}5\r\n",
        b"2\n{}",
        b"2\x00\r\n",
        b"ffffffffffffff\r\n" + b" " * (4 * MIB + 1),
        b"400001\r\n" + b" " * (4 * MIB + 1),
        b"40\r\n" + (b" " * 64 + b"\r\n40\r\n") * 65537,
    ],
    ids=beginning,
)
def test_chunks_that_are_none_or_too_many_are_refused(vmm, rest):
    with vmm.connect() as client:
        try:
            client.send(CHUNKED + rest)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = client.read_response()
        assert answer.status == 400 and answer.header("Connection") == "close", answer
    assert vmm.state() is None


def test_trailers_and_extensions_are_passed_over_however_many(vmm):
    body = json.dumps(MINIMAL_CONFIG).encode()
    before = vmm.rss_kib()
    with vmm.connect() as client:
        client.send(CHUNKED + b"%x;" % len(body) + b"name" * 250000 + b"=value\r\n" + body + b"\r\n0\r\n")
        client.send(b"Expect: the-worst\r\nLast-Event-ID: none\r\nX: y\r\n" * 20000 + b"\r\n" + PING)
        assert client.read_response().status == 204
        assert client.read_response().status == 200
    assert vmm.is_sanitized() or vmm.rss_kib() < before + 2048


def test_body_that_is_too_large_is_refused_instead_of_asked_for(vmm):
    with vmm.connect() as client:
        client.send(b"PUT /api/v1/vm.create HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (4 * MIB + 1))
        assert client.read_response().status == 400
        assert client.is_closed()


def test_expected_body_may_come_in_chunks_after_one_interim_answer(vmm):
    body = json.dumps(MINIMAL_CONFIG).encode()
    with vmm.connect() as client:
        client.send(CHUNKED[:-2] + b"Expect: 100-continue\r\n\r\n")
        assert client.read_head().status == 100
        for byte in body:
            client.send(b"1\r\n%c\r\n" % byte)
        client.send(b"0\r\n\r\n")
        assert client.read_response().status == 204


def test_requests_that_end_with_the_connection_are_not_carried_out(vmm):
    for data in (CREATE[:-1], CHUNKED + b"2\r\n{}\r\n0\r\n"):
        with vmm.connect() as client:
            client.send(data)
            client.sock.shutdown(socket.SHUT_WR)
            assert client.is_closed()
    assert vmm.state() is None


# --- the end of patience ---------------------------------------------------------------------------------------------


def test_request_that_stands_still_is_given_up_but_neither_slow_nor_idle_clients(stalled):
    vmm = stalled.vmm

    wait_until(lambda: len(vmm.fds()) == len(stalled.before) + 2, 60, 0.5)
    stalled.stop_feeding()
    for where, client in stalled.clients.items():
        if where == "behind an interim answer":
            assert client.read_head().status == 100
        answer = client.read_response()
        assert answer.status == 408 and answer.header("Connection") == "close", where
        assert client.is_closed(), where
        client.close()
    stalled.slow.send(b"\r\n\r\n")
    assert stalled.slow.read_response().status == 200
    assert stalled.idle.request("GET", "/api/v1/vmm.ping").status == 200
    assert vmm.state() is None
    assert cpu_seconds(vmm) < 5
    stalled.slow.close()
    stalled.idle.close()
