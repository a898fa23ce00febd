# SPDX-License-Identifier: Apache-2.0
"""The command line of tests/kvmhost/run."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time

from kvmhost import boot, keeper, stats
from kvmhost import protocol as p
from kvmhost.client import DEAD_STATUS, TIMEOUT_STATUS, Client, HostDied, Input, facts_of, note

SETUP_STATUS = 123
ALONE_SLOTS = 64
TEXT = """exit status: the command's own (128 + N if signal N ended it); 123 no host can be had on this machine; 124 the
time limit is over; 125 the emulated host died. The environment is passed on, with HOME=/root, KVMHOST=emulated or direct, and
KVMHOST_OUT, the directory whose files stay."""


def parse(argv):
    parser = argparse.ArgumentParser(prog="tests/kvmhost/run", description=sys.modules["__main__"].__doc__, epilog=TEXT)
    act = parser.add_argument_group("what to do, other than to run the command")
    act.add_argument("--start", action="store_true", help="boot a host that stays; later commands run on it")
    act.add_argument("--stop", action="store_true", help="end it")
    act.add_argument("--status", action="store_true", help="say what is running, and how often hosts died")
    act.add_argument("--shell", action="store_true", help="an interactive shell, or the command on a terminal")
    parser.add_argument("--name", default="default", help="name of the host that stays (default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help="boot a host for this command even if one runs")
    parser.add_argument("--timeout", type=float, metavar="S", help="end the command after S seconds")
    parser.add_argument("--retry", type=int, default=0, metavar="N", help="if the host dies, run again, N times at most")
    parser.add_argument("--tty", action=argparse.BooleanOptionalAction, help="terminal or pipes (default: as outside)")
    parser.add_argument("--quiet", action="store_true", help="say nothing but what the command says")
    parser.add_argument(
        "--mode", choices=("auto", "direct", "emulated"), default=os.environ.get("KVMHOST_MODE", "auto"),
        help="auto: emulated only without hardware virtualisation",
    )
    host = parser.add_argument_group("the emulated host (taken when it is booted)")
    host.add_argument("--memory", default="6G", help="default: %(default)s")
    host.add_argument("--cpus", type=int, default=1, help="default: %(default)s; with more of them hosts hang now and then")
    host.add_argument("--cpu", default="EPYC-v3,+vgif", help="QEMU's -cpu (default: %(default)s)")
    host.add_argument("--out", metavar="DIR", help="shared for writing (default: build/kvmhost/out)")
    host.add_argument("--share", action="append", default=[], metavar="DIR", help="show DIR as fresh as the checkout")
    host.add_argument("--watchdog", type=float, default=45, metavar="S", help="dead if silent for S (default: %(default)s)")
    host.add_argument(
        "--counted", action="store_true", help="time in the host is the instructions that it executed: figures repeat"
    )
    host.add_argument("--qemu-arg", action="append", default=[], metavar="ARG", help="one more argument of QEMU's")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD...")
    args = parser.parse_args(argv)
    if args.command[:1] == ["--"]:
        args.command = args.command[1:]
    if not re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._-]*", args.name) or args.name in (".", "..", "out"):
        parser.error("a host's name is made of letters, digits, '.', '_' and '-'")
    if not (args.command or args.shell or args.start or args.stop or args.status):
        parser.error("a command is needed")
    if args.command and (args.start or args.stop or args.status):
        parser.error("--start, --stop and --status take no command")
    return args


def has_hardware_virtualisation():
    """A /dev/kvm alone does not tell: some have no hardware behind them and cannot run a stock guest."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            if not re.search(r"^flags\s*:.*\b(vmx|svm)\b", file.read(), re.MULTILINE):
                return False
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        return True
    except OSError:
        return False


def settings_of(args):
    return boot.Settings(
        args.memory, args.cpus, args.cpu, args.share, args.out, args.watchdog, args.qemu_arg, args.counted
    )


def run_direct(args):
    """The command on this machine itself."""
    out = settings_of(args).out
    os.makedirs(out, exist_ok=True)
    os.environ.update(KVMHOST="direct", KVMHOST_OUT=out)
    command = args.command or [os.environ.get("SHELL", "/bin/sh")]
    try:
        if not args.timeout:
            os.execvp(command[0], command)
        # A session of its own, so that all that the command started can be ended.
        child = subprocess.Popen(command, start_new_session=True)
    except OSError as error:
        note(f"{command[0]}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.killpg(child.pid, number))
    for limit, number in ((args.timeout, signal.SIGTERM), (5, signal.SIGKILL)):
        try:
            status = child.wait(limit)
            return TIMEOUT_STATUS if limit != args.timeout else status if status >= 0 else 128 - status
        except subprocess.TimeoutExpired:
            note(f"over the time limit of {args.timeout:g} s")
            os.killpg(child.pid, number)
    child.wait()
    return TIMEOUT_STATUS


class Lease:
    """A host to run on that is up: the one that stays, or one of our own that ends with us. Raises HostDied, SetupError."""

    def __init__(self, args):
        self.args = args
        self.pid = 0
        self.lifeline = -1
        self.lock = -1
        self.name = args.name
        self.facts = None
        self.connection = None
        if not args.alone:
            self._take_running()
        self.own = not self.connection

    def boot(self):
        """Boots a host of our own if there is none that stays."""
        if not self.own:
            return
        for slot in range(ALONE_SLOTS):
            self.name = f"alone-{slot}"
            self.lock = keeper.lock(self.name, wait=False)
            if self.lock >= 0:
                break
        else:
            raise boot.SetupError(f"{ALONE_SLOTS} hosts are running already")
        self.pid, self.lifeline = keeper.start(self.name, settings_of(self.args), self.lock)
        self.connection = wait_for_socket(self.name, self.pid)
        self.facts = facts_of(self.connection)

    def _take_running(self):
        connection = keeper.connect(self.args.name)
        if not connection:
            return
        facts = facts_of(connection)
        wanted = settings_of(self.args)
        running = facts["settings"]
        # What is shared is settled when a host boots.
        if self.args.out and running["out"] != wanted.out or not set(wanted.shares) <= set(running["shares"]):
            connection.close()
            if not self.args.quiet:
                note("the running host shares other directories; booting one for this command")
            return
        self.connection, self.facts = connection, facts

    def close(self):
        """Ends a host of our own, and waits until it has ended."""
        if self.connection:
            self.connection.close()
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        if self.pid:
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass
            self.pid = 0
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def wait_for_socket(name, pid):
    """The keeper's socket appears as soon as QEMU has been started. Reaps a keeper that failed."""
    while True:
        connection = keeper.connect(name)
        if connection:
            return connection
        if os.waitpid(pid, os.WNOHANG)[0]:
            with open(os.path.join(keeper.directory_of(name), "keeper.log"), encoding="utf-8") as log:
                said = log.read().strip()
            if said.startswith("dead: "):
                raise HostDied(said[len("dead: ") :])
            raise boot.SetupError(said or "the keeper ended")
        time.sleep(0.02)


def order_of(args):
    """What START says."""
    tty = args.tty
    if tty is None:
        tty = args.shell or all(os.isatty(fd) for fd in (0, 1, 2))
    tty = tty and os.isatty(0)
    command = args.command or ["/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh", "-i"]
    env = dict(os.environ)
    return {"argv": command, "env": env, "cwd": os.getcwd(), "tty": bool(tty)}


def run_emulated(args):
    """The command on an emulated host; again on a fresh one if the host dies and --retry allows it."""
    stdin = Input()
    order = order_of(args)
    attempt = 1
    while True:
        lease = None
        try:
            lease = Lease(args)
            lease.boot()
            order["env"]["KVMHOST_OUT"] = lease.facts["settings"]["out"]
            client = Client(lease.connection, order, stdin, args.timeout)
            status = client.wait()
            if client.timed_out:
                note(f"over the time limit of {args.timeout:g} s")
            return status
        except HostDied as death:
            note(f"THE EMULATED HOST DIED: {death} (console: {_console(lease.name if lease else args.name)})")
        finally:
            if lease:
                lease.close()
        note(f"this was try {attempt} of {args.retry + 1}; so far {stats.summary()}")
        if attempt > args.retry or not stdin.replayable:
            return DEAD_STATUS
        attempt += 1
        stats.count("retries")
        if lease and not lease.own:
            restart(args.name, lease.facts["settings"])


def _console(name):
    return os.path.relpath(os.path.join(keeper.directory_of(name), "console.log"))


def restart(name, settings):
    """Boots the host that stays again, as it was, if nobody else has done so yet."""
    lock = keeper.lock(name, wait=True)
    try:
        if not keeper.connect(name):
            again = boot.Settings()
            vars(again).update(settings)
            _start_staying(name, again)
    finally:
        os.close(lock)


def _start_staying(name, settings):
    pid, _ = keeper.start(name, settings, -1)
    with wait_for_socket(name, pid) as connection:
        return facts_of(connection)


def start(args):
    lock = keeper.lock(args.name, wait=True)
    try:
        connection = keeper.connect(args.name)
        if connection:
            facts_of(connection)
            note(f"host {args.name} is running already")
            return 0
        facts = _start_staying(args.name, settings_of(args))
    except HostDied as death:
        note(f"the emulated host did not come up: {death} (console: {_console(args.name)})")
        return DEAD_STATUS
    finally:
        os.close(lock)
    if not args.quiet:
        note(f"host {args.name} is up after {facts['boot_seconds']:.1f} s: kernel {facts['kernel']}")
    return 0


def stop(args):
    connection = keeper.connect(args.name)
    if not connection:
        if not args.quiet:
            note(f"host {args.name} is not running")
        return 0
    connection.sendall(p.encode(p.STOP))
    while connection.recv(p.CHUNK):
        pass
    return 0


def status(args):
    connection = keeper.connect(args.name)
    if connection:
        facts = facts_of(connection)
        print(f"host {args.name} is running: {json.dumps(facts)}")
    else:
        print(f"host {args.name} is not running")
    print(f"so far: {stats.summary()}")
    return 0


def main(argv):
    args = parse(argv)
    direct = args.mode == "direct" or args.mode == "auto" and has_hardware_virtualisation()
    try:
        if args.status:
            return status(args)
        if args.stop:
            return stop(args)
        if direct:
            return 0 if args.start else run_direct(args)
        return start(args) if args.start else run_emulated(args)
    except boot.SetupError as error:
        note(str(error))
        return SETUP_STATUS
    except HostDied as death:
        note(f"THE EMULATED HOST DIED: {death}")
        return DEAD_STATUS
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
