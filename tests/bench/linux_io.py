# SPDX-License-Identifier: Apache-2.0
"""Disk and network of a Linux guest, by fio and iperf3 in it, coracle beside QEMU's microvm with virtio on PCI.

The disk is null_blk, which takes no time of its own, opened with O_DIRECT; QEMU's has an iothread and io_uring, as coracle's
always has. The tap is the same, and goes without vhost. The host has one processor on which the guest, the VMM and the
host's kernel take turns, so a rate is the inverse of what one request costs all of them together. The costs of a request
hold a share of the start of fio and iperf3.
"""

import contextlib
import json
import subprocess

import linux_guest
import linux_images
from linux_boot import READY
from measures import value

MEMORY_MIB = 1024
DISK = "/dev/nullb0"
TAP = "bench0"
MAC = "52:54:00:12:34:56"
HOST, GUEST = "192.168.77.1", "192.168.77.2"
# noxsave: the emulated host lets XSETBV through without KVM's notice. CPUID then tells too small a size for the registers'
# save area (the kernel says "XSAVE consistency problem", under QEMU too), and a program that uses AVX overruns it.
CMDLINE = "console=ttyS0 quiet panic=-1 cryptomgr.notests noxsave"

# What fio is asked for: name, pattern, block size, depth.
DISK_JOBS = (
    ("4 KiB random read", "randread", "4k", 32),
    ("4 KiB random read, one at a time", "randread", "4k", 1),
    ("4 KiB random write", "randwrite", "4k", 32),
    ("sequential read, 128 KiB", "read", "128k", 8),
    ("sequential write, 128 KiB", "write", "128k", 8),
)
NET_JOBS = (
    ("TCP to the host", "", "bits_per_second"),
    ("TCP to the guest", "-R", "bits_per_second"),
    ("UDP to the host, 64 bytes", "-u -b 0 -l 64", "packets"),
    ("UDP to the guest, 64 bytes", "-u -b 0 -l 64 -R", "packets"),
)


def coracle_with(*more):
    return linux_guest.coracle(1, MEMORY_MIB, CMDLINE, *more)


def microvm_with(*more):
    return linux_guest.microvm(1, MEMORY_MIB, CMDLINE, *more, pcie=True)


@contextlib.contextmanager
def guest_up(argv):
    with linux_guest.LinuxGuest(argv) as guest:
        guest.console.expect(READY, 300)
        yield guest


class Cost:
    """What a VMM used since the object was made."""

    def __init__(self, guest):
        self.guest, self.before = guest, self.take(guest)
        self.after = None

    def end(self):
        self.after = self.take(self.guest)

    @staticmethod
    def take(guest):
        return {"exits": guest.exits().get("exits", 0), "cpu": guest.cpu_ms()}

    def rows(self, case, who, table, requests, unit):
        now = self.after
        exits = (now["exits"] - self.before["exits"]) / requests
        others = (now["cpu"][1] - self.before["cpu"][1]) * 1e3 / requests
        vcpus = (now["cpu"][0] - self.before["cpu"][0]) * 1e3 / requests
        for column, number, digits in (
            (f"exits per {unit}", exits, 2),
            (f"CPU of the VMM's other threads per {unit}, µs", others, 2),
            (f"CPU of vCPUs with the guest per {unit}, µs", vcpus, 2),
        ):
            yield value(case, who, round(number, digits), "", table=table, case=case, column=column)


def run_and_read(guest, command):
    """What a command writes, and what it cost but for the reading: each character on the serial line is an exit."""
    cost = Cost(guest)
    status, text = guest.console.run(f"{command} >/tmp/result 2>/tmp/complaint", 300)
    cost.end()
    if status:
        raise RuntimeError(f"{command}: {text} {guest.console.run('cat /tmp/result /tmp/complaint')}")
    return guest.console.check("tail -c 20000 /tmp/result", 300), cost


def last_json(text):
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


# --- disk -------------------------------------------------------------------------------------------------------------


def one_disk_job(guest, who, job, seconds):
    case, pattern, size, depth = job
    command = (
        f"/usr/bin/fio --name=b --filename=/dev/vda --direct=1 --ioengine=libaio --rw={pattern} --bs={size} --iodepth={depth} "
        f"--time_based --runtime={round(seconds * 1000)}ms --output-format=json --norandommap --randrepeat=1"
    )
    text, cost = run_and_read(guest, command)
    result = last_json(text)["jobs"][0]["write" if "write" in pattern else "read"]
    table = "Linux guest: virtio-blk"
    more = {"table": table, "case": case}
    yield value(case, who, round(result["iops"]), "requests/s", column="rate", chart="virtio-blk, Linux: requests/s", **more)
    at = result["clat_ns"].get("percentile", {})
    yield {
        "what": case, "who": who, "unit": "µs", "n": result["total_ios"], "column": "latency", "aim": None, **more,
        **{key: round(at.get(f"{p}.000000", 0) / 1e3, 1) for key, p in (("median", 50), ("p90", 90), ("p99", 99))},
        "max": round(result["clat_ns"]["max"] / 1e3, 1),
    }  # fmt: skip
    yield from cost.rows(case, who, table, max(result["total_ios"], 1), "request")


def disk(quick):
    """virtio-blk of a Linux guest"""
    linux_guest.stage(linux_images.INITRAMFS)
    subprocess.run(["modprobe", "null_blk", "gb=1", "nr_devices=1", "completion_nsec=0", "irqmode=0", "bs=512"], check=True)
    programs = {
        "coracle": coracle_with("--disk", f"path={DISK},direct=on"),
        "QEMU microvm": microvm_with(
            "-object", "iothread,id=t", "-device", "virtio-blk-pci,drive=d,iothread=t",
            "-drive", f"if=none,id=d,file={DISK},format=raw,cache=none,aio=io_uring",
        ),
    }  # fmt: skip
    rows = []
    for who, argv in programs.items():
        with guest_up(argv) as guest:
            for job in DISK_JOBS:
                rows += one_disk_job(guest, who, job, 3 if quick else 5)
    return rows


# --- network ----------------------------------------------------------------------------------------------------------


def make_tap():
    for command in (
        ["ip", "tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"],
        ["ip", "addr", "add", f"{HOST}/24", "dev", TAP],
        ["ip", "link", "set", TAP, "up"],
    ):
        subprocess.run(command, check=True)


def one_net_job(guest, who, job, seconds):
    case, options, what = job
    text, cost = run_and_read(guest, f"/usr/bin/iperf3 -J -c {HOST} -t {seconds} {options}")
    end = last_json(text)["end"]
    table = "Linux guest: virtio-net"
    more = {"table": table, "case": case}
    if what == "packets":
        got = end["sum"]
        arrived = got["packets"] - got["lost_packets"]
        yield value(case, who, round(arrived / got["seconds"] / 1e3, 2), "1000 packets/s", column="rate", **more)
        yield from cost.rows(case, who, table, max(arrived, 1), "packet or 1500 bytes")
    else:
        got = end["sum_received"]
        yield value(case, who, round(got["bits_per_second"] / 1e6, 1), "Mbit/s", column="throughput", **more)
        yield from cost.rows(case, who, table, max(got["bytes"] / 1500, 1), "packet or 1500 bytes")


def net(quick):
    """virtio-net of a Linux guest"""
    linux_guest.stage(linux_images.INITRAMFS)
    make_tap()
    programs = {
        "coracle": coracle_with("--net", f"tap={TAP},mac={MAC}"),
        "QEMU microvm": microvm_with(
            "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off",
            "-device", f"virtio-net-pci,netdev=n,mac={MAC},romfile=",
        ),
    }  # fmt: skip
    rows = []
    server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
    try:
        for who, argv in programs.items():
            with guest_up(argv) as guest:
                guest.console.check(f"ip addr add {GUEST}/24 dev eth0 && ip link set eth0 up && sleep 1")
                for job in NET_JOBS:
                    rows += one_net_job(guest, who, job, 2 if quick else 4)
    finally:
        server.kill()
        server.wait()
        subprocess.run(["ip", "link", "del", TAP], check=False)
    return rows


ALL = [disk, net]
