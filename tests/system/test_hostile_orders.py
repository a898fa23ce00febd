# SPDX-License-Identifier: Apache-2.0
"""Requests in every order from 50 clients at once: only what the document says comes back, everybody gets it, and the
process is as good as new."""

import contextlib
import os
import random
import socket
import threading
import time

import pytest
import tiny
import yaml
from coracle import CHECKOUT, Coracle
from http_client import RawClient, request_bytes
from usage import Usage, check_growth

pytestmark = tiny.needs_kvm

CLIENTS = 50
REQUESTS = 40  # of each client
DOCUMENT = os.path.join(CHECKOUT, "packaging", "openapi", "coracle.yaml")

# Why the state, or another client's request, does not allow it: the only reasons for a 500 here.
REASONS = ("InvalidStateTransition(", "VM is not running", "VM is already created", "VM is not created", "cancelled", "not booted")


def documented():
    """{endpoint: (method, statuses)}"""
    with open(DOCUMENT, encoding="utf-8") as file:
        paths = yaml.safe_load(file)["paths"]
    found = {}
    for path, item in paths.items():
        ((method, operation),) = item.items()
        found[path.lstrip("/")] = (method.upper(), {int(status) for status in operation["responses"]})
    return found


ENDPOINTS = documented()


class Client:
    """One of the many. What it does follows from its seed; what was wrong is in `wrong`."""

    def __init__(self, path, seed, null):
        self.path, self.choose, self.null = path, random.Random(seed), null
        self.wrong, self.answered = [], 0
        self.names = sorted(set(ENDPOINTS) - {"vmm.shutdown", "vmm.events"}) + ["vm.create", "vm.boot"] * 2

    def body(self, name):
        if name == "vm.create":
            words = self.choose.choice(("ready", "ready", "reset", "triple"))
            return tiny.config(words, vcpus=self.choose.choice((1, 1, 2)))
        if name == "vm.add-disk":
            return {"path": f"/nonexistent/{self.choose.randrange(3)}", "image_type": "Raw"}
        return {"num_queues": 2} if name == "vm.add-net" else None

    def request(self):
        name = self.choose.choice(self.names)
        fds = [self.null] if name == "vm.add-net" and self.choose.randrange(2) else []
        return name, request_bytes(ENDPOINTS[name][0], f"/api/v1/{name}", self.body(name)), fds

    def check(self, name, answer):
        self.answered += 1
        messages = answer.json() if answer.status >= 400 else []
        if answer.status not in ENDPOINTS[name][1]:
            self.wrong.append((name, answer))
        elif answer.status == 500 and not any(reason in " ".join(messages) for reason in REASONS):
            # A disk that does not exist, or a tap that cannot be had, which others have added.
            if not (name == "vm.boot" and ("/nonexistent/" in str(messages) or " tap" in str(messages))):
                self.wrong.append((name, answer))

    def ask(self, connection):
        name, data, fds = self.request()
        connection.send(data, fds)
        self.check(name, connection.read_response())

    def pipeline(self, connection):
        requests = [self.request() for _ in range(self.choose.randrange(2, 6))]
        for _, data, fds in requests:
            connection.send(data, fds)
        for name, _, _ in requests:
            self.check(name, connection.read_response())

    def leave_half_way(self, connection):
        _, data, fds = self.request()
        with RawClient(self.path) as other:
            other.send(data[: self.choose.randrange(1, len(data))], fds)

    def leave_early(self, connection):
        _, data, fds = self.request()
        with RawClient(self.path) as other:
            other.send(data, fds)

    def listen(self, connection):
        with RawClient(self.path, 60) as other:
            other.send(request_bytes("GET", "/api/v1/vmm.events", headers=["Last-Event-ID: 0"]))
            assert other.read_head().status == 200
            other.read_until(b"\n\n")

    def run(self):
        acts = [self.ask] * 8 + [self.pipeline] * 2 + [self.leave_half_way, self.leave_early, self.listen]
        try:
            with RawClient(self.path, 120) as connection:
                for _ in range(REQUESTS):
                    self.choose.choice(acts)(connection)
        except Exception as error:
            self.wrong.append(repr(error))


def run_all(clients, meanwhile=lambda: None):
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join(180)
    assert not any(thread.is_alive() for thread in threads), "somebody still waits for an answer"


@pytest.fixture(name="null")
def dev_null():
    with open("/dev/null", "r+b") as file:
        yield file.fileno()


@pytest.mark.parametrize("seed", [20240301, 7])
def test_50_clients_in_every_order(vmm, null, seed):
    print(f"seed {seed}")
    vmm.put("vm.create", tiny.config())
    vmm.put("vm.boot")
    vmm.put("vm.delete")
    before = Usage(vmm)
    clients = [Client(vmm.socket_path, seed * 1000 + number, null) for number in range(CLIENTS)]
    run_all(clients)
    wrong = [item for client in clients for item in client.wrong]
    assert not wrong, wrong[:5]
    assert sum(client.answered for client in clients) > CLIENTS * REQUESTS / 2
    vmm.put("vm.delete")
    assert vmm.state() is None
    check_growth(vmm, before)
    vmm.put("vm.create", tiny.config())
    vmm.put("vm.boot")
    assert vmm.state() == "Running"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_process_that_is_told_to_end_in_the_middle_ends_in_order(null, seed):
    """Everybody gets an answer or sees the connection closed, however far they are."""
    print(f"seed {seed}")
    gone = ("EOFError", "BrokenPipeError", "ConnectionResetError", "ConnectionRefusedError")
    with Coracle() as vmm:
        clients = [Client(vmm.socket_path, seed * 1000 + number, null) for number in range(CLIENTS)]
        enough = seed * 100

        def end():
            while sum(client.answered for client in clients) < enough:
                time.sleep(0.005)
            with contextlib.suppress(ConnectionError, EOFError):
                assert vmm.api("PUT", "vmm.shutdown").status == 204

        run_all(clients, end)
        assert vmm.wait(10) == 0
        wrong = [item for client in clients for item in client.wrong]
        assert len(wrong) <= CLIENTS, wrong[:5]
        assert all(isinstance(item, str) and item.startswith(gone) for item in wrong), wrong[:5]
        assert sum(client.answered for client in clients) >= enough


@pytest.mark.parametrize("first", ["vm.create", "vm.boot", "vm.pause", "vm.resume", "vm.reboot", "vm.shutdown", "vm.delete"])
def test_same_request_from_all_at_once_is_answered_to_all(vmm, first):
    """None is carried out twice, none is forgotten."""
    if first != "vm.create":
        vmm.put("vm.create", tiny.config())
    if first not in ("vm.create", "vm.boot"):
        vmm.put("vm.boot")
    if first == "vm.resume":
        vmm.put("vm.pause")
    body = tiny.config() if first == "vm.create" else None
    clients = [vmm.connect(60) for _ in range(CLIENTS)]
    for client in clients:
        client.send(request_bytes("PUT", f"/api/v1/{first}", body))
        client.sock.shutdown(socket.SHUT_WR)
    statuses = [client.read_response().status for client in clients]
    for client in clients:
        client.close()
    once = {"vm.create", "vm.boot", "vm.shutdown"}
    assert statuses.count(204) == (1 if first in once else CLIENTS), statuses
    assert set(statuses) <= {204, 500}
    vmm.put("vm.delete")
    assert vmm.state() is None
