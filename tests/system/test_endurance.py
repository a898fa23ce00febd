# SPDX-License-Identifier: Apache-2.0
"""Many of everything: what grows, what is left behind, what gets mixed up, what does not come to its end."""

import os
import random
import signal
import subprocess
import threading
import time

import pytest

import tiny
from coracle import BINARY, Coracle, wait_until
from http_client import RawClient, request_bytes
from usage import Usage, check_growth

pytestmark = tiny.needs_kvm


def requests(client, *names, body=None):
    for name in names:
        response = client.request("PUT", f"/api/v1/{name}", body if name == "vm.create" else None)
        assert response.status == 204, (name, response)


@pytest.fixture
def initramfs(tmp_path):
    """Takes long enough to load for something to come in between."""
    return tiny.slow_initramfs(tmp_path / "initramfs")


def slow(initramfs):
    return tiny.config(memory=768 * tiny.MIB, initramfs=initramfs)


# --- nothing grows ----------------------------------------------------------------------------------------------------


def test_1000_creations_and_deletions_leave_nothing_behind(vmm, tmp_path):
    config = tiny.config(serial=tmp_path / "serial", disks=[{"path": "/nonexistent"}] * 4, net=[{}] * 4)
    with vmm.connect() as client:
        # So many that the event log is full.
        for _ in range(2000):
            requests(client, "vm.create", "vm.delete", body=config)
    before = Usage(vmm)
    with vmm.connect() as client:
        for _ in range(1000):
            requests(client, "vm.create", "vm.delete", body=config)
    check_growth(vmm, before, 256)


def test_1000_connections_and_event_streams_leave_nothing_behind(vmm):
    def life(number):
        """A connection with an orderly end, one in the middle of a request, one whose answer nobody takes, and streams
        with and without a past, which something happens to."""
        with vmm.connect() as orderly, vmm.connect() as half, vmm.connect() as gone:
            assert orderly.request("GET", "/api/v1/vmm.ping").status == 200
            half.send(request_bytes("PUT", "/api/v1/vm.create", tiny.config())[: 20 + number % 200])
            gone.send(request_bytes("GET", "/api/v1/vm.info") * 10)
            with vmm.events() as stream, vmm.events(last_event_id=0) as replay:
                requests(orderly, "vm.create", "vm.delete", body=tiny.config())
                stream.wait_for("vm:deleted")
                replay.wait_for("vm:deleted")

    for number in range(500):
        life(number)
    before = Usage(vmm)
    for number in range(200):
        life(number)
    check_growth(vmm, before, 256)


@pytest.mark.slow
def test_1000_boots_and_deletions_leave_nothing_behind(vmm, tmp_path):
    disk = tiny.sparse_file(tmp_path / "disk", tiny.MIB)
    config = tiny.config(vcpus=2, disks=[{"path": disk, "image_type": "Raw"}], pvpanic=True, serial=tmp_path / "serial")
    with vmm.connect() as client:
        for _ in range(10):
            requests(client, "vm.create", "vm.boot", "vm.delete", body=config)
    before = Usage(vmm)
    # Under a sanitizer, which is slow, what is lost shows all the same: memory is counted by it, not by us.
    times = 100 if vmm.is_sanitized() else 1000
    with vmm.connect() as client:
        for i in range(times):
            requests(client, "vm.create", "vm.boot", body=config)
            if i % 3 == 0:
                requests(client, "vm.pause")
            if i % 5 == 0:
                requests(client, "vm.shutdown", "vm.boot")
            requests(client, "vm.delete")
    check_growth(vmm, before, 1024)


def test_100_reboots_leave_nothing_behind(vmm, tmp_path):
    serial = tmp_path / "serial"
    vmm.put("vm.create", tiny.config(serial=serial, vcpus=2))
    vmm.put("vm.boot")
    with vmm.connect() as client:
        requests(client, *["vm.reboot"] * 10)
    tiny.wait_ready(serial)
    before = Usage(vmm)
    with vmm.connect() as client:
        requests(client, *["vm.reboot"] * 100)
    check_growth(vmm, before, 1024)
    printed = serial.read_text().count("READY\n")
    requests_done = time.monotonic()
    vmm.put("vm.reboot")
    wait_until(lambda: serial.read_text().count("READY\n") > printed)
    assert time.monotonic() - requests_done < 10


def test_100_failed_boots_leave_nothing_behind(vmm):
    config = tiny.config(disks=[{"path": "/nonexistent"}])
    broken = tiny.config()
    broken["payload"]["kernel"] = os.path.abspath(__file__)

    def fail(client, body):
        requests(client, "vm.create", body=body)
        assert client.request("PUT", "/api/v1/vm.boot").status == 500
        requests(client, "vm.delete")

    with vmm.connect() as client:
        for _ in range(10):
            fail(client, config)
            fail(client, broken)
    before = Usage(vmm)
    with vmm.connect() as client:
        for _ in range(50):
            fail(client, config)
            fail(client, broken)
    check_growth(vmm, before, 512)


# --- many at once -----------------------------------------------------------------------------------------------------


def test_200_clients_at_once_get_each_their_own_answers(vmm):
    vmm.put("vm.create", tiny.config())
    vmm.put("vm.boot")
    started = threading.Barrier(200)
    wrong = []

    def client(number):
        expected = [
            ("GET", "vmm.ping", None, 200, b'"pid"'),
            ("GET", "vm.info", None, 200, b'"config"'),
            ("GET", f"vm.nothing-{number}", None, 404, f"vm.nothing-{number}".encode()),
            ("PUT", "vm.create", b"{%d" % number, 400, b"["),
            ("PUT", "vm.boot", {}, 400, b"vm.boot"),
            ("GET", "vm.counters", None, 200, b"{"),
            ("PUT", "vm.create", tiny.config(), 500, b"already"),
            ("PUT", "vm.pause", None, 204, b""),
            ("PUT", "vm.power-button", None, 204, b""),
            ("PUT", "vm.resume", None, 204, b""),
        ]
        order = random.Random(number)
        try:
            with vmm.connect(60) as connection:
                started.wait(60)
                for method, name, body, status, text in order.choices(expected, k=20):
                    response = connection.request(method, f"/api/v1/{name}", body)
                    if response.status != status or text not in response.body:
                        wrong.append((number, method, name, response))
        except Exception as error:
            wrong.append((number, error))

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong[:5]
    vmm.put("vm.resume")
    assert vmm.state() == "Running"
    vmm.put("vm.delete")
    assert all(not name.startswith("vcpu") for name in vmm.threads())


def test_50_clients_in_random_orders_leave_a_consistent_process(vmm):
    verbs = ["create", "boot", "pause", "resume", "reboot", "shutdown", "delete", "power-button", "nmi", "info", "add-disk"]
    end = time.monotonic() + 8
    slowest_ping = 0
    unexpected = []

    def client(seed):
        choose = random.Random(seed)
        try:
            with vmm.connect(60) as connection:
                while time.monotonic() < end:
                    verb = choose.choice(verbs)
                    body = {"create": tiny.config(choose.choice(("ready", "reset", "triple"))), "add-disk": {"path": "/x"}}
                    method = "GET" if verb == "info" else "PUT"
                    response = connection.request(method, f"/api/v1/vm.{verb}", body.get(verb))
                    if response.status not in (200, 204, 404, 500):
                        unexpected.append((verb, response))
        except Exception as error:
            unexpected.append((seed, repr(error)))

    before = Usage(vmm)
    threads = [threading.Thread(target=client, args=(seed,), daemon=True) for seed in range(50)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        began = time.monotonic()
        vmm.ping()
        slowest_ping = max(slowest_ping, time.monotonic() - began)
        time.sleep(0.01)
    for thread in threads:
        thread.join(60)
    assert not unexpected, unexpected[:5]
    assert slowest_ping < 2
    vmm.put("vm.delete")
    assert vmm.state() is None
    check_growth(vmm, before)
    vmm.put("vm.create", tiny.config())
    vmm.put("vm.boot")
    assert vmm.state() == "Running"


def test_requests_in_one_pipeline_are_answered_in_order(vmm):
    names = ["vm.create", "vm.boot", "vm.pause", "vm.resume", "vm.reboot", "vm.pause", "vm.boot", "vm.nmi", "vm.delete"] * 10
    with vmm.connect() as client:
        for name in names:
            client.send(request_bytes("PUT", f"/api/v1/{name}", tiny.config() if name == "vm.create" else None))
        statuses = [client.read_response().status for _ in names]
    assert statuses == [204] * len(names)
    assert vmm.state() is None


# --- a boot that does not come to its end --------------------------------------------------------------------------------


def test_delete_cancels_a_boot(vmm, initramfs):
    for _ in range(3):
        vmm.put("vm.create", slow(initramfs))
        with tiny.SlowBoot(vmm) as boot:
            vmm.put("vm.delete")
            answer = boot.answer()
        assert answer.status == 500 and "cancelled" in " ".join(answer.json())
        assert vmm.state() is None


def test_shutdown_cancels_a_reboot(vmm, initramfs):
    vmm.put("vm.create", slow(initramfs))
    vmm.put("vm.boot")
    with tiny.SlowBoot(vmm, "vm.reboot") as boot:
        vmm.put("vm.shutdown")
        assert boot.answer().status == 500
    assert vmm.state() == "Created"
    vmm.put("vm.boot")
    assert vmm.state() == "Running"


def test_end_that_is_queued_cancels_a_boot_that_has_not_begun(vmm, initramfs):
    vmm.put("vm.create", slow(initramfs))
    vmm.put("vm.boot")
    # The shutdown takes its time to give the memory back; meanwhile the others queue up.
    with vmm.connect() as first, vmm.connect() as second, vmm.connect() as third:
        first.send(request_bytes("PUT", "/api/v1/vm.shutdown"))
        second.send(request_bytes("PUT", "/api/v1/vm.boot"))
        third.send(request_bytes("PUT", "/api/v1/vm.delete"))
        assert first.read_response().status == 204
        assert second.read_response().status in (404, 500)
        assert third.read_response().status == 204
    assert vmm.state() is None


def test_vmm_shutdown_during_a_boot_ends_at_once(initramfs):
    with Coracle() as vmm:
        vmm.put("vm.create", slow(initramfs))
        with tiny.SlowBoot(vmm) as boot:
            began = time.monotonic()
            vmm.put("vmm.shutdown")
            assert boot.answer().status == 500
            assert vmm.wait(3) == 0
        assert time.monotonic() - began < 3


def with_payload(**payload):
    config = tiny.config()
    config["payload"].update(payload)
    return config


# (what is wrong, configuration, status, a word of the error)
FAILURES = [
    ("missing kernel", with_payload(kernel="/nonexistent/vmlinux"), 500, "/nonexistent/vmlinux"),
    ("kernel that is none", with_payload(kernel=os.path.abspath(__file__)), 500, "test_endurance.py"),
    ("kernel that is a directory", with_payload(kernel="/"), 500, "regular file"),
    ("empty kernel", with_payload(kernel="/dev/null"), 500, "/dev/null"),
    ("missing initramfs", with_payload(initramfs="/nonexistent/initramfs"), 500, "/nonexistent/initramfs"),
    ("initramfs larger than memory", None, 500, "nitramfs"),
    ("missing disk", tiny.config(disks=[{"path": "/nonexistent/disk", "image_type": "Raw"}]), 500, "/nonexistent/disk"),
    ("device kind that is not built", tiny.config(vsock={"cid": 3, "socket": "/tmp/vsock"}), None, "vsock"),
    ("too much memory", tiny.config(memory=1 << 50), None, ""),
    ("more queues than CPUs", tiny.config(net=[{"num_queues": 4}]), 400, ""),
    ("no kernel", {**tiny.config(), "payload": None}, 400, ""),
]


@pytest.mark.parametrize("config, status, word", [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES])
def test_boot_that_fails_leaves_created_and_a_corrected_config_boots(vmm, tmp_path, config, status, word):
    if config is None:
        config = with_payload(initramfs=tiny.sparse_file(tmp_path / "huge", 1 << 30))
    before = Usage(vmm)
    vmm.put("vm.create", config)
    for _ in range(2):
        response = vmm.api("PUT", "vm.boot")
        assert response.status == (status or response.status) and response.status in (400, 500), response
        assert word in " ".join(response.json())
        assert vmm.state() == "Created"
    vmm.put("vm.delete")
    check_growth(vmm, before)
    vmm.put("vm.create", tiny.config())
    vmm.put("vm.boot")
    assert vmm.state() == "Running"


# --- signals ----------------------------------------------------------------------------------------------------------


def churn(path, stop):
    """Creates, boots, pauses and shuts down until the process is gone."""
    verbs = ["vm.create", "vm.boot", "vm.pause", "vm.resume", "vm.reboot", "vm.shutdown", "vm.boot", "vm.delete"]
    try:
        with RawClient(path, 10) as client:
            while not stop.is_set():
                for verb in verbs:
                    client.request("PUT", f"/api/v1/{verb}", tiny.config() if verb == "vm.create" else None)
    except (OSError, EOFError):
        pass


@pytest.mark.parametrize("seed", range(12))
def test_sigterm_at_any_moment_ends_in_order(tmp_path, seed):
    path = tmp_path / "api.sock"
    log = open(tmp_path / "log", "w+b")
    argv = [BINARY, "--api-socket", str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)
    stop = threading.Event()
    try:
        wait_until(path.exists)
        client = threading.Thread(target=churn, args=(str(path), stop), daemon=True)
        client.start()
        time.sleep(random.Random(seed).uniform(0.01, 0.2))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(10) == 0, open(log.name).read()
        assert time.monotonic() - began < 3
        client.join(10)
        assert [entry.name for entry in tmp_path.iterdir()] == ["log"]
    finally:
        stop.set()
        process.kill()
        process.wait()
        log.close()


def test_sigterm_during_a_slow_boot_ends_in_order(initramfs):
    with Coracle() as vmm:
        vmm.put("vm.create", slow(initramfs))
        with tiny.SlowBoot(vmm):
            began = time.monotonic()
            os.kill(vmm.pid, signal.SIGTERM)
            assert vmm.wait(10) == 0
        assert time.monotonic() - began < 3


def test_sigterm_while_the_command_line_boots(initramfs, tmp_path):
    argv = [BINARY, "--kernel", tiny.GUEST, "--initramfs", initramfs, "--memory", "size=768M", "--serial", "null"]
    argv += ["--console", "off", "--api-socket", str(tmp_path / "api.sock")]
    for delay in (0.0, 0.02, 0.05):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until((tmp_path / "api.sock").exists)
        time.sleep(delay)
        process.terminate()
        began = time.monotonic()
        assert process.wait(10) in (0, 1)
        assert time.monotonic() - began < 3
        assert not (tmp_path / "api.sock").exists()
