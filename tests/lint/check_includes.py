#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes point only downwards, and a library is a detail of one room.

The arrows are those of docs/architecture.md. A file may include what lies in its own folder or on a lower level; folders
of one level do not know each other. Tests may include everything, but the libraries' rooms hold for them too.

Usage: check_includes.py [ROOT]. Prints file:line of each offence; exit status 1 if there is one.
"""

import fnmatch
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tree  # noqa: E402

# Higher levels include lower ones. A folder that is not listed here has no place in the house yet.
FLOORS = {"shim": 3, "oci": 3, "vmm": 2, "net": 1, "storage": 1, "chardev": 1, "base": 0}
VMM_ROOMS = {
    "state": 7,
    "machine": 6,
    "vfio": 5, "vhost": 5, "acpi": 5, "boot": 5,
    "virtio": 4, "legacy": 4,
    "pci": 3, "cpu": 3,
    "bus": 2, "kvm": 2,
    "memory": 1, "config": 1,
}  # fmt: skip

# Arrows between rooms of one level, each with its reason; the way back stays closed.
SIBLINGS = {
    ("bus", "kvm"): "interrupt routing ends in KVM's routing table and irqfds",
}

# coracle-oci drives a shim through its API socket only.
FORBIDDEN_FLOORS = {"oci": {"vmm", "shim"}}

# header pattern -> files that may include it
LIBRARY_ROOMS = {
    "uv.h": ["base/loop*"],
    "uv/*": ["base/loop*"],
    "jansson.h": ["base/json*"],
    # Requests are read in one room, responses in the other.
    "llhttp.h": ["base/http*", "shim/ctl/client*"],
    "netlink/*": ["net/netlink*"],
    "linux/netlink.h": ["net/netlink*"],
    "linux/rtnetlink.h": ["net/netlink*"],
    "linux/genetlink.h": ["net/netlink*"],
    # At run time there is no libseccomp: the filters are compiled when the program is built.
    "seccomp.h": ["shim/sandbox_compile*", "shim/sandbox_rules*", "tests/unit/test_sandbox*"],
    "linux/seccomp.h": ["shim/sandbox*", "tests/*"],
    "sys/capability.h": ["shim/sandbox*", "tests/*"],
    # The sandbox needs the numbers of the ioctls that it lets through.
    "linux/kvm.h": ["vmm/kvm/*", "shim/sandbox*", "tests/*"],
}

KVM_IOCTL_FILES = ["vmm/kvm/*", "tests/*"]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)
KVM_IOCTL = re.compile(r"\b\w*ioctl\w*\s*\([^;{}]*?\b(KVM_[A-Z0-9_]+)")


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, p) for p in patterns)


def folder_of(name):
    """(floor, room): ("vmm", "pci"), ("base", ""); a floor's other subfolders belong to the floor."""
    parts = name.split("/")
    floor = parts[0] if len(parts) > 1 else ""
    return floor, parts[1] if floor == "vmm" and len(parts) > 2 else ""


def arrow_offence(source, target):
    """Why `source` must not include `target`, or None."""
    floor, room = folder_of(source)
    to_floor, to_room = folder_of(target)
    if floor == "tests":
        return None
    if to_floor == "tests":
        return "the program includes a test's header"
    for name, f, r in ((source, floor, room), (target, to_floor, to_room)):
        if f not in FLOORS:
            return f"{name} is in no folder of the house"
        if f == "vmm" and r not in VMM_ROOMS:
            return f"{name} is in no room of vmm/"
    if to_floor in FORBIDDEN_FLOORS.get(floor, ()):
        return f"{floor}/ must not know {to_floor}/"
    if floor != to_floor:
        if FLOORS[to_floor] < FLOORS[floor]:
            return None
        return f"{floor}/ includes {to_floor}/, which is not below it"
    if room == to_room or (room, to_room) in SIBLINGS or VMM_ROOMS[to_room] < VMM_ROOMS[room]:
        return None
    return f"vmm/{room} includes vmm/{to_room}, which is not below it"


def includes(text):
    """(line, kind, header) of each include; kind is '<' or '"'."""
    for m in INCLUDE.finditer(tree.without_comments(text)):
        # The first group: leading blanks may reach over empty lines.
        yield tree.line_of(text, m.start(1)), m[1], m[2]


def check_file(root, name, known):
    text = tree.read(root, name)
    for line, kind, header in includes(text):
        for pattern, rooms in LIBRARY_ROOMS.items():
            if matches(header, [pattern]) and not matches(name, rooms):
                yield tree.Finding(name, line, f"<{header}> belongs to {' and '.join(rooms)} only")
        if kind == "<":
            if header in known:
                yield tree.Finding(name, line, f"the project's own {header} is included with <>")
            continue
        if header not in known:
            yield tree.Finding(name, line, f'"{header}" is not the path of a header from the root')
            continue
        offence = arrow_offence(name, header)
        if offence:
            yield tree.Finding(name, line, offence)
    if not matches(name, KVM_IOCTL_FILES):
        bare = tree.without_comments_and_strings(text)
        for m in KVM_IOCTL.finditer(bare):
            yield tree.Finding(name, tree.line_of(bare, m.start()), f"ioctl {m[1]} outside vmm/kvm")


def check_cycles(root, headers):
    """Headers that include each other in a ring; one finding per ring."""
    graph = {h: [(t, line) for line, kind, t in includes(tree.read(root, h)) if t in headers] for h in headers}
    done = set()

    def walk(header, path):
        path = path + [header]
        for target, line in graph[header]:
            if target in path:
                ring = path[path.index(target) :] + [target]
                yield tree.Finding(header, line, "headers include each other: " + " -> ".join(ring))
            elif target not in done:
                yield from walk(target, path)
        done.add(header)

    for header in sorted(headers):
        if header not in done:
            yield from walk(header, [])


def check(root):
    names = tree.c_files(root)
    known = set(names)
    found = [f for name in names for f in check_file(root, name, known)]
    found += check_cycles(root, {n for n in names if n.endswith(".h")})
    return sorted(found), f"{len(names)} files"


def main(argv):
    found, _ = check(argv[1] if len(argv) > 1 else ".")
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
