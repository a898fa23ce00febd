# SPDX-License-Identifier: Apache-2.0
"""A Linux guest's virtio network devices, on taps that coracle makes, finds by name, or is given."""

import fcntl
import hashlib
import json
import os
import socket
import struct
import subprocess
import threading
import urllib.request

import pytest
from coracle import wait_until
from guest import images
from guest_vm import MIB, GuestVm
from netns import network_namespace

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.geteuid() != 0, reason="makes taps")]

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
# Bits of the device's features (virtio 1.2, 5.1.3).
CSUM, GUEST_CSUM, MTU, MAC, GUEST_TSO4, HOST_TSO4, MRG_RXBUF, MQ = 0, 1, 3, 5, 7, 11, 15, 22


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if arguments[0].startswith("-j") else done.stdout


def links():
    """The host's interfaces: {name: {"mtu", "address", ...}}."""
    return {link["ifname"]: link for link in ip("-j", "address")}


def open_taps(name, count=1):
    """Descriptors of a new tap, one per queue, as an orchestrator makes it."""
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if count > 1 else 0)
    fds = []
    for _ in range(count):
        fds.append(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
        fcntl.ioctl(fds[-1], TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fds


@pytest.fixture(scope="module", autouse=True)
def network():
    with network_namespace():
        yield


class Networked(GuestVm):
    """ports: {id: number}; the guest's MAC is 52:54:00:00:00:NUMBER, the host's address 10.9.NUMBER.1, the guest's .2"""

    def __init__(self, *args, ports, **more):
        self.ports = ports
        super().__init__(*args, **more)

    def configure(self):
        """Gives the guest's interfaces their addresses."""
        found = self.guest("for i in /sys/class/net/eth*; do echo $(cat $i/address) ${i##*/}; done")
        names = dict(line.split() for line in found.splitlines())
        self.interfaces = {port: names[guest_mac(number)] for port, number in self.ports.items()}
        for port, name in self.interfaces.items():
            self.guest(f"ip addr add {guest_ip(self.ports[port])}/24 dev {name} && ip link set {name} up")
        self.guest("httpd -p 8080 -h /tmp")

    def sysfs(self, port, name):
        return self.guest(f"cat /sys/class/net/{self.interfaces[port]}/{name}")

    def features(self, port):
        """Bits that the guest's driver has taken."""
        return {bit for bit, value in enumerate(self.sysfs(port, "device/features")) if value == "1"}

    def ping_both_ways(self, port):
        number = self.ports[port]
        assert ", 0% packet loss" in self.guest(f"ping -c 3 -i 0.2 -W 10 {host_ip(number)}")
        done = subprocess.run(
            ["busybox", "ping", "-c", "3", "-i", "0.2", "-W", "10", guest_ip(number)], stdout=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
        assert ", 0% packet loss" in done.stdout

    def tcp_both_ways(self, port, size):
        """Sends bytes to the guest and fetches them again; they have to be the same on every side."""
        number = self.ports[port]
        data = os.urandom(size)
        with socket.create_server((host_ip(number), 0)) as server:

            def serve():
                with server.accept()[0] as peer:
                    peer.sendall(data)

            sender = threading.Thread(target=serve)
            sender.start()
            self.guest(f"nc {host_ip(number)} {server.getsockname()[1]} >/tmp/data", 120)
            sender.join()
        assert self.guest("sha256sum </tmp/data", 120).split()[0] == hashlib.sha256(data).hexdigest()
        with urllib.request.urlopen(f"http://{guest_ip(number)}:8080/data", timeout=120) as answer:
            assert answer.read() == data
        self.guest("rm /tmp/data")


def guest_mac(number):
    return f"52:54:00:00:00:{number:02x}"


def host_ip(number):
    return f"10.9.{number}.1"


def guest_ip(number):
    return f"10.9.{number}.2"


PORTS = {"made": 1, "new-name": 2, "old-name": 3, "pairs": 4, "no-csum": 5, "no-tso": 6, "sent": 7}


@pytest.fixture(scope="module")
def vm(network):
    def net(port, address=True, **members):
        number = PORTS[port]
        ours = {"ip": host_ip(number), "mask": "255.255.255.0"} if address else {}
        return {"id": port, "mac": guest_mac(number), **ours, **members}

    ip("tuntap", "add", "old", "mode", "tap", "vnet_hdr")
    sent = open_taps("sent")
    for name, port in (("old", "old-name"), ("sent", "sent")):
        ip("address", "add", f"{host_ip(PORTS[port])}/24", "dev", name)
        ip("link", "set", name, "up")
    nets = [
        net("made", host_mac="52:54:00:00:01:01"),
        net("new-name", tap="new"),
        net("old-name", address=False, tap="old"),
        net("pairs", num_queues=4, mtu=9000),
        net("no-csum", offload_csum=False, offload_tso=False, offload_ufo=False),
        net("no-tso", offload_tso=False, offload_ufo=False),
    ]
    with Networked(ports=PORTS, cpus=2, memory=512 * MIB, net=nets) as guest:
        guest.put("vm.add-net", net("sent", address=False), fds=sent)
        for fd in sent:
            os.close(fd)
        guest.facts = guest.up()
        guest.configure()
        yield guest


def tap_of(port):
    """The host's name for the tap of a device with an address."""
    wanted = host_ip(PORTS[port])
    return next(link for link in links().values() if any(a.get("local") == wanted for a in link["addr_info"]))


@pytest.mark.parametrize("port", PORTS)
def test_ping_and_tcp_go_both_ways(vm, port):
    vm.ping_both_ways(port)
    vm.tcp_both_ways(port, 2 * MIB)


def test_a_hundred_megabytes_go_each_way(vm):
    before = vm.get("vm.counters")["made"]
    vm.tcp_both_ways("made", 100 * 1000 * 1000)
    after = vm.get("vm.counters")["made"]
    assert after["rx_bytes"] - before["rx_bytes"] > 100 * 1000 * 1000
    assert after["tx_bytes"] - before["tx_bytes"] > 100 * 1000 * 1000
    for name in ("rx_frames", "tx_frames"):
        assert after[name] > before[name]


def test_taps_are_as_they_were_asked_for(vm):
    assert tap_of("made")["address"] == "52:54:00:00:01:01"
    assert tap_of("made")["ifname"].startswith("vmtap")
    assert tap_of("new-name")["ifname"] == "new"
    assert tap_of("pairs")["mtu"] == 9000
    assert vm.sysfs("pairs", "mtu") == "9000"
    assert vm.sysfs("made", "mtu") == "1500"
    for port, number in PORTS.items():
        assert "UP" in tap_of(port)["flags"]
        assert vm.sysfs(port, "address") == guest_mac(number)


def test_offloads_are_offered_as_configured(vm):
    assert {CSUM, GUEST_CSUM, MAC, GUEST_TSO4, HOST_TSO4, MRG_RXBUF} <= vm.features("made")
    assert {MTU, MQ} <= vm.features("pairs") and not {MTU, MQ} & vm.features("made")
    assert not {CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4} & vm.features("no-csum")
    assert not {GUEST_TSO4, HOST_TSO4} & vm.features("no-tso")
    assert {CSUM, GUEST_CSUM} <= vm.features("no-tso")


def test_frames_go_through_every_queue_pair(vm):
    queues = vm.guest(f"ls /sys/class/net/{vm.interfaces['pairs']}/queues").split()
    assert queues == ["rx-0", "rx-1", "tx-0", "tx-1"]
    assert {"_net_pairs_qp0", "_net_pairs_qp1"} <= set(vm.threads())
    # The kernel answers through the queue by which a flow came; flows of many ports from either CPU find both.
    for mask in (1, 2):
        vm.guest(f"for i in 1 2 3 4 5 6 7 8; do taskset {mask} wget -q -O /dev/null http://{host_ip(4)}:1/; done; true")
    device = vm.guest(f"basename $(readlink -f /sys/class/net/{vm.interfaces['pairs']}/device)")
    for queue in range(2):
        line = vm.guest(f"grep {device}-input.{queue} /proc/interrupts").split()
        assert int(line[1]) + int(line[2]) > 0


def test_network_works_after_a_reboot(vm):
    """By then the process has given up the rights that making taps takes."""
    assert vm.capabilities() == {}
    vm.console.send("reboot -f")
    vm.ready()
    vm.configure()
    for port in PORTS:
        vm.ping_both_ways(port)
    vm.tcp_both_ways("pairs", MIB)
    assert {MTU, MQ} <= vm.features("pairs")


def test_taps_that_were_made_are_gone_with_the_vm(vm):
    """The last test of this guest."""
    made = tap_of("made")["ifname"]
    vm.put("vm.delete")
    assert vm.ping()
    wait_until(lambda: not {made, "new", "sent"} & set(links()))
    assert "old" in links()
    assert not [target for target in vm.fds().values() if target == "/dev/net/tun"]


def test_taps_are_given_on_the_command_line(network, tmp_path):
    serial = tmp_path / "serial"
    fds = open_taps("given", 2)
    ip("address", "add", f"{host_ip(9)}/24", "dev", "given")
    ip("link", "set", "given", "up")
    given = ",".join(map(str, fds))
    arguments = ["--kernel", images.VMLINUX, "--initramfs", images.INITRAMFS, "--cmdline", "console=ttyS0 quiet"]
    arguments += ["--cpus", "boot=2", "--memory", "size=256M", "--serial", f"socket={serial}", "--console", "off"]
    arguments += ["--net", f"fd=[{given}],num_queues=4,mac={guest_mac(9)}"]
    with Networked(*arguments, ports={"given": 9}, create=False, vmm={"pass_fds": fds}) as vm:
        for fd in fds:
            os.close(fd)
        wait_until(serial.exists)
        vm.connect_serial(str(serial))
        vm.ready()
        vm.configure()
        vm.ping_both_ways("given")
        vm.tcp_both_ways("given", MIB)
        assert MQ in vm.features("given")
    assert "given" not in links()
