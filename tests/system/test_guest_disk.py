# SPDX-License-Identifier: Apache-2.0
"""A Linux guest's virtio disks, each looked at from both sides: by the guest, and in the image."""

import contextlib
import fcntl
import hashlib
import os
import random
import re
import struct
import subprocess
import time

import pytest
import tiny
from coracle import ApiError, Coracle
from guest_vm import MIB, GuestVm

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")]

SECTOR = 512
PIECE = 16 * MIB


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def noise(path, size):
    """A file of bytes that nobody wrote before. Returns its path."""
    with open(path, "wb") as file:
        file.write(os.urandom(size))
        os.fsync(file.fileno())
    return str(path)


def piece(path, offset=0, length=None):
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def allocated(path):
    """Bytes that the image takes in its file system."""
    return os.stat(path).st_blocks * 512


@contextlib.contextmanager
def loop_device(path):
    subprocess.run(["modprobe", "loop"], check=False)
    device = run("losetup", "--find", "--show", path)
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


class FileSystem:
    """An ext4 of the host's on a disk of its own, which can lose power. root: where it is mounted."""

    # _IOR('X', 125, __u32) of ext4 and xfs; the flag: the journal is not written out either.
    IOC_SHUTDOWN = 0x8004587D
    NO_LOG_FLUSH = 2

    def __init__(self, device, root):
        self.device = device
        self.root = str(root)
        run("mkfs.ext4", "-q", device)
        run("mount", device, self.root)

    def path(self, name):
        return os.path.join(self.root, name)

    def lose_power(self):
        """What was not synced is gone, whatever the page cache held. Mounts it again, as after a crash."""
        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, self.IOC_SHUTDOWN, struct.pack("I", self.NO_LOG_FLUSH))
        finally:
            os.close(fd)
        run("umount", self.root)
        run("mount", self.device, self.root)


@contextlib.contextmanager
def file_system(directory, size):
    """A FileSystem in a file of the directory."""
    tiny.sparse_file(directory / "host.img", size)
    (directory / "mounted").mkdir()
    with loop_device(str(directory / "host.img")) as device:
        system = FileSystem(device, directory / "mounted")
        try:
            yield system
        finally:
            run("umount", system.root)


# --- one guest with disks of every kind -------------------------------------------------------------------------------


class Disks(GuestVm):
    """images: path by disk id. device(id): the guest's name for the disk."""

    def start(self, images):
        self.images = images
        self.up()
        self.look()

    def look(self):
        found = self.guest(
            "for d in /sys/block/vd*; do "
            "echo ${d##*/} $(cat $d/serial) $(readlink -f $d/device | sed 's,/virtio[0-9]*$,,;s,.*/,,'); done"
        )
        self.found = {serial: (name, slot) for name, serial, slot in map(str.split, found.splitlines())}

    def device(self, disk):
        return f"/dev/{self.found[disk][0]}"

    def attribute(self, disk, name):
        return self.guest(f"cat /sys/block/{self.found[disk][0]}/{name}")

    def write_noise(self, disk, mib, seek_mib, flags=""):
        """Has the guest write bytes of its own making to the disk; returns their SHA-256, as the guest sees it."""
        return self.guest(
            f"head -c {mib}m /dev/urandom >/tmp/noise && "
            f"dd if=/tmp/noise of={self.device(disk)} bs=1M seek={seek_mib} conv=fsync,notrunc {flags} 2>/dev/null && "
            "sha256sum </tmp/noise; s=$?; rm /tmp/noise; [ $s = 0 ]",
            120,
        ).split()[0]


@pytest.fixture(scope="module")
def vm(tmp_path_factory):
    directory = tmp_path_factory.mktemp("disks")
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(file_system(directory, 128 * MIB))
        block = stack.enter_context(loop_device(noise(directory / "block", 8 * MIB)))
        images = {
            "plain": noise(directory / "plain", 2 * PIECE),
            "copy": tiny.sparse_file(directory / "copy", 128 * MIB),
            "ext4": tiny.sparse_file(directory / "ext4", 64 * MIB),
            "readonly": noise(directory / "readonly", MIB),
            "queues": tiny.sparse_file(directory / "queues", 64 * MIB),
            "direct": noise(host.path("direct"), 16 * MIB),
            "sync": noise(directory / "sync", 16 * MIB),
            "discard": noise(directory / "discard", 16 * MIB),
            "thick": tiny.sparse_file(directory / "thick", MIB),
            "block": block,
        }
        seed = directory / "seed"
        seed.mkdir()
        (seed / "from-host").write_bytes(b"the host wrote this")
        run("mkfs.ext4", "-q", "-d", str(seed), images["ext4"])
        members = {
            "readonly": {"readonly": True},
            "queues": {"num_queues": 2, "pci_device_id": 20},
            "direct": {"direct": True},
            "sync": {"disable_io_uring": True},
            "thick": {"sparse": False, "serial": "a-serial-of-20-bytes"},
        }
        disks = [{"id": i, "path": path, "image_type": "Raw", **members.get(i, {})} for i, path in images.items()]
        guest = stack.enter_context(Disks(cpus=2, memory=512 * MIB, disks=disks))
        guest.start(images)
        yield guest
        print(f"--- end of the log ---\n{guest.log()[-3000:]}")


def test_guest_finds_each_disk_under_its_id_in_its_slot(vm):
    ids = set(vm.images) - {"thick"} | {"a-serial-of-20-bytes"}
    assert set(vm.found) == ids
    assert vm.found["queues"][1] == "0000:00:14.0"
    tree = vm.info()["device_tree"]
    for disk in set(vm.images) - {"thick"}:
        assert tree[f"_virtio-pci-{disk}"]["pci_bdf"] == vm.found[disk][1]
        assert int(vm.attribute(disk, "size")) * SECTOR == os.path.getsize(vm.images[disk]) or disk == "block"
    assert vm.attribute("block", "size") == str(8 * MIB // SECTOR)


def test_guest_reads_what_the_image_holds(vm):
    seen = vm.guest(f"head -c {PIECE} {vm.device('plain')} | sha256sum", 120)
    assert seen.split()[0] == sha256(piece(vm.images["plain"], 0, PIECE))


def test_image_holds_what_the_guest_wrote_and_nothing_else_changed(vm):
    before = piece(vm.images["plain"])
    digest = vm.write_noise("plain", 15, 16)
    after = piece(vm.images["plain"])
    assert sha256(after[PIECE : 31 * MIB]) == digest
    assert after[:PIECE] == before[:PIECE] and after[31 * MIB :] == before[31 * MIB :]


def test_long_sequential_copy_is_exact(vm):
    for part in range(4):
        vm.guest(
            f"dd if={vm.device('plain')} of={vm.device('copy')} bs=1M seek={part * 32} conv=fsync,notrunc 2>/dev/null", 120
        )
    assert piece(vm.images["copy"]) == 4 * piece(vm.images["plain"])


def test_file_system_goes_from_host_to_guest_and_back(vm, tmp_path):
    vm.guest(f"mount -t ext4 {vm.device('ext4')} /mnt")
    assert vm.guest("cat /mnt/from-host") == "the host wrote this"
    digest = vm.guest("head -c 3m /dev/urandom >/mnt/from-guest && sha256sum </mnt/from-guest && umount /mnt").split()[0]
    assert run("e2fsck", "-fn", vm.images["ext4"])
    run("debugfs", "-R", f"dump from-guest {tmp_path}/got", vm.images["ext4"])
    assert sha256((tmp_path / "got").read_bytes()) == digest


def test_readonly_disk_refuses_writes(vm):
    assert vm.attribute("readonly", "ro") == "1"
    before = piece(vm.images["readonly"])
    status, _ = vm.console.run(f"echo x | dd of={vm.device('readonly')} conv=fsync,notrunc")
    assert status != 0
    # Past the driver's own word for it, which blockdev takes back.
    status, _ = vm.console.run(
        f"blockdev --setrw {vm.device('readonly')} && echo x | dd of={vm.device('readonly')} conv=fsync,notrunc"
    )
    assert status != 0
    assert piece(vm.images["readonly"]) == before
    assert sha256(before) == vm.guest(f"sha256sum <{vm.device('readonly')}").split()[0]


def test_queues_work_side_by_side(vm):
    assert vm.guest(f"ls /sys/block/{vm.found['queues'][0]}/mq").split() == ["0", "1"]
    assert {"_disk_queues_q0", "_disk_queues_q1"} <= set(vm.threads())
    device = vm.device("queues")
    vm.guest(
        "head -c 8m /dev/urandom >/tmp/a; "
        f"(taskset 1 dd if=/tmp/a of={device} bs=64k oflag=direct conv=notrunc 2>/dev/null && touch /tmp/first) & "
        f"taskset 2 dd if=/tmp/a of={device} bs=64k oflag=direct seek=512 conv=notrunc 2>/dev/null && wait && rm /tmp/first"
    )
    digest = vm.guest("sha256sum </tmp/a; rm /tmp/a").split()[0]
    assert sha256(piece(vm.images["queues"], 0, 8 * MIB)) == digest
    assert sha256(piece(vm.images["queues"], 32 * MIB, 8 * MIB)) == digest


@pytest.mark.parametrize("disk", ["direct", "sync", "block"])
def test_every_way_to_the_image_carries_both_directions(vm, disk):
    before = piece(vm.images[disk])
    assert vm.guest(f"head -c 2m {vm.device(disk)} | sha256sum").split()[0] == sha256(before[: 2 * MIB])
    digest = vm.write_noise(disk, 2, 4)
    # A single sector.
    vm.guest(f"echo one | dd of={vm.device(disk)} bs=512 seek=15000 conv=sync,fsync,notrunc 2>/dev/null")
    after = piece(vm.images[disk])
    one = 15000 * SECTOR
    assert sha256(after[4 * MIB : 6 * MIB]) == digest
    assert after[one : one + SECTOR] == b"one\n".ljust(SECTOR, b"\0")
    assert after[: 4 * MIB] == before[: 4 * MIB]
    assert after[6 * MIB : one] == before[6 * MIB : one] and after[one + SECTOR :] == before[one + SECTOR :]


def test_direct_disk_goes_round_the_page_cache(vm):
    number = next(n for n, target in vm.fds().items() if target == vm.images["direct"] and is_direct(vm.pid, n))
    assert number > 2
    assert not any(is_direct(vm.pid, n) for n, target in vm.fds().items() if target == vm.images["plain"])


def is_direct(pid, fd):
    with open(f"/proc/{pid}/fdinfo/{fd}") as file:
        flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    return bool(flags & os.O_DIRECT)


def test_discarded_blocks_leave_the_image(vm):
    image = vm.images["discard"]
    content = piece(image)
    assert allocated(image) == 16 * MIB
    vm.guest(f"blkdiscard -o {4 * MIB} -l {8 * MIB} {vm.device('discard')}")
    assert allocated(image) == 8 * MIB
    assert piece(image) == content[: 4 * MIB] + bytes(8 * MIB) + content[12 * MIB :]
    assert int(vm.attribute("a-serial-of-20-bytes", "queue/discard_max_bytes")) == 0
    assert allocated(vm.images["thick"]) == MIB


def test_fstrim_gives_back_what_a_file_had(vm):
    image = vm.images["ext4"]
    vm.guest(f"mount -t ext4 {vm.device('ext4')} /mnt && head -c 16m /dev/urandom >/mnt/large && sync")
    full = allocated(image)
    vm.guest("rm /mnt/large && sync && fstrim /mnt && umount /mnt")
    assert allocated(image) < full - 15 * MIB
    assert run("e2fsck", "-fn", image)


def test_counters_tell_of_each_disk_what_went_through_it(vm):
    before = vm.get("vm.counters")
    vm.guest(f"dd if={vm.device('plain')} of=/dev/null bs=256k count=8 iflag=direct 2>/dev/null")
    vm.guest(f"dd if=/dev/zero of={vm.device('copy')} bs=256k count=4 oflag=direct conv=notrunc 2>/dev/null")
    after = vm.get("vm.counters")

    def grown(disk, name):
        return after[disk][name] - before[disk][name]

    assert grown("plain", "read_bytes") == 2 * MIB and grown("plain", "write_bytes") == 0
    assert grown("copy", "write_bytes") == MIB and grown("copy", "read_bytes") == 0
    assert grown("plain", "read_ops") >= 8 and grown("copy", "write_ops") >= 4
    assert 0 < after["plain"]["read_latency_min"] <= after["plain"]["read_latency_avg"] <= after["plain"]["read_latency_max"]
    assert before["readonly"]["write_bytes"] == 0


def test_pauses_in_the_middle_of_input_and_output_lose_nothing(vm):
    device = vm.device("copy")
    vm.guest("head -c 4m /dev/urandom >/tmp/p")
    digest = vm.guest("sha256sum </tmp/p").split()[0]
    start = moved = bytes_moved(vm)
    vm.console.send(
        "for i in 0 1 2 3 4 5 6 7; do "
        f"dd if=/tmp/p of={device} bs=32k seek=$((i * 128)) oflag=direct conv=notrunc 2>/dev/null && "
        f"dd if={device} of=/dev/null bs=32k skip=$((i * 128)) count=128 iflag=direct 2>/dev/null || exit 1; "
        "done; rm /tmp/p"
    )
    busy = 0
    for _ in range(8):
        time.sleep(0.3)
        vm.put("vm.pause")
        assert vm.state() == "Paused"
        still = bytes_moved(vm)
        time.sleep(0.2)
        assert bytes_moved(vm) == still  # what was in flight has ended, nothing new begins
        busy += moved < still < start + 64 * MIB
        moved = still
        vm.put("vm.resume")
    assert vm.console.expect(rb"CORACLE-RC (\d+)\r?\n", 120)[1] == b"0"
    assert busy > 0  # at least one pause came in the middle of it
    assert bytes_moved(vm) == start + 64 * MIB
    for part in range(8):
        assert sha256(piece(vm.images["copy"], part * 4 * MIB, 4 * MIB)) == digest
    assert vm.guest(f"dmesg | grep -i 'error.*dev {vm.found['copy'][0]}' || true") == ""


def bytes_moved(vm):
    counters = vm.get("vm.counters")["copy"]
    return counters["read_bytes"] + counters["write_bytes"]


def test_second_vm_on_an_image_is_refused(vm):
    def boot(path, **more):
        with Coracle() as second:
            second.put("vm.create", tiny.config(disks=[{"path": path, "image_type": "Raw", **more}]))
            second.put("vm.boot")

    for readonly in (False, True):
        with pytest.raises(ApiError) as refusal:
            boot(vm.images["plain"], readonly=readonly)
        assert refusal.value.status == 500
        assert f"{vm.images['plain']} is in use by another process or disk" in " ".join(refusal.value.messages)
    # Two readers are no danger to each other.
    boot(vm.images["readonly"], readonly=True)
    with pytest.raises(ApiError):
        boot(vm.images["readonly"])


def test_disks_work_after_a_reboot(vm):
    digest = vm.write_noise("plain", 2, 0)
    vm.console.send("reboot -f")
    vm.ready()
    vm.look()
    assert vm.guest(f"head -c 2m {vm.device('plain')} | sha256sum").split()[0] == digest
    for disk, seek in (("plain", 5), ("queues", 1), ("direct", 1), ("sync", 1), ("block", 1)):
        digest = vm.write_noise(disk, 1, seek)
        assert sha256(piece(vm.images[disk], seek * MIB, MIB)) == digest


# --- sudden death -----------------------------------------------------------------------------------------------------

WRITERS = {
    "fsync": "conv=sync,notrunc,fsync",
    # Without a cache to flush, a write is on the disk when it is acknowledged.
    "write through": "conv=sync,notrunc oflag=direct",
}


@pytest.mark.parametrize(
    "writer, members", [("fsync", {}), ("fsync", {"disable_io_uring": True}), ("write through", {})],
    ids=["fsync over io_uring", "fsync over the synchronous engine", "write through"],
)  # fmt: skip
def test_what_the_guest_was_told_is_written_survives_kill_9_and_power_loss(tmp_path, writer, members):
    """The VMM is killed at some moment, then the host loses what it has not written out: every record that the guest
    took for written has to be in the image. (kill -9 alone would leave the host's page cache whole.)"""
    with file_system(tmp_path, 64 * MIB) as host:
        image = tiny.sparse_file(host.path("image"), 16 * MIB)
        noise(host.path("unsynced"), SECTOR)
        os.sync()
        with GuestVm(disks=[{"path": image, "image_type": "Raw", **members}]) as vm:
            vm.up()
            assert vm.guest("cat /sys/block/vda/cache_type") == "write back"
            if writer == "write through":
                vm.guest("echo 'write through' >/sys/block/vda/cache_type")
                assert vm.guest("cat /sys/block/vda/queue/write_cache") == "write through"
            vm.console.send(
                "n=0; while n=$((n + 1)); do printf 'record %d' $n | "
                f"dd of=/dev/vda bs=512 seek=$n {WRITERS[writer]} 2>/dev/null && echo WRITTEN $n; done"
            )
            vm.console.expect(rb"WRITTEN 20\r?\n")
            time.sleep(random.uniform(0, 1))
            vm.kill()
            with pytest.raises((EOFError, ConnectionError)):
                vm.console.expect(rb"there is no such line")
        with open(host.path("unsynced"), "r+b") as file:
            file.write(b"this was never synced")
        host.lose_power()
        assert piece(host.path("unsynced"), 0, 4) != b"this"
        told = [int(n) for n in re.findall(rb"WRITTEN (\d+)\r?\n", vm.console.log)]
        assert len(told) >= 20 and told == list(range(1, len(told) + 1))
        lost = [n for n in told if piece(image, n * SECTOR, SECTOR) != (b"record %d" % n).ljust(SECTOR, b"\0")]
        assert lost == []
