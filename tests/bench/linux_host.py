# SPDX-License-Identifier: Apache-2.0
"""The measures with a Linux guest, each on a KVM host of its own (tests/kvmhost): this machine where it has vmx or svm,
else an emulated one whose time is the instructions that it executed."""

import json
import os
import subprocess
import tempfile

from machines import BUILD, CHECKOUT

HOST = os.path.join(CHECKOUT, "tests", "kvmhost", "run")
LINUX = os.path.join(CHECKOUT, "tests", "bench", "linux")


def on_host(module, quick, *options):
    """Rows of a module's measures, run there."""
    if "KVMHOST" in os.environ:
        raise RuntimeError("wants a KVM host of its own, and this is one")
    with tempfile.TemporaryDirectory(prefix="bench-") as out:
        command = [HOST, "--alone", "--retry", "1", "--quiet", "--timeout", "1500", "--watchdog", "180", *options]
        command += ["--share", BUILD, "--out", out, LINUX, module, *(["--quick"] if quick else [])]
        done = subprocess.run(command, env={**os.environ, "BENCH_BUILD": BUILD}, check=False)
        path = os.path.join(out, f"{module}.json")
        if not os.path.exists(path):
            raise RuntimeError(f"the host's exit status was {done.returncode}")
        with open(path) as file:
            return json.load(file)


def boot(quick):
    """Linux from exec to init"""
    return on_host("linux_boot", quick, "--counted")


def instructions(quick):
    """instructions of the VMM for one boot of Linux"""
    return on_host("linux_count", quick)


def smp_boot(quick):
    """Linux with four vCPUs from exec to init"""
    return on_host("linux_smp", quick, "--cpus", "2")


def disk_and_network(quick):
    """virtio-blk and virtio-net of a Linux guest"""
    import linux_images

    linux_images.build()
    # Not counted: each reading of the clock, fio's favourite, is slow there.
    return on_host("linux_io", quick, "--memory", "8G")


ALL = [boot, instructions, smp_boot, disk_and_network]
