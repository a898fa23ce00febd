# SPDX-License-Identifier: Apache-2.0
"""The HTTP dialect that existing clients of this API need, each rule with the bytes of a client that breaks without it.

No request leads to a 429 yet: its phrase is tested on the codec (tests/unit/test_http.c). Nor is there an answer to a
hot-plug; the form of its `bdf` is tested where there are some, in the device tree.
"""

import concurrent.futures
import json
import os
import random
import re
import resource
import socket
import threading
import time

import pytest
import tiny
from coracle import MINIMAL_CONFIG, Coracle, wait_until
from http_client import RawClient, request_bytes

PING = request_bytes("GET", "/api/v1/vmm.ping")
CONFIG = json.dumps(MINIMAL_CONFIG).encode()


@pytest.fixture
def created(vmm):
    vmm.put("vm.create", MINIMAL_CONFIG)
    return vmm


def number_of_fds(vmm):
    return len(vmm.fds())


def tap_likes(count):
    """Descriptors to send in place of taps."""
    return [os.open("/dev/null", os.O_RDWR) for _ in range(count)]


def close_all(fds):
    for fd in fds:
        os.close(fd)


# --- W1 to W6: what an answer looks like ---------------------------------------------------------------------------------


def test_success_has_no_reason_phrase(vmm):
    """The Rust api_client parses all between "HTTP/1.1 " and CR as an integer, trimmed."""
    with vmm.connect() as client:
        client.send(PING)
        assert client.read_until(b"\r\n") == b"HTTP/1.1 200 "
    with vmm.connect() as client:
        client.send(request_bytes("PUT", "/api/v1/vm.create", CONFIG))
        assert client.read_until(b"\r\n") == b"HTTP/1.1 204 "


def test_errors_have_no_reason_phrase_either(vmm):
    assert vmm.api("GET", "vm.info").status_line == "HTTP/1.1 404 "
    assert vmm.api("PUT", "vm.create", b"{").status_line == "HTTP/1.1 400 "
    assert vmm.api("PUT", "vm.pause").status_line == "HTTP/1.1 500 "


def test_headers_are_spelled_and_ordered_as_ever(vmm):
    response = vmm.api("GET", "vmm.ping")
    assert [name for name, _ in response.headers] == ["Server", "Connection", "Content-Type", "Content-Length"]
    assert response.header("Server") == "Cloud Hypervisor API"
    assert response.header("Connection") == "keep-alive"
    assert b"\r\nContent-Length: %d\r\n" % len(response.body) in response.raw


def test_no_content_says_nothing_of_length_or_type(vmm):
    """The Rust client takes "Content-Length: 0" for a body and parses it as JSON."""
    response = vmm.api("PUT", "vm.create", CONFIG)
    assert response.raw == b"HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n"


def test_every_body_is_declared_as_json(vmm):
    for response in (
        vmm.api("GET", "vmm.ping"),
        vmm.api("GET", "vm.info"),
        vmm.api("GET", "nonsense"),
        vmm.api("PUT", "vm.create", b"{"),
    ):
        assert response.header("Content-Type") == "application/json"
        json.loads(response.body)


def test_answers_are_ascii_only(vmm):
    """The Rust client decodes every 256 bytes of an answer on their own."""
    cmdline = "x=" + "\u00e9\u20ac\U0001f600" * 100
    vmm.put("vm.create", {**MINIMAL_CONFIG, "payload": {"kernel": "/k", "cmdline": cmdline}})
    response = vmm.api("GET", "vm.info")
    assert response.body.isascii()
    assert response.json()["config"]["payload"]["cmdline"] == cmdline
    with vmm.connect() as client:
        response = client.request("GET", "/api/v1/h\u00e9".encode().decode("latin-1").encode("latin-1").decode("utf-8"))
        assert response.body.isascii()


# --- W7, W8: connections ---------------------------------------------------------------------------------------------------


def test_one_connection_carries_many_requests_and_others_are_served_meanwhile(vmm):
    """Kata's Rust runtime keeps one socket for the VM's life; the Go one has a pool, a raw socket and a monitor."""
    with vmm.connect() as forever, vmm.connect() as raw:
        raw.send(b"PUT /api/v1/vm.add-net HTTP/1.1\r\n")  # and stops there
        for _ in range(50):
            assert forever.request("GET", "/api/v1/vmm.ping").status == 200
            assert vmm.ping()["pid"] == vmm.pid
        raw.send(b"Content-Length: 2\r\n\r\n{}")
        assert raw.read_response().status == 404


def test_pipelined_requests_are_answered_in_order(vmm):
    with vmm.connect() as client:
        client.send(
            request_bytes("PUT", "/api/v1/vm.create", CONFIG)
            + request_bytes("GET", "/api/v1/vm.info")
            + request_bytes("PUT", "/api/v1/vm.delete")
            + request_bytes("GET", "/api/v1/vm.info")
            + PING
        )
        assert [client.read_response().status for _ in range(5)] == [204, 200, 204, 404, 200]


def test_connection_close_is_honoured(vmm):
    """Virtink's client does without keep-alive."""
    with vmm.connect() as client:
        response = client.request("GET", "/api/v1/vmm.ping", headers=["Connection: close"])
        assert response.status == 200
        assert response.header("Connection") == "close"
        assert client.is_closed()


def test_client_that_has_said_all_still_gets_its_answers(vmm):
    with vmm.connect() as client:
        client.send(PING + PING)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_response().status == 200
        assert client.read_response().status == 200
        assert client.is_closed()


ADD_NET_KATA_GO = (
    b"PUT /api/v1/vm.add-net HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Go-http-client/1.1\r\n"
    b"Content-Length: %d\r\nAccept: application/json\r\nContent-Type: application/json\r\n\r\n%s"
)


def test_add_net_answer_is_one_short_read(created):
    """libvirt reads it by one recv of 1,023 bytes and scans the code; the rest would spoil the next request."""
    body = json.dumps({"id": "net_0", "mac": "52:54:00:11:22:33", "num_queues": 2, "queue_size": 256}).encode()
    fds = tap_likes(1)
    with created.connect() as client:
        client.send(ADD_NET_KATA_GO % (len(body), body), fds)
        answer = client.recv_once(1023)
        assert answer.startswith(b"HTTP/1.1 204 ") and answer.endswith(b"\r\n\r\n")
        wrong = json.dumps({"id": "n" * 3000, "mac": "\u00e9" * 3000}).encode()
        client.send(ADD_NET_KATA_GO % (len(wrong), wrong))
        answer = client.recv_once(1023)
        head, text = answer.split(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(text) in head
        assert answer.startswith(b"HTTP/1.1 400 ") and len(json.loads(text)) > 1
        assert client.request("GET", "/api/v1/vmm.ping").status == 200
    close_all(fds)


# --- W9, W10: bodies ---------------------------------------------------------------------------------------------------------


def test_content_length_zero_on_put_is_no_body(created):
    """Go sends it for a nil body."""
    with created.connect() as client:
        client.send(
            b"PUT /api/v1/vm.delete HTTP/1.1\r\nHost: localhost\r\nUser-Agent: OpenAPI-Generator/1.0.0/go\r\n"
            b"Content-Length: 0\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
        )
        assert client.read_response().status == 204


def test_curl_upload_of_nothing_is_no_body_and_gets_no_interim_answer(created):
    """libvirt: CURLOPT_UPLOAD with INFILESIZE 0."""
    with created.connect() as client:
        client.send(
            b"PUT /api/v1/vm.delete HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
            b"Content-Length: 0\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read_response().status == 204
        assert client.is_silent()


@pytest.mark.parametrize("verb", ["vm.boot", "vm.delete", "vm.shutdown", "vm.reboot", "vm.pause", "vm.resume", "vm.nmi"])
def test_body_where_none_belongs_is_refused(created, verb):
    response = created.api("PUT", verb, b"{}")
    assert response.status == 400
    assert "takes no body" in response.json()[-1]
    assert created.state() == "Created"


@pytest.mark.parametrize("verb", ["vm.create", "vm.add-net", "vm.add-disk"])
def test_missing_body_is_refused(created, verb):
    assert created.api("PUT", verb).status == 400


def test_curl_gets_100_continue_before_it_sends_a_body(vmm):
    with vmm.connect() as client:
        client.send(
            b"PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(CONFIG)
        )
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 "
        client.send(CONFIG)
        assert client.read_response().status == 204


def test_no_interim_answer_when_the_body_is_there_already(vmm):
    with vmm.connect() as client:
        client.send(request_bytes("PUT", "/api/v1/vm.create", CONFIG, ["Expect: 100-continue"]))
        assert client.read_head().status == 204


def test_other_expectation_is_refused(vmm):
    with vmm.connect() as client:
        client.send(request_bytes("GET", "/api/v1/vmm.ping", headers=["Expect: 200-ok"]))
        assert client.read_response().status == 400


def test_chunked_body_is_understood(vmm):
    with vmm.connect() as client:
        half = len(CONFIG) // 2
        client.send(b"PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"%x\r\n%s\r\n" % (half, CONFIG[:half]))
        client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONFIG) - half, CONFIG[half:]) + PING)
        assert client.read_response().status == 204
        assert client.read_response().status == 200


# --- W11: file descriptors ---------------------------------------------------------------------------------------------------


def fds_of_nets(vmm):
    return [net.get("fds") for net in vmm.info()["config"].get("net", [])]


def test_fds_that_come_with_the_request_line(created):
    """The Rust client: request line and descriptors in one sendmsg, everything else in later writes. Its own numbers
    for the descriptors stand in the JSON and mean nothing."""
    fds = tap_likes(2)
    body = json.dumps(
        {
            "fds": [17, 18],
            "ip": "192.168.249.1",
            "mask": "255.255.255.0",
            "mac": "52:54:00:11:22:33",
            "num_queues": 4,
            "queue_size": 256,
        }
    ).encode()
    before = len(created.fds_at_rest())
    with created.connect() as client:
        client.send(b"PUT /api/v1/vm.add-net HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n", fds)
        time.sleep(0.05)
        for part in (b"Content-Type: application/json\r\n", b"Content-Length: %d\r\n" % len(body), b"\r\n", body):
            client.send(part)
            time.sleep(0.02)
        assert client.read_response().status == 204
    (numbers,) = fds_of_nets(created)
    assert len(numbers) == 2
    for number in numbers:
        assert created.fds()[number] == "/dev/null"
        with open(f"/proc/{created.pid}/fdinfo/{number}") as info:
            flags = int(next(line.split()[1] for line in info if line.startswith("flags:")), 8)
        assert flags & os.O_CLOEXEC
    wait_until(lambda: number_of_fds(created) == before + 2)
    close_all(fds)


def test_fds_that_come_with_the_whole_request(created):
    """Kata's Go runtime and libvirt; one raw connection, one NIC after the other."""
    before = len(created.fds_at_rest())
    with created.connect() as client:
        for i in range(3):
            fds = tap_likes(1)
            body = b'{"id":"net_%d","mac":"52:54:00:11:22:3%d","num_queues":2,"queue_size":256}' % (i, i)
            client.send(ADD_NET_KATA_GO % (len(body), body), fds)
            assert client.read_response().status == 204
            close_all(fds)
    assert [len(fds) for fds in fds_of_nets(created)] == [1, 1, 1]
    wait_until(lambda: number_of_fds(created) == before + 3)
    created.put("vm.delete")
    wait_until(lambda: number_of_fds(created) <= before)


def test_wrong_number_of_fds_is_refused_and_they_are_closed(created):
    before = len(created.fds_at_rest())
    fds = tap_likes(3)
    response = created.api("PUT", "vm.add-net", {"num_queues": 4}, fds)
    assert response.status == 400
    assert "3 file descriptors" in " ".join(response.json())
    assert created.api("PUT", "vm.add-net", {"num_queues": 3}, fds).status == 400
    assert created.api("PUT", "vm.add-net", {"num_queues": 2, "fds": [3]}).status == 400
    assert fds_of_nets(created) == []
    wait_until(lambda: number_of_fds(created) == before)
    close_all(fds)


def test_253_fds_in_one_message(created):
    fds = tap_likes(253)
    before = len(created.fds_at_rest())
    response = created.api("PUT", "vm.add-net", {"num_queues": 252}, fds)
    assert response.status == 400
    assert "253 file descriptors" in " ".join(response.json())
    wait_until(lambda: number_of_fds(created) == before)
    close_all(fds)


def test_fds_in_two_messages_are_put_together(created):
    fds = tap_likes(2)
    with created.connect() as client:
        client.send(b"PUT /api/v1/vm.add-net HTTP/1.1\r\n", fds[:1])
        client.send(b'Content-Length: 16\r\n\r\n{"num_queues":4}', fds[1:])
        assert client.read_response().status == 204
    close_all(fds)


def test_fds_where_none_are_taken_are_closed(created):
    before = len(created.fds_at_rest())
    fds = tap_likes(5)
    for name in ("vm.info", "vmm.ping", "nonsense"):
        created.api("GET", name, fds=fds)
    with created.connect() as client:
        client.send(b"not http\r\n", fds)
        client.read_response()
    with created.connect() as client:
        client.send(b"PUT /api/v1/vm.add-net HTT", fds)
    wait_until(lambda: number_of_fds(created) == before)
    close_all(fds)


def test_fds_stay_with_their_request_when_requests_are_pipelined(created):
    fds = tap_likes(1)
    with created.connect() as client:
        client.send(PING)
        client.send(request_bytes("PUT", "/api/v1/vm.add-net", {}), fds)
        client.send(request_bytes("PUT", "/api/v1/vm.add-net", {}))
        assert [client.read_response().status for _ in range(3)] == [200, 204, 204]
    assert [bool(fds) for fds in fds_of_nets(created)] == [True, False]
    close_all(fds)


def test_create_takes_fds_for_its_network_devices(vmm):
    before = len(vmm.fds_at_rest())
    config = {**MINIMAL_CONFIG, "net": [{"num_queues": 2}, {"tap": "tap9"}, {"num_queues": 4}]}
    fds = tap_likes(3)
    assert vmm.api("PUT", "vm.create", config, fds[:2]).status == 400
    assert vmm.state() is None
    vmm.put("vm.create", config, fds)
    assert [len(numbers or []) for numbers in fds_of_nets(vmm)] == [1, 0, 2]
    vmm.put("vm.delete")
    wait_until(lambda: number_of_fds(vmm) <= before)
    close_all(fds)


# --- W12: limits -------------------------------------------------------------------------------------------------------------


def padded_config(size):
    return CONFIG + b" " * (size - len(CONFIG))


def test_body_of_four_mib_is_accepted_and_a_larger_one_refused(vmm):
    with vmm.connect() as client:
        assert client.request("PUT", "/api/v1/vm.create", padded_config(4 << 20)).status == 204
        client.send(b"PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % ((4 << 20) + 1))
        assert client.read_response().status == 400
        assert client.is_closed()
    assert vmm.state() == "Created"


def test_long_and_unknown_headers_are_accepted(vmm):
    with vmm.connect() as client:
        headers = [f"X-Unknown-{i}: {'x' * 1000}" for i in range(10)] + ["X-Empty:", "aCCept: */*", f"X: {'y' * 2000}"]
        assert client.request("GET", "/api/v1/vmm.ping", headers=headers).status == 200


def test_header_names_are_case_insensitive(vmm):
    with vmm.connect() as client:
        client.send(b"PUT /api/v1/vm.create HTTP/1.1\r\ncOnTeNt-LeNgTh:%d\r\n\r\n" % len(CONFIG) + CONFIG)
        assert client.read_response().status == 204


def test_endless_header_is_refused(vmm):
    with vmm.connect() as client:
        client.send(b"GET /api/v1/vmm.ping HTTP/1.1\r\nX: " + b"x" * 20000)
        assert client.read_response().status == 400
        assert client.is_closed()


def test_200_clients_at_once(vmm):
    clients = [vmm.connect() for _ in range(200)]
    for client in clients:
        client.send(PING)
    assert all(client.read_response().status == 200 for client in clients)

    def work(client):
        return all(client.request("GET", "/api/v1/vmm.ping").status == 200 for _ in range(20))

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert all(pool.map(work, clients))
    for client in clients:
        client.close()


def test_too_many_connections_are_sent_away_and_the_others_go_on():
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))

    with Coracle(preexec_fn=few_files, backlog=1024) as vmm:
        vmm.ping()
        first = vmm.connect()
        assert first.request("GET", "/api/v1/vmm.ping").status == 200
        others = [vmm.connect() for _ in range(300)]
        answers = []
        for client in others:
            try:
                client.sock.sendall(PING)
            except BrokenPipeError:
                pass
            answers.append(client.read_response())
        assert {answer.status for answer in answers} == {200, 503}
        refused = next(answer for answer in answers if answer.status == 503)
        assert refused.json() == {"error": "Too many open connections"}
        assert first.request("GET", "/api/v1/vmm.ping").status == 200
        for client in others:
            client.close()
        wait_until(lambda: vmm.api("GET", "vmm.ping").status == 200)


def test_thousands_of_connections_leave_nothing_behind(vmm):
    before = len(vmm.fds_at_rest())
    for i in range(3000):
        with vmm.connect() as client:
            if i % 3 == 0:
                client.send(PING[: i % len(PING)])
            elif i % 3 == 1:
                client.send(PING)
    wait_until(lambda: number_of_fds(vmm) == before)
    assert vmm.ping()


# --- W13: paths and methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/",
        "/api/v1/vmm.ping/",
        "/api/v1/vmm.ping?x=1",
        "/api/v1/VMM.ping",
        "/api/v2/vmm.ping",
        "/api/v1//vmm.ping",
        "/api/v1/vmm.ping%00",
        "*",
        "/api/v1/vm.resize",
    ],
)
def test_unknown_paths(vmm, path):
    with vmm.connect() as client:
        for method in ("GET", "PUT"):
            response = client.request(method, path)
            assert response.status == 404
            assert all(isinstance(message, str) for message in response.json())


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PATCH", "DELETE", "GET"])
def test_wrong_method_is_400(vmm, method):
    with vmm.connect() as client:
        assert client.request(method, "/api/v1/vm.boot").status == 400
        assert client.request("GET", "/api/v1/vmm.ping").status == 200


def test_put_on_what_is_for_get(vmm):
    assert vmm.api("PUT", "vmm.ping").status == 400
    assert vmm.api("PUT", "vm.info").status == 400


def test_absolute_form_of_the_target(vmm):
    with vmm.connect() as client:
        assert client.request("GET", "http://localhost/api/v1/vmm.ping").status == 200
        assert client.request("GET", "http://localhost").status == 404


def test_http_1_0(vmm):
    with vmm.connect() as client:
        client.send(b"GET /api/v1/vmm.ping HTTP/1.0\r\n\r\n")
        assert client.read_response().status_line == "HTTP/1.1 200 "
        assert client.is_closed()


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"ICE/1.0"])
def test_other_versions_are_refused(vmm, version):
    with vmm.connect() as client:
        client.send(b"GET /api/v1/vmm.ping " + version + b"\r\n\r\n")
        assert client.read_response().status == 400


# --- W16: addresses of PCI functions ------------------------------------------------------------------------------------------


@tiny.needs_kvm
def test_pci_addresses_are_of_the_form_that_kata_takes_apart(vmm, tmp_path):
    image = tiny.sparse_file(tmp_path / "disk", 1 << 20)
    vmm.put("vm.create", tiny.config(disks=[{"path": image, "image_type": "Raw", "pci_device_id": 29}]))
    vmm.put("vm.boot")
    with vmm.connect() as client:
        client.send(b"GET /api/v1/vm.info HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")
        tree = client.read_response().json()["device_tree"]
    addresses = {name: node["pci_bdf"] for name, node in tree.items() if node["pci_bdf"]}
    assert len(addresses) >= 2
    for address in addresses.values():
        assert re.fullmatch(r"0000:00:[0-1][0-9a-f]\.0", address)
    assert addresses["_virtio-pci-_disk0"] == "0000:00:1d.0"


# --- W14, W15, W17: what answers say -------------------------------------------------------------------------------------------


def test_errors_are_arrays_of_strings(vmm):
    for response in (vmm.api("GET", "vm.info"), vmm.api("PUT", "vm.boot"), vmm.api("PUT", "vm.create", b"[]")):
        messages = response.json()
        assert isinstance(messages, list) and messages and all(isinstance(message, str) for message in messages)


def test_info_without_a_vm_has_the_words_that_virtink_looks_for(vmm):
    response = vmm.api("GET", "vm.info")
    assert response.status == 404
    assert b"VM is not created" in response.body


def test_ping_says_what_clients_choose_their_dialect_by(vmm):
    pong = vmm.ping()
    assert int(pong["version"].split(".")[0]) >= 51
    assert pong["pid"] == vmm.pid
    assert isinstance(pong["build_version"], str) and "kvm" in pong["features"]


WITHOUT_VM = {
    "vm.delete": 204,
    "vm.boot": 404,
    "vm.shutdown": 500,
    "vm.reboot": 404,
    "vm.pause": 500,
    "vm.resume": 500,
    "vm.power-button": 500,
    "vm.nmi": 500,
}
CREATED = {**WITHOUT_VM, "vm.boot": None}


@pytest.mark.parametrize("verb,status", WITHOUT_VM.items())
def test_status_without_a_vm(vmm, verb, status):
    assert vmm.api("PUT", verb).status == status
    assert vmm.api("GET", "vm.counters").status == 500


@pytest.mark.parametrize("verb,status", [item for item in CREATED.items() if item[1]])
def test_status_of_a_created_vm(created, verb, status):
    assert created.api("PUT", verb).status == status


def test_statuses_of_create_and_of_cold_additions(vmm):
    assert vmm.api("PUT", "vm.add-disk", {"path": "/x"}).status == 404
    assert vmm.api("PUT", "vm.create", b"{not json").status == 400
    assert vmm.api("PUT", "vm.create", {"cpus": {"boot_vcpus": "one"}}).status == 400
    assert vmm.api("PUT", "vm.create", CONFIG).status == 204
    assert vmm.api("PUT", "vm.create", CONFIG).status == 500
    assert vmm.api("PUT", "vm.add-disk", {"id": "d", "path": "/x", "image_type": "Raw"}).status == 204
    assert vmm.api("PUT", "vm.add-disk", {"id": "d", "path": "/y", "image_type": "Raw"}).status == 409
    assert vmm.state() == "Created"


def integers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from integers(item)
    elif isinstance(value, int):
        yield value


def test_numbers_fit_int64(created):
    assert all(-(2**63) <= number < 2**63 for number in integers(created.info()))
    assert all(-(2**63) <= number < 2**63 for number in integers(created.ping()))


def test_vmm_shutdown_is_answered_before_the_process_is_gone():
    with Coracle() as vmm:
        with vmm.connect() as client:
            response = client.request("PUT", "/api/v1/vmm.shutdown")
            assert response.raw == b"HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n"
        assert vmm.wait(3) == 0


# --- robustness ----------------------------------------------------------------------------------------------------------------


def test_client_that_reads_nothing_holds_up_nobody(created):
    with created.connect() as deaf:
        deaf.sock.settimeout(0.5)
        try:
            for _ in range(100000):
                deaf.sock.sendall(request_bytes("GET", "/api/v1/vm.info") * 20)
        except TimeoutError:
            pass
        before = created.rss_kib()
        started = time.monotonic()
        for _ in range(100):
            created.ping()
        assert time.monotonic() - started < 10
        assert created.is_sanitized() or created.rss_kib() < before + 4096


def test_client_that_leaves_with_its_request_under_way(vmm):
    for _ in range(200):
        with vmm.connect() as client:
            client.send(request_bytes("PUT", "/api/v1/vm.create", CONFIG) + request_bytes("PUT", "/api/v1/vm.delete"))
    assert vmm.ping()


def test_any_bytes_at_all(vmm):
    """Damaged requests, from a fixed seed. The process answers or closes, and lives on."""
    seed = 20240229
    source = random.Random(seed)
    good = request_bytes("PUT", "/api/v1/vm.create", CONFIG, ["Accept: */*"])
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(source.randrange(1, 6)):
            where = source.randrange(len(damaged))
            kind = source.randrange(3)
            if kind == 0:
                damaged[where] = source.randrange(256)
            elif kind == 1:
                del damaged[where : where + source.randrange(20)]
            else:
                damaged[where:where] = source.randbytes(source.randrange(20))
            if not damaged:
                break
        with vmm.connect() as client:
            client.sock.sendall(bytes(damaged))
            client.sock.shutdown(socket.SHUT_WR)
            while client.sock.recv(65536):
                pass
        vmm.put("vm.delete")
    assert vmm.ping()["pid"] == vmm.pid


def test_many_clients_change_the_vm_at_once(vmm):
    failures = []

    def work():
        for _ in range(20):
            with RawClient(vmm.socket_path) as client:
                for verb, body in (("vm.create", CONFIG), ("vm.delete", None)):
                    status = client.request("PUT", f"/api/v1/{verb}", body).status
                    if status not in (204, 500):
                        failures.append((verb, status))

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert vmm.state() is None
