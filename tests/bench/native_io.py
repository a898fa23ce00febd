# SPDX-License-Identifier: Apache-2.0
"""Disk and network of a guest that drives its queues at the processor's own speed (tests/guest/pvh/ioload.c), under
coracle and QEMU alternately: the same guest, the same image, the same tap."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import accounts
from machines import BUILD, QEMU, Coracle, Qemu, receive

GUEST = os.path.join(BUILD, "guest", "pvh", "ioload.elf")
NETLOAD = os.path.join(BUILD, "bench", "netload")
TAP = "benchtap"
IMAGE_MIB = 256
ROUNDS = 5
RUN_MS = 500
ECAM = {"coracle": 0xE8000000, "QEMU": 0xE0000000}
AIM = 1.3  # times QEMU's requests for a second of CPU time

# name, words for the guest
DISK = (
    ("read 4 KiB, 1 deep", "bytes=4096 depth=1 {} read"),
    ("read 4 KiB, 32 deep", "bytes=4096 depth=32 {} read"),
    ("write 4 KiB, 1 deep", "bytes=4096 depth=1 {} write"),
    ("write 4 KiB, 32 deep", "bytes=4096 depth=32 {} write"),
    ("read 128 KiB in order, 32 deep", "bytes=131072 depth=32 {} read-on"),
    ("write 128 KiB in order, 32 deep", "bytes=131072 depth=32 {} write-on"),
)
# name, words for the guest, words for netload
NET = (
    ("send 64 B", "bytes=64 depth=256 {} send", None),
    ("send 1514 B", "bytes=1514 depth=256 {} send", None),
    ("send 64 KiB (TSO)", "bytes=65226 depth=64 {} send", None),
    ("receive 64 B", "{} receive", ("flood", "64")),
    ("receive 1514 B", "{} receive", ("flood", "1514")),
    ("receive 64 KiB (TSO)", "{} receive", ("flood", "65226")),
    ("echo 64 B", "bytes=64 {} echo", ("echo",)),
)


# --- one run of the guest ---------------------------------------------------------------------------------------------


class Result:
    """What one run came to: the guest's figures, and what the VMM used up meanwhile."""

    def __init__(self):
        self.figures = {}
        self.buckets = {}
        self.account = None
        self.events = {}

    @property
    def seconds(self):
        return self.figures["cycles"] / (tsc_khz() * 1e3)

    @property
    def rate(self):
        return self.figures["requests"] / self.seconds

    def per_request(self, n):
        return n / max(self.figures["requests"], 1)


def tsc_khz(cache=[]):  # noqa: B006
    """What KVM says."""
    if not cache:
        with open("/dev/kvm", "rb", buffering=0) as kvm:
            vm = fcntl.ioctl(kvm, 0xAE01, 0)
            vcpu = fcntl.ioctl(vm, 0xAE41, 0)
            cache.append(fcntl.ioctl(vcpu, 0xAEA3, 0))
            os.close(vcpu)
            os.close(vm)
    return cache[0]


def follow(line, pid, count_events, at_begin):
    """Reads the guest's lines from the socket `line` until it has told everything. Calls at_begin() when it is ready."""
    result = Result()
    begin = events = None
    for text in lines_of(line):
        words = text.split()
        if text == "begin":
            at_begin()
            events = accounts.Events(pid) if count_events else None
            begin = accounts.Sample(pid)
        elif text == "end":
            result.events = events.finish() if events else {}
            result.account = accounts.Account(begin, accounts.Sample(pid))
        elif text == "done":
            if not result.figures["requests"]:
                raise RuntimeError("not one request was answered")
            return result
        elif len(words) != 3:
            raise RuntimeError(f"the guest says {text!r}")
        elif words[0] == "bucket":
            result.buckets[int(words[1], 16)] = int(words[2], 16)
        else:
            result.figures[words[0]] = int(words[1], 16) << 32 | int(words[2], 16)
    raise RuntimeError("the guest has ended too soon")


def lines_of(line):
    rest = b""
    while True:
        rest += receive(line)
        *whole, rest = rest.split(b"\n")
        for text in whole:
            yield text.decode("ascii", "replace").strip()


def guest_words(who, words, ms):
    return f"ecam={ECAM[who]:#x} tsc={tsc_khz()} {words.format(f'ms={ms}')} bye"


def run_coracle(words, ms, device, count_events, at_begin=lambda: None):
    with Coracle() as p:
        payload = {"kernel": GUEST, "cmdline": guest_words("coracle", words, ms)}
        p.ask("PUT", "vm.create", p.config(payload=payload, **device))
        line = p.serial()
        p.ask("PUT", "vm.boot")
        result = follow(line, p.pid, count_events, at_begin)
        # A process that is killed may hold its image for a moment longer: the kernel ends io_uring in its own time.
        p.ask("PUT", "vm.delete")
        return result


def run_qemu(words, ms, device, count_events, at_begin=lambda: None):
    with Qemu("-name", "bench,debug-threads=on", *device, kernel=GUEST, append=guest_words("QEMU", words, ms)) as p:
        return follow(p.line, p.pid, count_events, at_begin)


# --- rounds and rows --------------------------------------------------------------------------------------------------


def bucket_cycles(index):
    """The middle of a bucket of the guest's (tests/guest/pvh/ioload/meter.c)."""
    if index < 16:
        return index
    top = index // 16 + 3
    return (16 + index % 16 + 0.5) * 2 ** (top - 4)


def percentile_us(results, share):
    buckets = {}
    for r in results:
        for index, n in r.buckets.items():
            buckets[index] = buckets.get(index, 0) + n
    left = share * sum(buckets.values())
    for index in sorted(buckets):
        left -= buckets[index]
        if left <= 0:
            return round(bucket_cycles(index) / tsc_khz() * 1e3, 1)
    return None


def rows_of(kind, case, results, counted, latency=True):
    """results: who -> [Result], counted: who -> Result with events; whoever has none is left out."""
    rows = []
    efficiency = {}
    for who, runs in results.items():
        mine = Figures(kind, case, who, runs)
        efficiency[who] = mine.add_all(counted.get(who), latency)
        rows += mine.rows
    if len(efficiency) == 2:
        ours = Figures(kind, case, "coracle", results["coracle"])
        times = round(efficiency["coracle"] / efficiency["QEMU"], 2)
        ours.add("requests/CPU-s, times QEMU's", times, "times", chart=True, aim=AIM, at_least=True)
        rows += ours.rows
    return rows


class Figures:
    """The rows of one program in one case."""

    def __init__(self, kind, case, who, runs):
        self.kind, self.case, self.who, self.runs = kind, case, who, runs
        self.rows = []

    def row(self, column, unit, chart, **more):
        self.rows.append({
            "what": f"{self.kind}: {self.case}: {column}", "who": self.who, "unit": unit, "note": "", "aim": None,
            "table": self.kind, "case": self.case, "column": column,
            **({"chart": f"{self.kind}: {column}"} if chart else {}), **more,
        })  # fmt: skip

    def add(self, column, figure, unit, chart=False, **more):
        self.row(column, unit, chart, value=figure, **more)

    def median(self, of):
        return statistics.median(of(r) for r in self.runs)

    def add_all(self, counted, latency):
        """Returns requests for a second of CPU time."""
        self.add("requests/s", round(self.median(lambda r: r.rate)), "requests/s", chart=True)
        self.add("MiB/s", round(self.median(lambda r: r.figures["bytes"] / r.seconds / 2**20)), "MiB/s")
        if latency:
            self.add_latency()
        vmm_us = self.median(lambda r: r.per_request(r.account.vmm_ns) / 1e3)
        self.add("CPU time of the VMM", round(vmm_us, 2), "µs/request", chart=True)
        for event, n in (counted.events if counted else {}).items():
            self.add(event, round(counted.per_request(n), 3), "per request", chart=event in ("exits", "system calls"))
        self.add("requests/CPU-s", round(1e6 / vmm_us), "requests/CPU-s")
        errors = sum(r.figures["errors"] for r in self.runs)
        if errors:
            self.add("errors", errors, "")
        return 1e6 / vmm_us

    def add_latency(self):
        p50, p90, p99, p999 = (percentile_us(self.runs, share) for share in (0.5, 0.9, 0.99, 0.999))
        n = sum(r.figures["requests"] for r in self.runs)
        self.row("latency", "µs", True, median=p50, p90=p90, p99=p99, max=p999, n=n)


def alternate(quick, case, runs):
    """`runs`: who -> a function of whether to count events that returns a Result. They are called in turn. Returns
    who -> [Result], and who -> Result with events."""
    results = {who: [] for who in runs}
    counted = {}
    for i in range(2 if quick else ROUNDS + 1):
        for who, run in runs.items():
            try:
                if i:
                    results[who].append(once_more(run))
                else:
                    count(counted, who, run)
            except (OSError, EOFError) as e:
                raise RuntimeError(f"{case}: {who}: {e or type(e).__name__}") from e
    return results, counted


def once_more(run):
    """A guest that the host left no time is no reason to lose the other rounds."""
    try:
        return run(False)
    except RuntimeError as e:
        print(f"again: {e}", file=sys.stderr)
        return run(False)


def count(counted, who, run):
    """Also warms up what is cold. Where the kernel does not let us count, these figures are missing, no more."""
    try:
        counted[who] = run(True)
    except (OSError, RuntimeError) as e:
        print(f"no events: {e}", file=sys.stderr)


def ready():
    if os.environ.get("KVMHOST") == "emulated":
        raise RuntimeError("nothing is at native speed in the emulated host")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not os.path.exists(GUEST):
        raise RuntimeError("no /dev/kvm, or no guest")


# --- disk -------------------------------------------------------------------------------------------------------------


def disk(quick):
    """disk at native speed"""
    ready()
    rows = []
    with tempfile.NamedTemporaryFile(prefix="bench-disk-", dir=BUILD) as image:
        for _ in range(IMAGE_MIB):
            image.write(os.urandom(1 << 20))
        image.flush()
        os.fsync(image.fileno())
        for direct in (False, True):
            kind = "disk, O_DIRECT" if direct else "disk"
            for case, words in DISK:
                if quick and "128" in case:
                    continue
                rows += disk_case(quick, kind, case, words, image.name, direct)
    return rows


def disk_case(quick, kind, case, words, path, direct):
    ms = 200 if quick else RUN_MS
    onoff = "on" if direct else "off"
    ours = {"disks": [{"path": path, "direct": direct, "image_type": "Raw", "queue_size": 256}]}
    theirs = (
        "-object", "iothread,id=io", "-blockdev",
        f"driver=raw,node-name=d,cache.direct={onoff},file.driver=file,file.filename={path},file.aio=io_uring,"
        f"file.cache.direct={onoff}",
        "-device", "virtio-blk-pci,drive=d,disable-legacy=on,iothread=io,queue-size=256,num-queues=1",
    )  # fmt: skip
    runs = {"coracle": lambda events: run_coracle(words, ms, ours, events)}
    if QEMU:
        runs["QEMU"] = lambda events: run_qemu(words, ms, theirs, events)
    try:
        return rows_of(kind, case, *alternate(quick, case, runs))
    except RuntimeError as e:
        return [{"what": f"{kind}: {case}", "who": "", "failed": str(e)}]


# --- network ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def network_namespace():
    """A network namespace for this thread and whatever it starts, with a tap in it. Restores the old one."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as old:
        if libc.unshare(0x40000000) < 0:  # CLONE_NEWNET
            raise RuntimeError(f"a network namespace takes root: {os.strerror(ctypes.get_errno())}")
        try:
            ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
            if not ip:
                raise RuntimeError("no ip(8)")
            for command in (
                f"tuntap add {TAP} mode tap vnet_hdr",
                f"link set {TAP} addrgenmode none",
                f"link set {TAP} up",
            ):
                subprocess.run([ip, *command.split()], check=True, stdin=subprocess.DEVNULL)
            yield
        except subprocess.CalledProcessError as e:
            raise RuntimeError(f"{' '.join(e.cmd)}: exit status {e.returncode}") from e
        finally:
            if libc.setns(old.fileno(), 0) < 0:
                raise OSError(ctypes.get_errno(), "cannot go back to the network namespace")


class OtherEnd:
    """What sends into the tap. It begins when the guest is ready: frames that wait for it would be of another kind."""

    def __init__(self, words):
        self.words = words
        self.process = None

    def start(self):
        if self.words:
            self.process = subprocess.Popen([NETLOAD, TAP, *self.words], stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()


def net(quick):
    """network at native speed"""
    ready()
    rows = []
    with network_namespace():
        for case, words, load in NET:
            rows += net_case(quick, case, words, load)
    return rows


def frames_out():
    """Frames that have come out of the guest, as the host counts."""
    with open("/proc/self/net/dev") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name.strip() == TAP:
                return int(rest.split()[1])
    return 0


def net_case(quick, case, words, load):
    ms = 200 if quick else RUN_MS
    ours = {"net": [{"tap": TAP, "mac": "52:54:00:00:00:01", "num_queues": 2, "queue_size": 256}]}
    theirs = (
        "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off",
        "-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:01,disable-legacy=on,rx_queue_size=256,tx_queue_size=256",
    )  # fmt: skip

    def with_load(run, device, events):
        before = frames_out()
        with OtherEnd(load) as other:
            result = run(words, ms, device, events, other.start)
        if load is None:
            result.figures["requests"] = frames_out() - before
        return result

    runs = {"coracle": lambda events: with_load(run_coracle, ours, events)}
    if QEMU:
        runs["QEMU"] = lambda events: with_load(run_qemu, theirs, events)
    try:
        return rows_of("net", case, *alternate(quick, case, runs), latency="receive" not in case)
    except RuntimeError as e:
        return [{"what": f"net: {case}", "who": "", "failed": str(e)}]


ALL = [disk, net]
