# SPDX-License-Identifier: Apache-2.0
"""What the lints share: which files the project has, and C text without comments."""

import dataclasses
import os
import re
import subprocess

C_SUFFIXES = (".c", ".h")


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    path: str
    line: int
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.text}"


def files(root):
    """The project's files, relative to root: what git tracks, or, outside a repository, what is there."""
    if os.path.exists(os.path.join(root, ".git")):
        out = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, stdout=subprocess.PIPE).stdout
        names = [name for name in out.decode().split("\0") if name]
    else:
        names = []
        for folder, subfolders, here in os.walk(root):
            subfolders[:] = [s for s in subfolders if s not in ("build", "__pycache__", ".pytest_cache")]
            names += [os.path.relpath(os.path.join(folder, name), root) for name in here]
    return sorted(name for name in names if os.path.isfile(os.path.join(root, name)))


def c_files(root):
    return [name for name in files(root) if name.endswith(C_SUFFIXES)]


def read(root, name):
    with open(os.path.join(root, name), encoding="utf-8", errors="surrogateescape") as f:
        return f.read()


def interpreter(root, name):
    """The program on a script's first line without its folder ("sh", "python3"), or None."""
    with open(os.path.join(root, name), "rb") as f:
        first = f.readline(200)
    if not first.startswith(b"#!"):
        return None
    words = first[2:].decode(errors="replace").split()
    if words and os.path.basename(words[0]) in ("env", "busybox"):
        words = words[1:]
    return os.path.basename(words[0]) if words else None


def shell_scripts(root):
    return [n for n in files(root) if n.endswith(".sh") or interpreter(root, n) in ("sh", "bash", "dash")]


def python_scripts(root):
    return [n for n in files(root) if n.endswith(".py") or (interpreter(root, n) or "").startswith("python")]


_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.DOTALL)


def blank(text):
    """Everything but its newlines, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    return _TOKEN.sub(lambda m: blank(m[0]) if m[0][0] == "/" else m[0], text)


def without_comments_and_strings(text):
    return _TOKEN.sub(lambda m: blank(m[0]), text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1
