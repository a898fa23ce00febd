# SPDX-License-Identifier: Apache-2.0
"""The lints that other programs do: clang-format, shellcheck, Python's compiler, cppcheck."""

import os
import re
import shutil
import subprocess

import tree

LOCATED = re.compile(r"^(?P<path>[^:\n]+):(?P<line>\d+):(?:\d+:)? ?(?P<text>.*)$")


class ToolMissing(Exception):
    """A tool that the lint needs is not there."""


class OptionalToolMissing(ToolMissing):
    """A tool that the lint can do without is not there."""


def run_tool(root, command, names):
    """Findings in the output of `command` + names, run in root; its other lines are context and are left out."""
    if not names:
        return []
    if not shutil.which(command[0]):
        raise ToolMissing(f"{command[0]} is not installed; packaging/install-deps installs it")
    done = subprocess.run(
        command + names, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode == 0:
        return []
    found = []
    for line in done.stdout.splitlines():
        m = LOCATED.match(line)
        if m and os.path.exists(os.path.join(root, m["path"])):
            found.append(tree.Finding(os.path.normpath(m["path"]), int(m["line"]), m["text"]))
    # A tool that fails without pointing anywhere must not look like success.
    return found or [tree.Finding(command[0], 0, f"exit status {done.returncode}: {done.stdout.strip()[-500:]}")]


def check_format(root):
    names = tree.c_files(root)
    return run_tool(root, ["clang-format", "--dry-run", "-Werror"], names), f"{len(names)} files"


def check_shell(root):
    names = tree.shell_scripts(root)
    # busybox is a shell that shellcheck does not know from the first line.
    command = ["shellcheck", "--format=gcc", "--severity=warning"]
    busybox = [n for n in names if b"busybox" in open(os.path.join(root, n), "rb").readline()]
    found = run_tool(root, command, [n for n in names if n not in busybox])
    found += run_tool(root, command + ["--shell=dash"], busybox)
    return found, f"{len(names)} scripts"


def check_python(root):
    names = tree.python_scripts(root)
    found = []
    for name in names:
        try:
            compile(tree.read(root, name), name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as e:
            found.append(tree.Finding(name, getattr(e, "lineno", 0) or 0, str(getattr(e, "msg", e))))
    return found, f"{len(names)} files"


def check_cppcheck(root):
    if not shutil.which("cppcheck"):
        raise OptionalToolMissing("cppcheck is not installed")
    names = [n for n in tree.c_files(root) if n.endswith(".c") and not n.startswith("tests/")]
    command = [
        "cppcheck", "--quiet", "--error-exitcode=1", "--inline-suppr", "--std=c11", "-D_GNU_SOURCE", "-I.",
        "--enable=warning,portability", "--template={file}:{line}: {id}: {message}",
        f"--suppressions-list={os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cppcheck.suppressions')}",
    ]  # fmt: skip
    return run_tool(root, command, names), f"{len(names)} files"
