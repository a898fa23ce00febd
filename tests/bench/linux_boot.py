# SPDX-License-Identifier: Apache-2.0
"""From the start of the VMM to the first line of the guest's init, coracle beside QEMU's microvm."""

import os

import linux_guest
from machines import CHECKOUT
from measures import distribution, value

INITRAMFS = os.path.join(CHECKOUT, "build", "guest", "initramfs.cpio.gz")
MEMORY_MIB = 256
READY = rb"CORACLE-GUEST-READY .*\n"
# The aim: at most this share of what microvm takes.
SHARE = 0.8
# Half of a Debian kernel's boot is the self tests of its cryptography, the same work under any VMM.
NO_TESTS = "cryptomgr.notests"


def command_line(more):
    return f'console=ttyS0 quiet panic=-1 {more} rdinit=/bin/sh -- -c "echo BENCH-INIT; exec /init"'


def programs(cpus, more):
    cmdline = command_line(more)
    return {
        "coracle": linux_guest.coracle(cpus, MEMORY_MIB, cmdline),
        "QEMU microvm": linux_guest.microvm(cpus, MEMORY_MIB, cmdline),
    }


def once(argv, timeout):
    """(ms to init's first line, ms to the end of its set-up, KVM's statistics, ms of CPU of threads other than vCPUs)"""
    with linux_guest.LinuxGuest(argv) as guest:
        init = guest.ms_until(rb"BENCH-INIT\r?\n", timeout)
        ready = guest.ms_until(READY, timeout)
        return init, ready, guest.exits(), guest.cpu_ms()[1]


def compare(cpus, more, note, rounds):
    """Both programs in turn; the first round only warms up."""
    samples = {who: [] for who in programs(cpus, more)}
    for turn in range(rounds + 1):
        for who, argv in programs(cpus, more).items():
            sample = once(argv, 200)
            if turn:
                samples[who].append(sample)
    case = f"{cpus} vCPU{'s' * (cpus > 1)}{note}"
    aim = SHARE * sorted(s[0] for s in samples["QEMU microvm"])[rounds // 2]
    for who, taken in samples.items():
        ours = who == "coracle"
        yield distribution(
            f"exec to the first line of init, {case}", who, [s[0] for s in taken], "ms",
            round(aim, 1) if ours else None, chart="Linux: exec to the first line of init", case=case,
        )  # fmt: skip
        yield distribution(f"exec to init with drivers loaded, {case}", who, [s[1] for s in taken], "ms")
        yield from counted(case, who, taken[-1])


def counted(case, who, sample):
    stats = sample[2]
    table = {"table": "Exits of one boot of Linux", "case": case}
    for column in ("exits", "io_exits", "mmio_exits", "irq_exits", "halt_exits", "pf_fixed"):
        if column in stats:
            yield value("one boot", who, stats[column], "number", column=column, **table)
    yield value("one boot", who, round(sample[3], 1), "ms", column="CPU time of the VMM's other threads, ms", **table)


def boot(quick):
    """Linux from exec to init"""
    linux_guest.stage(INITRAMFS)
    rows = list(compare(1, "", "", 1 if quick else 5))
    return rows + list(compare(1, NO_TESTS, ", without the kernel's self tests", 1 if quick else 2))


ALL = [boot]
