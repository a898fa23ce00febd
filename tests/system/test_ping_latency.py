# SPDX-License-Identifier: Apache-2.0
"""vmm.ping while a VM boots with an initramfs of 1 GiB: the loop is never held up.

10 ms is the promise. Because the tests share their processors with whatever else the machine does, it is held against the
median and the 90th percentile only. The worst is printed (pytest -s, or the JUnit report) and must be far from what a
loop that waits for the boot would show, which is one ping as long as the boot.
"""

import statistics
import time

import tiny
from coracle import Coracle

pytestmark = tiny.needs_kvm

PROMISE = 0.010


def latencies(vmm, under_way):
    """Of pings one after another, a millisecond apart, as long as under_way(). Sorted."""
    found = []
    with vmm.connect() as client:
        while under_way():
            began = time.perf_counter()
            assert client.request("GET", "/api/v1/vmm.ping").status == 200
            found.append(time.perf_counter() - began)
            time.sleep(0.001)
    return sorted(found)


def test_ping_is_answered_within_10_ms_during_a_boot_with_a_1_gib_initramfs(tmp_path, record_property):
    initramfs = tiny.sparse_file(tmp_path / "initramfs", 1 << 30)
    with Coracle() as vmm:
        vmm.put("vm.create", tiny.config(memory=1536 * tiny.MIB, initramfs=initramfs))
        with tiny.SlowBoot(vmm) as boot:
            began = time.perf_counter()
            found = latencies(vmm, boot.is_going_on)
            took = time.perf_counter() - began
            assert boot.answer().status == 204
        # Giving all that memory back is as much work again.
        end = tiny.InBackground(vmm.put, "vm.delete")
        ending = latencies(vmm, end.thread.is_alive)
        end.result()
    median, p90 = statistics.median(found), found[len(found) * 9 // 10]
    text = f"{len(found)} pings in {took:.1f} s: median {median * 1e3:.2f} ms, 90 % {p90 * 1e3:.2f} ms, "
    text += f"worst {found[-1] * 1e3:.2f} ms; worst of {len(ending)} during the deletion {max(ending, default=0) * 1e3:.2f} ms"
    print(text)
    record_property("latency", text)
    assert len(found) >= 20, text
    assert median < PROMISE and p90 < PROMISE and found[-1] < took / 2, text
