# SPDX-License-Identifier: Apache-2.0
"""Counts instructions by valgrind's callgrind: all that a program executes in user space, on all its threads. What the
kernel does for it, KVM included, is not in it, and nothing of the guest's is."""

import re
import shutil
import subprocess

VALGRIND = shutil.which("valgrind")


def count(argv, timeout):
    """(instructions, exit status) of a program that ends by itself."""
    if not VALGRIND:
        raise RuntimeError("no valgrind")
    done = subprocess.run(
        [VALGRIND, "--tool=callgrind", "--callgrind-out-file=/dev/null", *argv], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=timeout, check=False,
    )  # fmt: skip
    text = done.stderr.decode("utf-8", "replace")
    found = re.search(r"Collected : (\d+)", text)
    if not found:
        raise RuntimeError(f"callgrind counted nothing: {text[-300:]}")
    return int(found[1]), done.returncode


def rows(what, programs, timeout):
    """programs: who -> (arguments, exit status when the guest has ended in order)."""
    for who, (argv, expected) in programs.items():
        instructions, status = count(argv, timeout)
        if status != expected:
            raise RuntimeError(f"{who} ended with {status}, not {expected}")
        yield {
            "what": what, "who": who, "unit": "million", "value": round(instructions / 1e6, 2), "aim": None,
            "note": "user space, all threads", "chart": what, "case": "",
        }  # fmt: skip
