# SPDX-License-Identifier: Apache-2.0
"""How often hosts were booted, commands run, and hosts died: build/kvmhost/stats.json, kept over all runs."""

import fcntl
import json
import os
import time

from kvmhost import boot

MAX_DEATHS = 200


def _change(function):
    os.makedirs(boot.STATE, exist_ok=True)
    fd = os.open(os.path.join(boot.STATE, "stats.json"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            data = json.load(file)
        except ValueError:
            data = {}
        function(data)
        file.seek(0)
        file.truncate()
        json.dump(data, file, indent=1)


def count(what):
    """Adds one to a counter: boots, commands, nudges, deaths, retries."""
    _change(lambda data: data.update({what: data.get(what, 0) + 1}))


def count_death(reason):
    """Counts a dead host and notes when and why."""

    def change(data):
        data["deaths"] = data.get("deaths", 0) + 1
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        data["reasons"] = (data.get("reasons", []) + [f"{when} {reason}"])[-MAX_DEATHS:]

    _change(change)


def summary():
    """One line for people."""
    try:
        with open(os.path.join(boot.STATE, "stats.json"), encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError):
        data = {}
    names = ("boots", "commands", "nudges", "deaths", "retries")
    return ", ".join(f"{data.get(name, 0)} {name}" for name in names)
