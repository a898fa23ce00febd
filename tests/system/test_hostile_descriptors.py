# SPDX-License-Identifier: Apache-2.0
"""Descriptors by the hundred and of odd kinds, with requests that want none, and with none at all: none is kept."""

import array
import contextlib
import os
import resource
import select
import socket
import struct
import tempfile

import pytest
from coracle import MINIMAL_CONFIG, Coracle, wait_until
from http_client import request_bytes
from usage import Usage, check_growth

PING = request_bytes("GET", "/api/v1/vmm.ping")
MOST = 253  # that one message can carry


@contextlib.contextmanager
def dev_nulls(count):
    fds = [os.open("/dev/null", os.O_RDWR) for _ in range(count)]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def passed(fds):
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


# Each makes a descriptor, given the connection over which it will be sent.
KINDS = {
    "epoll that watches the connection": lambda sock: watching(sock),
    "own end of the connection": lambda sock: os.dup(sock.fileno()),
    "directory": lambda sock: os.open("/", os.O_RDONLY | os.O_DIRECTORY),
    "O_PATH": lambda sock: os.open("/dev/null", os.O_PATH),
    "regular file": lambda sock: os.open(__file__, os.O_RDONLY),
    "memfd": lambda sock: os.memfd_create("x"),
    "eventfd": lambda sock: os.eventfd(0),
    "pidfd": lambda sock: os.pidfd_open(os.getpid()),
    "pipe": lambda sock: one_of(os.pipe()),
    "socket": lambda sock: socket.socket(socket.AF_INET).detach(),
    "listening socket": lambda sock: listening().detach(),
    "deleted file": lambda sock: deleted_file(),
}


def watching(sock):
    epoll = select.epoll()
    epoll.register(sock, select.EPOLLIN)
    return os.dup(epoll.fileno())


def deleted_file():
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def one_of(fds):
    os.close(fds[1])
    return fds[0]


def listening():
    sock = socket.socket(socket.AF_INET)
    sock.listen()
    return sock


@pytest.fixture(scope="module")
def vmm():
    """One process for all: whatever it keeps adds up."""
    with Coracle() as process:
        process.put("vm.create", MINIMAL_CONFIG)
        before = Usage(process)
        yield process
        check_growth(process, before)


@pytest.fixture(autouse=True)
def nothing_is_kept(vmm):
    before = len(vmm.fds_at_rest())
    yield
    wait_until(lambda: len(vmm.fds()) == before)


# --- odd kinds -------------------------------------------------------------------------------------------------------

REQUESTS = {
    "one that wants none": (PING, 200),
    "none": (b"", None),
    "half of one": (b"PUT /api/v1/vm.add-net HTTP/1.1\r\nContent-Le", None),
    "what is not HTTP": (b"no\r\n\r\n", 400),
    "an unknown endpoint": (request_bytes("PUT", "/api/v1/vm.nothing", {}), 404),
    "a disk": (request_bytes("PUT", "/api/v1/vm.add-disk", {"path": 5}), 400),
    "a second VM": (request_bytes("PUT", "/api/v1/vm.create", MINIMAL_CONFIG), 500),
    "a wrong body": (request_bytes("PUT", "/api/v1/vm.add-net", b"{"), 400),
}


@pytest.mark.parametrize("kind", KINDS)
def test_descriptor_of_odd_kind_with_any_request(vmm, kind):
    for data, status in REQUESTS.values():
        # Seen to be gone only when patience ends: see test_hostile_clients.py.
        if kind == "own end of the connection" and not status:
            continue
        with vmm.connect() as client:
            fd = KINDS[kind](client.sock)
            client.send(data or b"\r", [fd] * 3)
            os.close(fd)
            if status:
                assert client.read_response().status == status


@pytest.mark.parametrize("kind", KINDS)
def test_descriptor_that_is_no_tap_is_refused_by_add_net(vmm, kind):
    with vmm.connect() as client, dev_nulls(1) as nulls:
        fd = KINDS[kind](client.sock)
        answer = client.request("PUT", "/api/v1/vm.add-net", {"num_queues": 4}, [nulls[0], fd])
        os.close(fd)
        if kind == "O_PATH":  # of a character device: fails where a tap is needed
            assert answer.status == 204
            assert client.request("PUT", "/api/v1/vm.boot").status in (400, 500)
            client.request("PUT", "/api/v1/vm.delete")
            assert client.request("PUT", "/api/v1/vm.create", MINIMAL_CONFIG).status == 204
        else:
            assert answer.status == 400
            assert answer.json()[-1] == "File descriptor 1 of the request is no tap: not a character device"
        assert "net" not in client.request("GET", "/api/v1/vm.info").json()["config"]


def test_socket_that_lingers_holds_up_nobody(vmm):
    """Closed by its last owner it would wait until its peer has read everything, or for these ten minutes."""
    for data in (PING[:10], PING, request_bytes("PUT", "/api/v1/vm.add-net", {})):
        with listening() as listener, socket.create_connection(listener.getsockname()) as sock, listener.accept()[0]:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(bytes(65536))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
            with vmm.connect() as client:
                client.send(data, [sock.fileno()])
                sock.close()
            for _ in range(20):
                assert vmm.api("GET", "vmm.ping", timeout=10).status == 200


# --- by the hundred --------------------------------------------------------------------------------------------------


def test_more_than_a_message_can_carry_never_arrives(vmm):
    with dev_nulls(MOST + 1) as fds, vmm.connect() as client:
        with pytest.raises(OSError):
            client.sock.sendmsg([PING], passed(fds))
        assert client.request("GET", "/api/v1/vmm.ping").status == 200


def test_more_than_a_request_can_have_are_told_to_be_too_many(vmm):
    """In as many messages as it takes."""
    request = request_bytes("PUT", "/api/v1/vm.add-net", {"num_queues": 2})
    with dev_nulls(MOST) as fds, vmm.connect() as client:
        for i in range(5):
            client.send(request[i : i + 1], fds)
        client.send(request[5:])
        answer = client.read_response()
        assert answer.status == 500 and "descriptors were lost" in answer.json()[-1]
        # And the next one is none the worse for it.
        answer = client.request("PUT", "/api/v1/vm.add-net", {"num_queues": 2}, fds[:2])
        assert answer.status == 400 and "2 file descriptors" in answer.json()[-1]


def test_descriptors_with_every_byte_of_a_request(vmm):
    request = request_bytes("PUT", "/api/v1/vm.add-net", {"num_queues": 2})
    with dev_nulls(2) as fds, vmm.connect() as client:
        for i in range(len(request)):
            client.send(request[i : i + 1], fds)
        answer = client.read_response()
        assert answer.status == 400 and f"{2 * len(request)} file descriptors" in answer.json()[-1]


def test_descriptors_in_a_pipeline_belong_to_nobody_else(vmm):
    """Each request has its own, or none."""
    with dev_nulls(100) as fds, vmm.connect() as client:
        for i in range(50):
            client.send(PING, fds)
            client.send(request_bytes("PUT", "/api/v1/vm.add-net", {"num_queues": 4, "fds": [1, 2]}), fds[: i % 2])
        for i in range(50):
            assert client.read_response().status == 200
            answer = client.read_response()
            assert answer.status == 400 and f"{i % 2} file descriptors" in answer.json()[-1]


def test_descriptors_sent_to_an_event_stream_are_closed(vmm):
    with dev_nulls(MOST) as fds, vmm.events() as stream:
        before = len(vmm.fds())
        for _ in range(50):
            stream.client.send(b"x", fds)
        wait_until(lambda: len(vmm.fds()) == before)


def test_many_at_once_that_stop_half_way_and_leave(vmm):
    with dev_nulls(200) as fds:
        for _ in range(20):
            clients = [vmm.connect() for _ in range(10)]
            for client in clients:
                client.send(PING[:30], fds)
            for client in clients:
                client.close()
        assert vmm.ping()


def test_unfinished_requests_leave_the_process_its_files(vmm):
    """What they hold together has a bound, whatever the process may open: beyond it they get none."""
    config = {**MINIMAL_CONFIG, "serial": {"mode": "Pty"}}

    def files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    with Coracle(preexec_fn=files) as vmm, dev_nulls(MOST) as fds:
        clients = [vmm.connect() for _ in range(20)]
        for client in clients:
            client.send(b"PUT /api/v1/vm.add-net HTTP/1.1\r\n", fds)
        vmm.put("vm.create", config)
        assert len(vmm.fds()) < 256 + 20 + 40
        clients[-1].send(b"Content-Length: 2\r\n\r\n{}")
        answer = clients[-1].read_response()
        assert answer.status == 500 and "descriptors were lost" in answer.json()[-1]
        for client in clients:
            client.close()
        assert vmm.api("PUT", "vm.add-net", {}, fds[:1]).status == 204
