# SPDX-License-Identifier: Apache-2.0
"""Each lint is shown to fail on what it is there for, and to pass what it must let through."""

import os
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import check_includes  # noqa: E402
import check_sources  # noqa: E402
import check_tools  # noqa: E402

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
SPDX_SCRIPT = "# SPDX-License-Identifier: Apache-2.0\n"


@pytest.fixture
def tree(tmp_path):
    """Makes files: tree({"base/a.c": text}); C text gets its licence line. Returns the root."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SPDX + text if name.endswith((".c", ".h")) else text)
        return str(tmp_path)

    return make


def found_by(check, root):
    found, _ = check(root)
    return [str(f) for f in found]


# --- includes -------------------------------------------------------------------------------------------------------


def include_offences(tree, source, target, extra=None):
    root = tree({source: f'\n#include "{target}"\n', target: "", **(extra or {})})
    return found_by(check_includes.check, root)


@pytest.mark.parametrize(
    "source, target",
    [
        ("shim/a.c", "vmm/machine/vm.h"),
        ("shim/a.c", "net/tap.h"),
        ("shim/ctl/a.c", "shim/api.h"),
        ("oci/a.c", "base/json.h"),
        ("vmm/virtio/net.c", "net/tap.h"),
        ("vmm/virtio/blk.c", "storage/raw.h"),
        ("vmm/state/a.c", "vmm/machine/vm.h"),
        ("vmm/machine/a.c", "vmm/acpi/acpi.h"),
        ("vmm/vhost/a.c", "vmm/virtio/virtqueue.h"),
        ("vmm/legacy/a.c", "vmm/bus/bus.h"),
        ("vmm/virtio/a.c", "vmm/pci/pci.h"),
        ("vmm/cpu/a.c", "vmm/kvm/kvm.h"),
        ("vmm/bus/a.c", "vmm/kvm/kvm.h"),
        ("vmm/kvm/a.c", "vmm/memory/guest_memory.h"),
        ("vmm/pci/a.c", "vmm/pci/pci.h"),
        ("vmm/config/a.c", "base/json.h"),
        ("storage/a.c", "base/fd.h"),
        ("tests/unit/test_a.c", "shim/api.h"),
        ("tests/unit/test_a.c", "tests/unit/helper.h"),
    ],
)
def test_downward_include_passes(tree, source, target):
    assert include_offences(tree, source, target) == []


@pytest.mark.parametrize(
    "source, target",
    [
        ("base/a.c", "net/tap.h"),
        ("base/a.c", "vmm/kvm/kvm.h"),
        ("net/a.c", "storage/raw.h"),
        ("storage/a.c", "net/tap.h"),
        ("net/a.c", "vmm/virtio/net.h"),
        ("vmm/machine/a.c", "shim/api.h"),
        ("shim/a.c", "oci/oci.h"),
        ("oci/a.c", "vmm/machine/vm.h"),
        ("oci/a.c", "shim/api.h"),
        ("vmm/machine/a.c", "vmm/state/snapshot.h"),
        ("vmm/acpi/a.c", "vmm/machine/vm.h"),
        ("vmm/acpi/a.c", "vmm/boot/boot.h"),
        ("vmm/virtio/a.c", "vmm/legacy/uart.h"),
        ("vmm/virtio/a.c", "vmm/vhost/user.h"),
        ("vmm/pci/a.c", "vmm/virtio/virtio.h"),
        ("vmm/pci/a.c", "vmm/cpu/cpus.h"),
        ("vmm/kvm/a.c", "vmm/bus/bus.h"),
        ("vmm/memory/a.c", "vmm/kvm/kvm.h"),
        ("vmm/config/a.c", "vmm/memory/layout.h"),
        ("vmm/attic/a.c", "base/util.h"),
        ("vmm/a.c", "vmm/pci/pci.h"),
        ("attic/a.c", "base/util.h"),
        ("shim/a.c", "tests/unit/helper.h"),
    ],
)
def test_upward_or_sideways_include_is_found_with_its_line(tree, source, target):
    offences = include_offences(tree, source, target)
    assert len(offences) == 1
    assert offences[0].startswith(f"{source}:3: ")


@pytest.mark.parametrize(
    "source, header, good",
    [
        ("base/loop.c", "uv.h", True),
        ("shim/conn.c", "uv.h", False),
        ("tests/unit/test_loop.c", "uv.h", False),
        ("base/json.c", "jansson.h", True),
        ("vmm/config/a.c", "jansson.h", False),
        ("net/netlink.c", "netlink/netlink.h", True),
        ("net/netlink.c", "linux/rtnetlink.h", True),
        ("net/tap.c", "netlink/netlink.h", False),
        ("net/tap.c", "linux/rtnetlink.h", False),
        ("shim/sandbox_rules.c", "seccomp.h", True),
        ("shim/sandbox.c", "seccomp.h", False),
        ("shim/main.c", "seccomp.h", False),
        ("shim/main.c", "sys/capability.h", False),
        ("base/http.c", "llhttp.h", True),
        ("shim/conn.c", "llhttp.h", False),
        ("vmm/kvm/kvm.h", "linux/kvm.h", True),
        ("vmm/cpu/cpuid.c", "linux/kvm.h", False),
        ("vmm/cpu/cpuid.c", "stdio.h", True),
    ],
)
def test_library_header_stays_in_its_room(tree, source, header, good):
    offences = found_by(check_includes.check, tree({source: f"#include <{header}>\n"}))
    assert [o.startswith(f"{source}:2: ") for o in offences] == ([] if good else [True])


@pytest.mark.parametrize(
    "source, code, good",
    [
        ("vmm/kvm/kvm.c", "ioctl(fd, KVM_RUN, 0);", True),
        ("vmm/cpu/run.c", "ioctl(fd, KVM_RUN, 0);", False),
        ("vmm/cpu/run.c", "rc = ioctl(vcpu_fd(v,\n 1), KVM_SET_REGS, &regs);", False),
        ("vmm/cpu/run.c", "xioctl(fd, KVM_RUN);", False),
        ("vmm/cpu/run.c", "/* ioctl(fd, KVM_RUN) */", True),
        ("vmm/cpu/run.c", 'log("ioctl(KVM_RUN)");', True),
        ("vmm/cpu/run.c", "ioctl(fd, TUNSETIFF); x = KVM_EXIT_IO;", True),
    ],
)
def test_kvm_ioctl_outside_its_room_is_found(tree, source, code, good):
    offences = found_by(check_includes.check, tree({source: f"void f(void)\n{{\n{code}\n}}\n"}))
    assert len(offences) == (0 if good else 1)


def test_quoted_include_must_be_a_path_from_the_root(tree):
    root = tree({"base/a.c": '#include "b.h"\n#include "../base/b.h"\n#include "gone.h"\n', "base/b.h": ""})
    assert [o.split(": ")[0] for o in found_by(check_includes.check, root)] == ["base/a.c:2", "base/a.c:3", "base/a.c:4"]


def test_own_header_in_angle_brackets_is_found(tree):
    root = tree({"base/a.c": "#include <base/b.h>\n", "base/b.h": ""})
    assert len(found_by(check_includes.check, root)) == 1


def test_include_in_a_comment_is_no_include(tree):
    root = tree({"base/a.c": '/*\n#include "shim/api.h"\n*/\n// #include <uv.h>\n'})
    assert found_by(check_includes.check, root) == []


def test_odd_spelling_of_an_include_is_seen(tree):
    root = tree({"base/a.c": '\n\n  #  include   "shim/api.h"\n', "shim/api.h": ""})
    assert [o.split(": ")[0] for o in found_by(check_includes.check, root)] == ["base/a.c:4"]


def test_ring_of_headers_is_found_once(tree):
    files = {"base/a.h": '#include "base/b.h"\n', "base/b.h": '#include "base/c.h"\n', "base/c.h": '#include "base/a.h"\n'}
    offences = found_by(check_includes.check, tree(files))
    assert len(offences) == 1
    assert "base/a.h -> base/b.h -> base/c.h -> base/a.h" in offences[0]


def test_program_prints_offences_and_exits_with_1(tree):
    root = tree({"base/a.c": '#include "shim/api.h"\n', "shim/api.h": ""})
    done = subprocess.run([os.path.join(HERE, "check_includes.py"), root], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("base/a.c:2: ")


# --- sources --------------------------------------------------------------------------------------------------------


def source_offences(tree, files):
    return found_by(check_sources.check, tree(files))


@pytest.mark.parametrize("name", ["base/a.c", "base/a.h", "tests/x.py", "tests/x.sh", "tools/script"])
def test_missing_licence_line_is_found(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nexit 0\n" if name == "tools/script" else "\n")
    assert [o for o in found_by(check_sources.check, str(tmp_path)) if "SPDX" in o] == [
        f"{name}:1: does not begin with the SPDX line"
    ]


def test_licence_line_passes_behind_the_interpreter_line(tree):
    assert source_offences(tree, {"x.sh": "#!/bin/sh\n" + SPDX_SCRIPT, "y.py": SPDX_SCRIPT, "a.c": ""}) == []


def function(lines, head="static int f(struct a *a,\n\t     int b)"):
    return head + "\n{\n" + "\tx();\n" * lines + "}\n"


def test_long_function_is_found_by_name(tree):
    offences = source_offences(tree, {"base/a.c": function(80, "void ok(void)") + "\n" + function(81)})
    assert len(offences) == 1
    assert "f() has 81 lines" in offences[0]


def test_function_with_attributes_keeps_its_own_name(tree):
    head = "static size_t PRINTF_LIKE(2, 0) format_it(char *s, int (*cb)(void))"
    assert "format_it() has 99 lines" in source_offences(tree, {"base/a.c": function(99, head)})[0]


def test_long_table_is_no_function(tree):
    assert source_offences(tree, {"base/a.c": "static const int t[] = {\n" + "\t1,\n" * 200 + "};\n"}) == []


def test_long_file_is_found(tree):
    assert source_offences(tree, {"base/a.c": "int x;\n" * 699}) == []
    assert "701 lines" in source_offences(tree, {"base/a.c": "int x;\n" * 700})[0]


@pytest.mark.parametrize("call", sorted(check_sources.BANNED_CALLS))
def test_banned_call_is_found_in_the_program_only(tree, call):
    code = f"void f(void)\n{{\n\t{call}(x);\n}}\n"
    offences = source_offences(tree, {"base/a.c": code, "tests/unit/test_a.c": code})
    assert len(offences) == 1
    assert offences[0].startswith(f"base/a.c:4: {call}()")


def test_names_that_contain_a_banned_call_pass(tree):
    code = "/* exit(1) */\nvoid f(void)\n{\n\tthread_exit(t->exit(1), ops.abort(), _exit(0), \"gets(s)\");\n}\n"
    assert source_offences(tree, {"base/a.c": code}) == []


def test_typedef_of_a_struct_is_found(tree):
    assert len(source_offences(tree, {"base/a.h": "typedef struct {\n\tint x;\n} x_t;\n"})) == 1
    assert len(source_offences(tree, {"base/a.h": "typedef int (*fn)(struct a *a);\n"})) == 0


def test_unfinished_work_is_found(tree):
    assert len(source_offences(tree, {"base/a.c": "/* TODO: the rest */\n"})) == 1


def test_allowlist_excuses_with_a_reason(tree):
    files = {
        "base/a.c": function(81),
        check_sources.ALLOWLIST: "# comment\n\nfunction-length base/a.c:f -- one long table of cases\n",
    }
    assert source_offences(tree, files) == []


@pytest.mark.parametrize(
    "entry, complaint",
    [
        ("function-length base/a.c:f", "not of the form"),
        ("function-length base/a.c:f -- ", "not of the form"),
        ("base/a.c -- why", "not of the form"),
        ("function-length base/a.c:gone -- was long once", "excuses nothing"),
    ],
)
def test_allowlist_entry_without_reason_or_use_is_found(tree, entry, complaint):
    offences = source_offences(tree, {"base/a.c": "", check_sources.ALLOWLIST: entry + "\n"})
    assert len(offences) == 1
    assert complaint in offences[0]


# --- other programs -------------------------------------------------------------------------------------------------


def with_format(files):
    with open(os.path.join(HERE, "..", "..", ".clang-format"), encoding="utf-8") as f:
        return {".clang-format": f.read(), **files}


def test_formatting_is_checked(tree):
    assert found_by(check_tools.check_format, tree(with_format({"base/a.c": "\nint x;\n"}))) == []
    offences = found_by(check_tools.check_format, tree(with_format({"base/a.c": "\nint  f( void ){\n    return 1; }\n"})))
    assert offences[0].startswith("base/a.c:3: ")


def test_shell_scripts_are_checked(tree):
    script = "#!/bin/sh\n" + SPDX_SCRIPT
    assert found_by(check_tools.check_shell, tree({"x": script + "echo hello\n"})) == []
    for first in ("#!/bin/sh", "#!/usr/bin/env bash", "#!/bin/busybox sh"):
        offences = found_by(check_tools.check_shell, tree({"x": first + "\nif true; then\n"}))
        assert offences and offences[0].startswith("x:")


def test_python_syntax_is_checked(tree):
    assert found_by(check_tools.check_python, tree({"a.py": "x = 1\n", "b": "#!/usr/bin/env python3\ny = 2\n"})) == []
    offences = found_by(check_tools.check_python, tree({"a.py": "x = (\n", "b": "#!/usr/bin/python3\nif\n"}))
    assert [o.split(":")[0] for o in offences] == ["a.py", "b"]


@pytest.mark.skipif(not shutil.which("cppcheck"), reason="cppcheck is not installed")
def test_cppcheck_finds_a_null_dereference(tree):
    assert found_by(check_tools.check_cppcheck, tree({"base/a.c": "int f(void)\n{\n\treturn 0;\n}\n"})) == []
    code = "int f(void)\n{\n\tint *p = 0;\n\n\treturn *p;\n}\n"
    assert "nullPointer" in found_by(check_tools.check_cppcheck, tree({"base/a.c": code}))[0]


def test_tool_that_fails_without_a_place_is_not_success(tree):
    root = tree({"a.c": ""})
    assert "exit status 1" in str(check_tools.run_tool(root, ["false"], ["a.c"])[0])


def test_missing_tool_is_told(tree):
    with pytest.raises(check_tools.ToolMissing):
        check_tools.run_tool(tree({"a.c": ""}), ["no-such-linter"], ["a.c"])


# --- all together ---------------------------------------------------------------------------------------------------


def run_all(root, **env):
    return subprocess.run(
        [sys.executable, os.path.join(HERE, "run"), root], stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
    )


def test_run_prints_one_line_each_and_passes_a_clean_tree(tree):
    done = run_all(tree(with_format({"base/a.c": "int x;\n"})))
    assert done.returncode == 0, done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "includes", "sources", "format", "shell", "python", "cppcheck",
    ]  # fmt: skip


def test_run_fails_when_one_lint_fails(tree):
    done = run_all(tree(with_format({"base/a.c": '#include "shim/api.h"\n'})))
    assert done.returncode == 1
    assert "includes   FAILED" in done.stdout
    assert "base/a.c:2: " in done.stdout


def test_run_tells_a_missing_tool_from_a_finding(tree, tmp_path):
    done = run_all(tree(with_format({"base/a.c": "int x;\n"})), PATH=str(tmp_path))
    assert done.returncode == 2
    assert "format     MISSING" in done.stdout
    assert "cppcheck   skipped" in done.stdout


def test_only_what_git_tracks_is_checked(tree):
    root = tree({"base/a.c": '#include "shim/api.h"\n', "base/b.c": '#include "shim/api.h"\n'})
    subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run(["git", "-C", root, "add", "base/b.c"], check=True)
    assert [o.split(":")[0] for o in found_by(check_includes.check, root)] == ["base/b.c"]
