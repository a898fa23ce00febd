# SPDX-License-Identifier: Apache-2.0
"""A Linux guest's virtio entropy device."""

import pytest
from guest_vm import MIB, GuestVm

pytestmark = pytest.mark.guest


def test_guest_gets_the_bytes_of_the_source(tmp_path):
    source = tmp_path / "source"
    content = b"".join(b"%07d." % n for n in range(MIB // 8))
    source.write_bytes(content)
    with GuestVm(rng={"src": str(source)}) as vm:
        vm.up()
        assert vm.guest("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
        first = bytes.fromhex(vm.guest("dd if=/dev/hwrng bs=64 count=4 2>/dev/null | xxd -p | tr -d '\\n'"))
        second = bytes.fromhex(vm.guest("dd if=/dev/hwrng bs=64 count=4 2>/dev/null | xxd -p | tr -d '\\n'"))
    assert len(first) == len(second) == 256
    # The driver reads ahead in portions: what comes may be glued together of several, but no byte twice.
    for part in (first[:16], first[-16:], second[:16], second[-16:]):
        assert part in content
    assert content.index(first[:16]) < content.index(second[-16:])
