# SPDX-License-Identifier: Apache-2.0
"""Connections by the ten thousand, no open files left, and listeners that are not as they should be."""

import contextlib
import os
import resource
import select
import socket
import subprocess
import threading
import time

import pytest
from coracle import BINARY, MINIMAL_CONFIG, Coracle, wait_until
from http_client import RawClient, request_bytes
from usage import Usage, check_growth, cpu_seconds

PING = request_bytes("GET", "/api/v1/vmm.ping")


@contextlib.contextmanager
def many_files():
    """This process may open as many as the machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def answer_to(client):
    """Status of the answer to one ping; 503 of a client that was sent away, maybe before it could say anything."""
    try:
        client.send(PING)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return client.read_response().status


# --- many ------------------------------------------------------------------------------------------------------------


def test_10000_connections_at_once_are_answered_or_sent_away(vmm):
    before = Usage(vmm)
    with many_files() as most, vmm.connect() as first:
        assert answer_to(first) == 200
        clients = [vmm.connect() for _ in range(min(10000, most - 200))]
        statuses = [answer_to(client) for client in clients]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) == 1023
        assert answer_to(first) == 200
        kept = [client for client, status in zip(clients, statuses, strict=True) if status == 200]
        assert all(answer_to(client) == 200 for client in kept)
        for client in clients:
            client.close()
    check_growth(vmm, before, 4096)
    assert vmm.ping()


def test_storm_of_connections_that_leave_in_every_way_leaves_nothing_behind(vmm):
    before = Usage(vmm)

    def storm(number):
        for i in range(1500):
            with vmm.connect() as client:
                way = (i + number) % 6
                if way == 1:
                    client.send(PING)
                elif way == 2:
                    client.send(PING[: i % len(PING)] or b"G")
                elif way == 3:
                    client.send(PING + PING[:20])
                    client.sock.shutdown(socket.SHUT_WR)
                elif way == 4:
                    client.send(request_bytes("GET", "/api/v1/vmm.events"))
                elif way == 5:
                    client.sock.shutdown(socket.SHUT_RDWR)

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_growth(vmm, before, 4096)
    assert vmm.ping()


# --- no open files left ----------------------------------------------------------------------------------------------


def leave_room_for(vmm, files):
    """Sets the process's limit on open files so that it may open so many more."""
    resource.prlimit(vmm.pid, resource.RLIMIT_NOFILE, (max(vmm.fds()) + 1 + files, 20000))


def idle_cpu_seconds(vmm, seconds=1):
    before = cpu_seconds(vmm)
    time.sleep(seconds)
    return cpu_seconds(vmm) - before


def test_clients_are_told_when_there_are_no_open_files_and_served_when_there_are_again(vmm):
    before = vmm.fds_at_rest()
    with vmm.connect() as first:
        assert answer_to(first) == 200
        leave_room_for(vmm, 3)
        clients = [vmm.connect() for _ in range(200)]
        statuses = [answer_to(client) for client in clients]
        assert statuses.count(200) == 3 and statuses.count(503) == 197
        assert answer_to(first) == 200
        assert "Cannot accept an API connection: Too many open files" in vmm.log()
        # Nothing of that repeats itself while nobody comes.
        assert idle_cpu_seconds(vmm) < 0.3
        for client in clients:
            client.close()
        wait_until(lambda: len(vmm.fds()) == len(before) + 1)
        assert vmm.ping() and answer_to(first) == 200
    wait_until(lambda: len(vmm.fds()) == len(before))


def test_process_without_even_a_spare_place_waits_without_spinning(vmm):
    with vmm.connect() as first:
        assert answer_to(first) == 200
        resource.prlimit(vmm.pid, resource.RLIMIT_NOFILE, (3, 20000))
        waiting = [vmm.connect() for _ in range(50)]
        for client in waiting:
            client.send(PING)
        assert answer_to(first) == 200
        assert idle_cpu_seconds(vmm) < 0.3
        assert answer_to(first) == 200
        assert vmm.log().count("Cannot accept an API connection") < 20
        resource.prlimit(vmm.pid, resource.RLIMIT_NOFILE, (20000, 20000))
        assert {client.read_response().status for client in waiting} == {200}
        for client in waiting:
            client.close()
    assert vmm.ping()


def test_requests_that_need_a_file_fail_and_succeed_when_there_is_one_again(vmm, tmp_path):
    config = {**MINIMAL_CONFIG, "serial": {"mode": "File", "file": str(tmp_path / "serial")}}
    with vmm.connect() as client:
        assert answer_to(client) == 200
        leave_room_for(vmm, 0)
        answer = client.request("PUT", "/api/v1/vm.create", config)
        assert answer.status == 500 and "Too many open files" in " ".join(answer.json())
        assert client.request("GET", "/api/v1/vm.info").status == 404
        resource.prlimit(vmm.pid, resource.RLIMIT_NOFILE, (20000, 20000))
        assert client.request("PUT", "/api/v1/vm.create", config).status == 204


# --- listeners -------------------------------------------------------------------------------------------------------


def test_path_that_is_removed_leaves_the_connections_that_there_are(vmm):
    with vmm.connect() as client, vmm.events() as stream:
        os.unlink(vmm.socket_path)
        with pytest.raises(FileNotFoundError):
            vmm.connect()
        assert client.request("PUT", "/api/v1/vm.create", MINIMAL_CONFIG).status == 204
        assert client.request("PUT", "/api/v1/vm.delete").status == 204
        stream.wait_for("vm:deleted")
        vmm.process.terminate()
        stream.wait_for("vmm:shutdown")
        assert vmm.wait() == 0


def test_path_that_is_another_ones_by_now_is_not_removed_at_the_end(tmp_path):
    path = tmp_path / "api.sock"
    process = subprocess.Popen([BINARY, "--api-socket", f"path={path}"], stdin=subprocess.DEVNULL)
    wait_until(path.exists)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        process.terminate()
        assert process.wait(10) == 0
        assert path.exists()


@contextlib.contextmanager
def serving(listener):
    """Another process on the same listener."""
    process = subprocess.Popen(
        [BINARY, "--api-socket", f"fd={listener.fileno()}"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[listener.fileno()],
    )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_two_processes_on_one_listener_share_its_clients_and_none_gets_stuck(tmp_path):
    """Even when somebody who has the listener too sets it to wait now and then."""
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        with serving(listener) as one, serving(listener) as two:
            pids, clients = set(), []
            for i in range(1000):
                if i % 200 == 0:
                    time.sleep(0.2)  # not while one of them is about to accept
                    os.set_blocking(listener.fileno(), True)
                client = RawClient(path)
                pids.add(client.request("GET", "/api/v1/vmm.ping").json()["pid"])
                if i % 100 == 0:
                    clients.append(client)
                else:
                    client.close()
            assert pids <= {one.pid, two.pid}
            assert all(answer_to(client) == 200 for client in clients)
            # Their ends show that neither waits in accept().


def test_listener_that_its_owner_shuts_down_is_told_once_and_the_rest_goes_on(tmp_path):
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        log = tmp_path / "log"
        with open(log, "wb") as stderr:
            process = subprocess.Popen(
                [BINARY, "--api-socket", f"fd={listener.fileno()}"],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[listener.fileno()],
            )
        with RawClient(path) as client:
            assert answer_to(client) == 200
            listener.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: "shut down by its owner" in log.read_text())
            with pytest.raises(ConnectionRefusedError):
                RawClient(path)
            assert answer_to(client) == 200
        process.terminate()
        assert process.wait(10) == 0
        assert log.read_text().count("shut down by its owner") == 1


def udp(directory):
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def unix_datagrams(directory):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(directory / "datagrams"))
    return sock


def unix_packets(directory):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(str(directory / "packets"))
    sock.listen()
    return sock


def connection(directory):
    return socket.socketpair()[0]


def bound_only(directory):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(directory / "bound"))
    return sock


def pipe(directory):
    return os.fdopen(os.pipe()[0], "rb")


def epoll(directory):
    return select.epoll()


def file(directory):
    return open(directory / "file", "wb")


@pytest.mark.parametrize(
    "make, words",
    [
        (udp, "not of AF_UNIX"),
        (unix_datagrams, "not a stream socket"),
        (unix_packets, "not a stream socket"),
        (connection, "not listening"),
        (bound_only, "not listening"),
        (pipe, "not a socket"),
        (epoll, "not a socket"),
        (file, "not a socket"),
    ],
)
def test_descriptor_that_is_no_listener_is_refused_by_what_it_is(tmp_path, make, words):
    with make(tmp_path) as thing:
        result = subprocess.run(
            [BINARY, "--api-socket", f"fd={thing.fileno()}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=[thing.fileno()],
            timeout=30,
        )
    assert result.returncode == 1
    assert words in result.stderr


@pytest.mark.parametrize("number", ["200", "-1", "2147483647", "2147483648", "99999999999999999999", "", "3x", " 3", "0x3"])
def test_number_that_is_no_descriptor_is_refused(number):
    result = subprocess.run(
        [BINARY, "--api-socket", f"fd={number}"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") <= 3 and "Sanitizer" not in result.stderr
