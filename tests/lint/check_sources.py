#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cheap rules of the house style: licence line, sizes of files and functions, calls and words that have no place here.

tests/lint/allowlist names the exceptions, each with its reason; an entry that no longer excuses anything is an offence.

Usage: check_sources.py [ROOT]. Prints file:line of each offence; exit status 1 if there is one.
"""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tree  # noqa: E402

ALLOWLIST = "tests/lint/allowlist"
MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 700

SPDX_C = "/* SPDX-License-Identifier: Apache-2.0 */"
SPDX_SCRIPT = "# SPDX-License-Identifier: Apache-2.0"

# Each with what to use instead.
BANNED_CALLS = {
    "strcpy": "snprintf() or memcpy() with a checked length",
    "strcat": "snprintf() or struct buf",
    "sprintf": "snprintf() or struct buf",
    "vsprintf": "vsnprintf()",
    "gets": "fgets()",
    "alloca": "a bounded array or the heap",
    "atoi": "a parser that tells errors",
    "atol": "a parser that tells errors",
    "strtok": "strtok_r() or strchr()",
    "exit": "an error return; only main() ends the process",
    "abort": "an error return",
}
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED_CALLS) + r")\s*\(")
TYPEDEF_STRUCT = re.compile(r"\btypedef\s+(?:struct|union)\b")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def check_licence(root, name, text):
    lines = text.split("\n", 2)
    if name.endswith(tree.C_SUFFIXES):
        good = lines[0] == SPDX_C
    else:
        good = SPDX_SCRIPT in (line.strip() for line in lines[:2])
    if not good:
        yield "licence", name, tree.Finding(name, 1, "does not begin with the SPDX line")


def functions(text):
    """(name, first line, number of lines of the body) of each function: clang-format puts its braces in column 0."""
    lines = tree.without_comments_and_strings(text).split("\n")
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line == "}" and start is not None:
            head = start - 1
            while head > 0 and lines[head - 1].strip() and lines[head - 1][0] not in "#}{;":
                head -= 1
            signature = " ".join(lines[head:start])
            names = [n for n in re.findall(r"(\w+)\s*\(", signature) if not n.isupper() and n != "__attribute__"]
            yield names[0] if names else "?", start + 1, i - start - 1
            start = None


def check_functions(root, name, text):
    for function, line, length in functions(text):
        if length > MAX_FUNCTION_LINES:
            why = f"{function}() has {length} lines; {MAX_FUNCTION_LINES} is the limit"
            yield "function-length", f"{name}:{function}", tree.Finding(name, line, why)


def check_file_length(root, name, text):
    length = text.count("\n")
    if length > MAX_FILE_LINES:
        why = f"{length} lines; {MAX_FILE_LINES} is the limit"
        yield "file-length", name, tree.Finding(name, length, why)


def check_calls(root, name, text):
    bare = tree.without_comments_and_strings(text)
    for m in BANNED_CALL.finditer(bare):
        why = f"{m[1]}(): use {BANNED_CALLS[m[1]]}"
        yield "call", f"{name}:{m[1]}", tree.Finding(name, tree.line_of(bare, m.start()), why)
    for m in TYPEDEF_STRUCT.finditer(bare):
        why = "a struct's typedef hides what it is"
        yield "typedef", name, tree.Finding(name, tree.line_of(bare, m.start()), why)


def check_words(root, name, text):
    for m in UNFINISHED.finditer(text):
        yield "word", name, tree.Finding(name, tree.line_of(text, m.start()), f"{m[1]}: unfinished work")


def offences(root):
    """(rule, key, finding) of everything, allowed or not."""
    c_names = tree.c_files(root)
    scripts = sorted(set(tree.python_scripts(root) + tree.shell_scripts(root)))
    for name in c_names + scripts:
        text = tree.read(root, name)
        yield from check_licence(root, name, text)
        yield from check_file_length(root, name, text)
        if not name.startswith("tests/lint/"):
            yield from check_words(root, name, text)
        if name in c_names:
            yield from check_functions(root, name, text)
        if name in c_names and not name.startswith("tests/"):
            yield from check_calls(root, name, text)


def read_allowlist(root):
    """{(rule, key): line number}, and findings about lines that are malformed."""
    allowed, found = {}, []
    if not os.path.exists(os.path.join(root, ALLOWLIST)):
        return allowed, found
    for number, line in enumerate(tree.read(root, ALLOWLIST).split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        what, _, reason = line.partition(" -- ")
        words = what.split()
        if len(words) != 2 or not reason.strip():
            found.append(tree.Finding(ALLOWLIST, number, "not of the form: RULE KEY -- REASON"))
        else:
            allowed[tuple(words)] = number
    return allowed, found


def check(root):
    allowed, found = read_allowlist(root)
    used = set()
    for rule, key, finding in offences(root):
        if (rule, key) in allowed:
            used.add((rule, key))
        else:
            found.append(finding)
    for entry, number in allowed.items():
        if entry not in used:
            found.append(tree.Finding(ALLOWLIST, number, f"{' '.join(entry)}: excuses nothing any more"))
    return sorted(found), f"{len(tree.c_files(root))} C files, {len(used)} exceptions"


def main(argv):
    found, _ = check(argv[1] if len(argv) > 1 else ".")
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
