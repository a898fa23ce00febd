# SPDX-License-Identifier: Apache-2.0
"""What is measured. Each function returns rows: what, who, a distribution or a value, and the aim if there is one."""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

import callgrind
from machines import BUILD, CORACLE, GUEST, MEMORY_MIB, QEMU, QEMU_CPU, QEMU_MACHINE, Coracle, Qemu, receive

LOAD = os.path.join(BUILD, "bench", "load")


def distribution(what, who, samples, unit, aim=None, **more):
    s = sorted(samples)

    def at(share):
        return round(s[int(share * (len(s) - 1))], 2)

    return {
        "what": what, "who": who, "unit": unit, "n": len(s), "min": at(0), "median": at(0.5), "p90": at(0.9),
        "p99": at(0.99), "max": at(1), "aim": aim, **more,
    }  # fmt: skip


def value(what, who, number, unit, aim=None, note="", **more):
    return {"what": what, "who": who, "unit": unit, "value": number, "aim": aim, "note": note, **more}


def have_kvm():
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and os.path.exists(GUEST)


# --- start ------------------------------------------------------------------------------------------------------------


def start(quick):
    """from exec to the first answer"""
    ours, theirs = [], []
    for _ in range(10 if quick else 50):
        with Coracle() as p:
            p.ask("GET", "vmm.ping")
            ours.append(p.us_since_spawn() / 1e3)
        if QEMU and have_kvm():
            with Qemu("-S") as p:
                receive(p.qmp)
                theirs.append(p.us_since_spawn() / 1e3)
    rows = [distribution("exec to first answered vmm.ping", "coracle", ours, "ms", 2, chart="Start")]
    if theirs:
        rows.append(distribution("exec to QMP greeting", "QEMU microvm", theirs, "ms", chart="Start"))
    return rows


def boot(quick):
    """to the guest's first output"""
    if not have_kvm():
        raise RuntimeError("no /dev/kvm, or no guest")
    created, executed, theirs, lost = [], [], [], {"coracle": 0, "QEMU microvm": 0}
    for _ in range(10 if quick else 30):
        with Coracle() as p:
            try:
                created.append(boot_once(p))
                executed.append(p.us_since_spawn() / 1e3)
            except TimeoutError:
                lost["coracle"] += 1
        if not QEMU:
            continue
        with Qemu() as p:
            try:
                receive(p.line)
                theirs.append(p.us_since_spawn() / 1e3)
            except TimeoutError:
                lost["QEMU microvm"] += 1
    rows = [value("guests that said nothing in 10 s", who, n, "") for who, n in lost.items() if n]
    for what, who, samples, aim in (
        ("vm.create + vm.boot to first byte of the guest", "coracle", created, 6),
        ("exec to first byte of the guest", "coracle", executed, None),
        ("exec to first byte of the guest", "QEMU microvm", theirs, None),
    ):
        if samples:
            rows.append(distribution(what, who, samples, "ms", aim, chart="To the first byte of the guest"))
    return rows


def boot_once(p):
    """How long it took from vm.create on, in ms."""
    p.ask("GET", "vmm.ping")
    begin = time.monotonic_ns()
    p.ask("PUT", "vm.create", p.config())
    line = p.serial()
    p.ask("PUT", "vm.boot")
    receive(line)
    return (time.monotonic_ns() - begin) / 1e6


# --- API --------------------------------------------------------------------------------------------------------------


def create_delete(quick):
    """vm.create and vm.delete"""
    seconds = 1 if quick else 3
    with Coracle() as p:
        p.ask("GET", "vmm.ping")
        config = p.config(serial={"mode": "Off"})
        n, begin = 0, time.monotonic()
        while time.monotonic() - begin < seconds:
            p.ask("PUT", "vm.create", config)
            p.ask("PUT", "vm.delete")
            n += 1
        rate = n / (time.monotonic() - begin)
    return [value("vm.create + vm.delete, not booted", "coracle", round(rate), "pairs/s")]


def boot_delete(quick):
    """vm.create, vm.boot, vm.delete"""
    if not have_kvm():
        raise RuntimeError("no /dev/kvm, or no guest")
    seconds = 1 if quick else 3
    with Coracle() as p:
        config = p.config(serial={"mode": "Off"})
        n, begin = 0, time.monotonic()
        while time.monotonic() - begin < seconds:
            for verb, body in (("vm.create", config), ("vm.boot", None), ("vm.delete", None)):
                p.ask("PUT", verb, body)
            n += 1
        rate = n / (time.monotonic() - begin)
    return [value("vm.create + vm.boot + vm.delete", "coracle", round(rate, 1), "rounds/s")]


def requests(quick):
    """request rate and latency of the API"""
    rows = []
    seconds = "1" if quick else "4"
    with Coracle() as p:
        p.ask("GET", "vmm.ping")
        for connections in (1, 50):
            out = subprocess.run(
                [LOAD, p.path, "/api/v1/vmm.ping", str(connections), seconds], check=True, stdout=subprocess.PIPE
            ).stdout
            r = json.loads(out)
            what = f"vmm.ping on {connections} connection{'s' * (connections > 1)}"
            rows.append(value(f"{what}, rate", "coracle", r["rate"], "requests/s"))
            rows.append({
                "what": f"{what}, latency", "who": "coracle", "unit": "µs", "n": r["requests"], "median": r["p50_us"],
                "p90": r["p90_us"], "p99": r["p99_us"], "max": r["max_us"], "aim": None, "chart": "Latency of the API",
            })  # fmt: skip
    return rows


def ping_while_booting(quick):
    """vmm.ping while a VM boots"""
    if not have_kvm():
        raise RuntimeError("no /dev/kvm, or no guest")
    samples, boots = [], []
    with tempfile.NamedTemporaryFile(prefix="bench-") as initramfs:
        initramfs.write(os.urandom(1 << 20) * 48)
        initramfs.flush()
        for _ in range(3 if quick else 10):
            with Coracle() as p:
                config = p.config(serial={"mode": "Off"}, memory={"size": MEMORY_MIB << 20, "prefault": True})
                config["payload"]["initramfs"] = initramfs.name
                p.ask("PUT", "vm.create", config)
                boots.append(ping_during(p, samples))
    return [
        distribution("vm.boot with 48 MiB of initramfs and 128 MiB prefaulted", "coracle", boots, "ms"),
        distribution("vmm.ping meanwhile", "coracle", samples, "µs", chart="Latency of the API", case="vmm.ping while a VM boots"),
    ]


def ping_during(p, samples):
    """Boots; how long that took in ms."""
    done = []
    client = p.connect()
    begin = time.monotonic_ns()

    def boot_it():
        p.ask("PUT", "vm.boot", client=client)
        done.append((time.monotonic_ns() - begin) / 1e6)

    thread = threading.Thread(target=boot_it)
    thread.start()
    while thread.is_alive():
        asked = time.monotonic_ns()
        p.ask("GET", "vmm.ping")
        samples.append((time.monotonic_ns() - asked) / 1e3)
    thread.join()
    if not done:
        raise RuntimeError("vm.boot failed")
    return done[0]


# --- size -------------------------------------------------------------------------------------------------------------


def memory(quick):
    """memory of a running VM"""
    if not have_kvm():
        raise RuntimeError("no /dev/kvm, or no guest")
    rows = []
    with Coracle() as p:
        p.ask("PUT", "vm.create", p.config())
        line = p.serial()
        p.ask("PUT", "vm.boot")
        receive(line)
        rows += memory_rows(p, "coracle", 2048)
    if QEMU:
        with Qemu() as p:
            receive(p.line)
            rows += memory_rows(p, "QEMU microvm")
    return rows


def memory_rows(p, who, aim=None):
    time.sleep(0.2)
    rss, uss, parts = p.memory_kib()
    note = ", ".join(f"{k} {v}" for k, v in parts.items())
    return [
        value("RSS without guest memory, 1 vCPU", who, rss, "KiB"),
        value("USS without guest memory, 1 vCPU", who, uss, "KiB", aim, note, chart="USS without guest memory", parts=parts),
    ]


def size(quick):
    """size of the program"""
    rows = []
    for path, who, aim in ((CORACLE, "coracle", 900), (QEMU, "QEMU", None)):
        if not path or not shutil.which("strip"):
            continue
        with tempfile.NamedTemporaryFile() as out:
            subprocess.run(["strip", "-o", out.name, path], check=True)
            rows.append(value("stripped program", who, round(os.path.getsize(out.name) / 1024), "KiB", aim, chart="Size of the stripped program"))
    return rows


# --- instructions -----------------------------------------------------------------------------------------------------


def instructions(quick):
    """instructions of the VMM from exec to the guest's end"""
    if not have_kvm():
        raise RuntimeError("no /dev/kvm, or no guest")
    # Counting wants a guest that ends the VMM: this one powers off, or for QEMU, whose microvm has no such port, faults.
    programs = {
        "coracle": ([
            CORACLE, "--seccomp", "false", "--kernel", GUEST, "--cmdline", "poweroff", "--cpus", "boot=1",
            "--memory", f"size={MEMORY_MIB}M", "--serial", "null", "--console", "off",
        ], 3),
    }  # fmt: skip
    if QEMU:
        programs["QEMU microvm"] = ([
            QEMU, "-M", QEMU_MACHINE, "-accel", "kvm", "-cpu", QEMU_CPU, "-m", str(MEMORY_MIB), "-smp", "1", "-nodefaults",
            "-no-user-config", "-display", "none", "-no-reboot", "-serial", "null", "-kernel", GUEST, "-append", "triple",
        ], 0)  # fmt: skip
    return list(callgrind.rows("instructions of the VMM, exec to the end of a bare guest", programs, 120))


ALL = [start, boot, instructions, create_delete, boot_delete, requests, ping_while_booting, memory, size]
