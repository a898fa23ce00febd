# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel boots, and finds the machine that was asked for."""

import re
import time

import pytest
from coracle import wait_until
from guest import images
from guest_vm import EMULATED, MIB, GuestVm

pytestmark = pytest.mark.guest

KERNELS = {"vmlinux": images.VMLINUX, "bzImage": images.BZIMAGE}
GIB = 1 << 30


def e820(vm):
    """Ranges of RAM in the firmware's map, as the guest's kernel was given it: [(start, end)], end exclusive."""
    found = []
    for line in vm.guest("dmesg | grep 'BIOS-e820:.*usable'").splitlines():
        start, end = re.search(r"\[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]", line).groups()
        found.append((int(start, 16), int(end, 16) + 1))
    return found


def cpuinfo(vm, name):
    """A field of /proc/cpuinfo, of every CPU."""
    return [line.split(":")[1].strip() for line in vm.guest(f"grep '^{name}\t*:' /proc/cpuinfo").splitlines()]


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_guest_boots_and_has_the_cpus_and_memory_asked_for(kernel, cpus):
    with GuestVm(kernel=KERNELS[kernel], cpus=cpus, memory=320 * MIB) as vm:
        facts = vm.up()
        assert facts["cpus"] == cpus
        assert vm.guest("cat /sys/devices/system/cpu/online") == ("0" if cpus == 1 else f"0-{cpus - 1}")
        assert e820(vm) == [(0, 0xA0000), (MIB, 320 * MIB)]
        # What the kernel keeps for itself is not in MemTotal.
        assert 270 * 1024 < facts["mem_kb"] < 320 * 1024
        assert vm.kernel_complaints() == "" or EMULATED
        assert vm.state() == "Running"
        assert [name for name in vm.threads() if name.startswith("vcpu")] == [f"vcpu{n}" for n in range(cpus)]
        assert vm.capabilities() == {}


def host_tells_threads():
    """Whether guests here can see which threads share a core: a processor of AMD's tells by TOPOEXT, which QEMU does not
    emulate."""
    with open("/proc/cpuinfo") as file:
        text = file.read()
    return "AuthenticAMD" not in text or " topoext " in text


THREADS = 2 if host_tells_threads() else 1


@pytest.fixture(scope="module")
def big():
    """A guest with a topology, and more memory than there is room below the hole."""
    cpus = {
        "boot_vcpus": 4,
        "max_vcpus": 4,
        "topology": {"threads_per_core": THREADS, "cores_per_die": 2, "dies_per_package": 1, "packages": 2 // THREADS},
    }
    with GuestVm(cpus=cpus, memory=4 * GIB) as vm:
        vm.facts = vm.up()
        yield vm


def test_memory_goes_on_above_the_hole(big):
    assert e820(big) == [(0, 0xA0000), (MIB, 3 * GIB), (4 * GIB, 5 * GIB)]
    assert 3.8 * MIB < big.facts["mem_kb"] < 4 * MIB
    # Both sides of the hole hold what is written to them.
    big.guest("mkdir -p /mnt && mount -t tmpfs -o size=64m none /mnt && head -c 33554432 /dev/urandom >/mnt/a && "
              "cp /mnt/a /mnt/b && cmp /mnt/a /mnt/b && umount /mnt")  # fmt: skip


def test_topology_is_the_one_asked_for(big):
    packages = ["0", "0", "0", "0"] if THREADS == 2 else ["0", "0", "1", "1"]
    assert cpuinfo(big, "physical id") == packages
    assert cpuinfo(big, "cpu cores") == ["2"] * 4
    assert cpuinfo(big, "siblings") == [str(2 * THREADS)] * 4
    siblings = big.guest("cat /sys/devices/system/cpu/cpu[0-3]/topology/thread_siblings_list").split()
    assert siblings == (["0-1", "0-1", "2-3", "2-3"] if THREADS == 2 else ["0", "1", "2", "3"])


def test_guest_keeps_time_by_kvmclock(big):
    assert "KVM" in big.guest("dmesg | grep 'Hypervisor detected'")
    assert big.guest("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") in ("kvm-clock", "tsc")
    assert "kvm-clock" in big.guest("dmesg | grep 'kvm-clock: Using msrs'")
    # Told, not measured: the guest has no PIT to measure by.
    assert re.search(r"tsc: Detected \d+\.\d+ MHz", big.guest("dmesg | grep 'tsc: Detected'"))


def test_guest_clock_agrees_with_the_hosts(big):
    assert abs(int(big.guest("date -u +%s")) - time.time()) < 5
    start, before = time.monotonic(), float(big.guest("cut -d' ' -f1 /proc/uptime"))
    time.sleep(2)
    passed = float(big.guest("cut -d' ' -f1 /proc/uptime")) - before
    assert abs(passed - (time.monotonic() - start)) < 1


def test_guest_uses_the_acpi_tables(big):
    assert big.guest("ls /sys/firmware/acpi/tables").split() == ["APIC", "DSDT", "FACP", "MCFG"] + [
        "data", "dynamic"]  # fmt: skip
    assert big.guest("dmesg | grep -E 'ACPI (BIOS )?(Error|Warning)' || true") == ""
    assert "PNP0C0C" in big.guest("ls /sys/bus/acpi/devices")


def test_info_shows_the_machine(big):
    info = big.info()
    assert info["state"] == "Running"
    assert info["memory_actual_size"] == 4 * GIB
    assert info["config"]["cpus"]["topology"]["threads_per_core"] == THREADS
    tree = info["device_tree"]
    for name, node in tree.items():
        assert set(node) == {"id", "resources", "parent", "children", "pci_bdf"} and node["id"] == name
        assert node["parent"] is None or name in tree[node["parent"]]["children"]
        assert all(tree[child]["parent"] == name for child in node["children"])
    transport = tree["_virtio-pci-__rng"]
    assert transport["children"] == ["__rng"] and tree["__serial"]["pci_bdf"] is None
    # What the host says is what the guest sees.
    device = f"/sys/bus/pci/devices/{transport['pci_bdf']}"
    bar = next(r["PciBar"] for r in transport["resources"])
    start, end = (int(n, 16) for n in big.guest(f"head -n {bar['index'] + 1} {device}/resource | tail -n 1").split()[:2])
    assert (bar["base"], bar["size"]) == (start, end + 1 - start)
    assert big.get("vm.counters") == {}


def test_entropy_comes_from_the_device(big):
    assert "virtio_rng" in big.guest("cat /sys/class/misc/hw_random/rng_current")
    assert big.guest("head -c 64 /dev/hwrng | wc -c") == "64"
    assert big.guest("head -c 16 /dev/hwrng | od -An -tx1") != big.guest("head -c 16 /dev/hwrng | od -An -tx1")


def test_nmi_reaches_every_cpu(big):
    def counts():
        return [int(n) for n in re.findall(r"\b\d+\b", big.guest("grep NMI: /proc/interrupts"))]

    before = counts()
    big.put("vm.nmi")
    wait_until(lambda: all(b > a for a, b in zip(before, counts())), 10)
    assert len(before) == 4


@pytest.mark.slow
def test_guest_boots_with_64_cpus():
    """Half a minute on two emulated processors."""
    with GuestVm(cpus=64) as vm:
        assert vm.up()["cpus"] == 64
        assert vm.guest("cat /sys/devices/system/cpu/online") == "0-63"
        for cpu in (0, 31, 63):
            assert vm.guest(f"taskset {1 << cpu:x} cut -d' ' -f39 /proc/self/stat") == str(cpu)
        assert [name for name in vm.threads() if name.startswith("vcpu")] == sorted(f"vcpu{n}" for n in range(64))


# --- memory -----------------------------------------------------------------------------------------------------------


def mapping_of(vm, size):
    """Name of the process's mapping of guest RAM, and how much of it is there in KiB."""
    entry = None
    with open(f"/proc/{vm.pid}/smaps") as file:
        for line in file:
            fields = line.split()
            if re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", fields[0]):
                start, end = (int(n, 16) for n in fields[0].split("-"))
                entry = (" ".join(fields[5:]), {}) if end - start == size else None
                if entry:
                    found = entry
            elif entry:
                entry[1][fields[0].rstrip(":")] = " ".join(fields[1:])
    return found


@pytest.fixture
def huge_pages():
    """Huge pages of 2 MiB for one guest of 256 MiB."""
    path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    with open(path) as file:
        before = file.read()
    try:
        with open(path, "w") as file:
            file.write(str(int(before) + 128))
    except PermissionError:
        pytest.skip("only root can set huge pages aside")
    with open(path) as file:
        if int(file.read()) < int(before) + 128:
            pytest.skip("the host has no 128 huge pages to spare")
    yield 128
    with open(path, "w") as file:
        file.write(before)


def test_guest_boots_in_shared_memory():
    with GuestVm(memory={"size": 256 * MIB, "shared": True}) as vm:
        vm.up()
        assert "memfd:" in mapping_of(vm, 256 * MIB)[0]


def test_guest_boots_in_huge_pages(huge_pages):
    with GuestVm(memory={"size": 256 * MIB, "hugepages": True, "hugepage_size": 2 * MIB}) as vm:
        vm.up()
        facts = mapping_of(vm, 256 * MIB)[1]
        assert facts["KernelPageSize"] == "2048 kB"


def test_prefaulted_memory_is_there_when_the_guest_starts():
    with GuestVm(memory={"size": 256 * MIB, "prefault": True, "thp": False}) as vm:
        vm.put("vm.boot")
        assert mapping_of(vm, 256 * MIB)[1]["Rss"] == f"{256 * 1024} kB"
        vm.ready()


def test_memory_that_the_host_has_not_is_refused_and_leaves_nothing():
    with GuestVm(memory={"size": 256 * MIB, "hugepages": True, "hugepage_size": GIB, "prefault": True}) as vm:
        response = vm.api("PUT", "vm.boot")
        assert response.status in (400, 500)
        assert vm.state() == "Created"
