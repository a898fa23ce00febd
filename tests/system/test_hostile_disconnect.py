# SPDX-License-Identifier: Apache-2.0
"""Clients that leave at every byte of every request: either all of it was carried out, or nothing."""

import socket

import pytest
import tiny
from coracle import MINIMAL_CONFIG, Coracle, wait_until
from http_client import request_bytes
from usage import Usage, check_growth

DISK = {"path": "/nonexistent/disk", "image_type": "Raw"}

# (method, endpoint, body, state before, state after): what each does when it is carried out.
REQUESTS = [
    ("GET", "vmm.ping", None, "None", "None"),
    ("GET", "vmm.events", None, "None", "None"),
    ("GET", "vm.info", None, "Created", "Created"),
    ("GET", "vm.counters", None, "Running", "Running"),
    ("GET", "vm.nothing", None, "Created", "Created"),
    ("PUT", "vm.create", MINIMAL_CONFIG, "None", "Created"),
    ("PUT", "vm.add-disk", DISK, "Created", "Created"),
    ("PUT", "vm.add-net", {"num_queues": 2}, "Created", "Created"),
    ("PUT", "vm.boot", None, "Created", "Running"),
    ("PUT", "vm.pause", None, "Running", "Paused"),
    ("PUT", "vm.resume", None, "Paused", "Running"),
    ("PUT", "vm.power-button", None, "Running", "Running"),
    ("PUT", "vm.nmi", None, "Running", "Running"),
    ("PUT", "vm.reboot", None, "Running", "Running"),
    ("PUT", "vm.shutdown", None, "Running", "Created"),
    ("PUT", "vm.delete", None, "Created", "None"),
    ("PUT", "vm.delete", None, "Running", "None"),
]
NEEDS_KVM = ("Running", "Paused")
PARAMS = [
    pytest.param(*request, id=f"{request[1]}-{request[3]}", marks=[tiny.needs_kvm] if set(request[3:]) & set(NEEDS_KVM) else [])
    for request in REQUESTS
]


def close(client, data, fds=()):
    client.send(data, fds)
    client.close()


def say_no_more(client, data, fds=()):
    """Waits for the other end to close, too."""
    client.send(data, fds)
    client.sock.shutdown(socket.SHUT_WR)
    while client.sock.recv(65536):
        pass
    client.close()


def reset(client, data, fds=()):
    """Closes with an answer that was not read, which the other end sees as a reset."""
    client.send(request_bytes("GET", "/api/v1/vmm.ping"))
    client.sock.recv(1, socket.MSG_PEEK)
    client.send(data, fds)
    client.close()


def reset_early(client, data, fds=()):
    """The answer to the one before may find nobody, and then this one is not looked at."""
    client.send(request_bytes("GET", "/api/v1/vmm.ping") + data, fds)
    client.close()


WAYS = [close, say_no_more, reset]


@pytest.fixture(scope="module")
def vmm():
    """One process for all: whatever it keeps adds up."""
    with Coracle() as process:
        process.ping()
        yield process


def enter(vmm, state):
    vmm.put("vm.delete")
    if state == "None":
        return
    vmm.put("vm.create", tiny.config())
    if state in NEEDS_KVM:
        vmm.put("vm.boot")
    if state == "Paused":
        vmm.put("vm.pause")


def configuration(vmm):
    return vmm.info()["config"] if vmm.state() else None


def bodies(method, name, body):
    """The request as different clients send it."""
    yield request_bytes(method, f"/api/v1/{name}", body)
    if body:
        text = request_bytes(method, f"/api/v1/{name}", body).split(b"\r\n\r\n")[1]
        head = f"{method} /api/v1/{name} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        yield head + b"%x\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(text), text)


@pytest.mark.parametrize("method, name, body, before, after", PARAMS)
def test_client_that_leaves_at_any_byte(vmm, method, name, body, before, after):
    enter(vmm, before)
    rest, config = Usage(vmm), configuration(vmm)
    with open("/dev/null") as null:
        for request in bodies(method, name, body):
            for cut in range(len(request)):
                for leave in (*WAYS, reset_early):
                    leave(vmm.connect(), request[:cut] or b"\r", [null.fileno()] if name == "vm.add-net" else [])
    wait_until(lambda: len(vmm.fds()) == len(rest.fds))
    # The half requests are seen to be gone, and nothing has come of any.
    check_growth(vmm, rest)
    assert (vmm.state() or "None") == before
    assert configuration(vmm) == config


@pytest.mark.parametrize("method, name, body, before, after", PARAMS)
@pytest.mark.parametrize("leave", WAYS)
def test_client_that_leaves_behind_the_last_byte(vmm, method, name, body, before, after, leave):
    enter(vmm, before)
    devices = dict.fromkeys(("disks", "net"), 0)
    for request in bodies(method, name, body):
        if name == "vm.create":
            enter(vmm, before)
        leave(vmm.connect(), request)
        wait_until(lambda: (vmm.state() or "None") == after)
        for kind in devices:
            devices[kind] += name == {"disks": "vm.add-disk", "net": "vm.add-net"}[kind]
    if body and after == "Created" and name != "vm.create":
        wait_until(lambda: {kind: len(configuration(vmm).get(kind, [])) for kind in devices} == devices)
    vmm.fds_at_rest()
    # It does as before what others ask for.
    enter(vmm, "None")
    assert vmm.api("PUT", "vm.create", tiny.config()).status == 204


def test_client_that_leaves_while_its_request_waits_for_its_turn(vmm):
    """A queue full of requests whose senders are gone is worked off all the same."""
    enter(vmm, "None")
    for _ in range(20):
        clients = [vmm.connect() for _ in range(20)]
        for i, client in enumerate(clients):
            verb = ("vm.create", "vm.delete")[i % 2]
            client.send(request_bytes("PUT", f"/api/v1/{verb}", MINIMAL_CONFIG if i % 2 == 0 else None))
        for client in clients:
            client.close()
    vmm.fds_at_rest()
    enter(vmm, "None")
    assert vmm.state() is None


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_client_that_leaves_half_way_does_not_keep_the_process_from_its_end(cut):
    with Coracle() as vmm:
        vmm.put("vm.create", MINIMAL_CONFIG)
        request = request_bytes("PUT", "/api/v1/vmm.shutdown")
        client = vmm.connect()
        client.send(request[:cut] or b"\r")
        client.close()
        halves = [vmm.connect() for _ in range(20)]
        for half in halves:
            half.send(request[: len(request) - 1])
        assert vmm.state() == "Created"
        client = vmm.connect()
        client.send(request)
        client.close()
        assert vmm.wait(10) == 0
        for half in halves:
            assert half.is_closed()
            half.close()
