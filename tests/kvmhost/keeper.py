# SPDX-License-Identifier: Apache-2.0
"""The keeper: a process that owns one emulated host, hands clients' jobs to it and notices when it dies.

Theory of operation: one thread, one poll loop over QEMU's pidfd, the job channel, the listening socket, the clients and
the lifeline (a pipe whose other end the tool holds that wanted the host only for itself: when the tool ends, however it
ends, the host goes too). QEMU has a parent-death signal, so nothing outlives the keeper either. A host counts as dead
when QEMU ends, when its heartbeat stays out for the watchdog's time, or when it is not up in BOOT_SECONDS. Hosts that
stand still have been seen to go on as soon as anything was sent to them, as if a timer's interrupt had been lost, so one
that is late gets a nudge. Each client has one job; its frames carry job 0 on the client's side and the keeper's number on
the host's side."""

import fcntl
import os
import select
import signal
import socket
import sys
import time
import traceback

import kvmhost.protocol as p
from kvmhost import boot, stats

BOOT_SECONDS = 120.0
CLIENT_BACKLOG = 4 << 20
# A host that has not been heard of for so long is nudged, and again after as long.
NUDGE_SECONDS = 4.0


def directory_of(name):
    return os.path.join(boot.STATE, name)


def socket_address(directory):
    """An address that is short enough for a unix socket wherever the checkout is; also the fd that it needs open."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{fd}/sock", fd


class _Client:
    def __init__(self, connection, job):
        self.connection = connection
        self.job = job
        self.decoder = p.Decoder()
        self.backlog = bytearray()
        self.started = False
        self.done = False


class Keeper:
    """One host and its clients; run() returns when the host is gone."""

    def __init__(self, name, settings, lifeline):
        self.directory = directory_of(name)
        self.settings = settings
        self.lifeline = lifeline
        self.clients = {}
        self.next_job = 1
        self.facts = None
        self.death = None
        self.stopping = False
        self.host_backlog = bytearray()
        self.decoder = p.Decoder()

    def run(self):
        """Boots the host and serves until it dies, is told to stop, or the lifeline is cut."""
        os.makedirs(self.settings.out, exist_ok=True)
        ours, theirs = socket.socketpair()
        self.channel = ours
        ours.setblocking(False)
        command = boot.qemu_command(self.settings, self.directory, theirs.fileno())
        self.qemu = boot.spawn(command, self.directory, theirs.fileno())
        theirs.close()
        stats.count("boots")
        self.started_at = self.last_beat = self.last_turn = self.last_nudge = time.monotonic()
        _write(os.path.join(self.directory, "qemu.pid"), f"{self.qemu.pid}\n")
        pidfd = os.pidfd_open(self.qemu.pid)
        self.pidfd = pidfd
        self.listener = self._listen()
        try:
            while not self.death and not self.stopping:
                self._turn()
        finally:
            self._end(pidfd)

    def _listen(self):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = os.path.join(self.directory, "sock")
        temporary = path + ".new"
        for stale in (path, temporary):
            if os.path.exists(stale):
                os.unlink(stale)
        address, fd = socket_address(self.directory)
        listener.bind(address + ".new")
        os.close(fd)
        listener.listen(32)
        listener.setblocking(False)
        os.rename(temporary, path)  # whoever can see it can connect to it
        return listener

    def _turn(self):
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.register(self.listener, select.POLLIN)
        if self.lifeline >= 0:
            poll.register(self.lifeline, select.POLLIN)
        reading = all(len(c.backlog) < CLIENT_BACKLOG for c in self.clients.values())
        events = (select.POLLIN if reading else 0) | (select.POLLOUT if self.host_backlog else 0)
        poll.register(self.channel, events)
        for fd, client in self.clients.items():
            wanted = select.POLLIN if len(self.host_backlog) < CLIENT_BACKLOG else 0
            poll.register(fd, wanted | (select.POLLOUT if client.backlog else 0))
        for fd, ready in poll.poll(1000):
            self._ready(fd, ready)
        self._check_beat(reading)

    def _ready(self, fd, ready):
        if fd == self.pidfd:
            self.death = self.death or f"QEMU ended with status {self.qemu.wait()}"
        elif fd == self.listener.fileno():
            self._accept()
        elif fd == self.lifeline:
            self.stopping = True
        elif fd == self.channel.fileno():
            self._host_ready(ready)
        elif fd in self.clients:
            self._client_ready(self.clients[fd], ready)

    def _check_beat(self, reading):
        now = time.monotonic()
        if not reading or now - self.last_turn > 5:
            # We did not listen ourselves (a client does not read, or this machine was suspended).
            self.last_beat += now - self.last_turn
        self.last_turn = now
        if self.death:
            return
        if not self.facts and now - self.started_at > BOOT_SECONDS:
            self.death = f"not up {BOOT_SECONDS:.0f} s after its start"
        elif self.facts and now - self.last_beat > self.settings.watchdog:
            self.death = f"no heartbeat for {self.settings.watchdog} s"
        elif self.facts and not self.settings.counted and now - max(self.last_beat, self.last_nudge) > NUDGE_SECONDS:
            # Where time is instructions a heartbeat is long in coming, and a nudge would be counted.
            self.last_nudge = now
            stats.count("nudges")
            self._send_host(p.NUDGE)

    def _accept(self):
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        client = _Client(connection, self.next_job)
        self.next_job += 1
        self.clients[connection.fileno()] = client
        if self.facts:
            self._send_client(client, p.READY, self.facts)

    def _send_client(self, client, kind, payload=b""):
        if not client.done:
            client.backlog += p.encode(kind, 0, payload)
            self._flush_client(client)

    def _flush_client(self, client):
        try:
            while client.backlog:
                del client.backlog[: client.connection.send(client.backlog[: p.CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _client_ready(self, client, ready):
        if ready & select.POLLOUT:
            self._flush_client(client)
        if ready & (select.POLLIN | select.POLLHUP | select.POLLERR) and not client.done:
            try:
                data = client.connection.recv(p.CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._drop(client)
                return
            for kind, _, payload in client.decoder.feed(data):
                self._client_frame(client, kind, payload)

    def _client_frame(self, client, kind, payload):
        if kind == p.STOP:
            self.stopping = True
        elif self.facts:  # a client speaks after READY
            if kind == p.START:
                client.started = True
                stats.count("commands")
            self._send_host(kind, client.job, payload)

    def _drop(self, client):
        if client.done:
            return
        client.done = True
        if client.started and self.facts:
            self._send_host(p.KILL, client.job)
        del self.clients[client.connection.fileno()]
        client.connection.close()

    def _send_host(self, kind, job=0, payload=b""):
        self.host_backlog += p.encode(kind, job, payload)
        self._flush_host()

    def _flush_host(self):
        try:
            while self.host_backlog:
                del self.host_backlog[: self.channel.send(self.host_backlog[: p.CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self.host_backlog.clear()  # the pidfd tells

    def _host_ready(self, ready):
        if ready & select.POLLOUT:
            self._flush_host()
        if not ready & (select.POLLIN | select.POLLHUP):
            return
        try:
            data = self.channel.recv(4 * p.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.death = f"QEMU ended with status {self.qemu.wait()}"
            return
        for kind, job, payload in self.decoder.feed(data):
            self._host_frame(kind, job, payload)

    def _host_frame(self, kind, job, payload):
        self.last_beat = time.monotonic()
        if kind == p.HELLO:
            config = {"shares": self.settings.shares, "out": self.settings.out, "time": time.time()}
            self._send_host(p.CONFIG, 0, config)
        elif kind == p.READY:
            self.facts = p.decode_json(payload)
            self.facts["boot_seconds"] = time.monotonic() - self.started_at
            self.facts["settings"] = vars(self.settings)
            for client in list(self.clients.values()):
                self._send_client(client, p.READY, self.facts)
        else:
            for client in list(self.clients.values()):
                if client.job == job:
                    self._send_client(client, kind, payload)
                    client.started = client.started and kind != p.EXIT

    def _end(self, pidfd):
        """QEMU is ended, whatever state it is in, and the clients are told why if they did not ask for it."""
        if self.qemu.poll() is None:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self.qemu.wait()
        path = os.path.join(self.directory, "sock")
        if os.path.exists(path):
            os.unlink(path)
        if self.death:
            self.death += _last_words(self.directory)
            stats.count_death(self.death)
            print(f"dead: {self.death}", file=sys.stderr)
        reason = {"reason": self.death or "the host was told to stop"}
        for client in list(self.clients.values()):
            client.connection.setblocking(True)
            client.connection.settimeout(2)
            client.backlog += p.encode(p.DEAD, 0, reason)
            try:
                client.connection.sendall(client.backlog)
            except OSError:
                pass
            client.connection.close()


def _last_words(directory):
    """The line of the logs that tells most about the death, if there is one."""

    def lines(name):
        try:
            with open(os.path.join(directory, name), "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - (64 << 10)))
                return log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []

    console = lines("console.log")
    for sign in ("Kernel panic", "kvmhost: cannot start", "BUG: ", "Oops"):
        for line in console:
            if sign in line:
                return f" ({line.strip()})"
    said = [line for line in lines("qemu.log") if "warning: " not in line]
    return f" ({said[-1].strip()})" if said else ""


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def start(name, settings, alone_lock):
    """Forks a keeper. With a lock's fd, the host is its starter's alone: it ends when the returned fd is closed, and its
    keeper holds the lock as long as it lives; with -1 it stays until it is stopped. Returns (pid of the keeper, fd or
    -1). The caller holds the name's lock."""
    directory = directory_of(name)
    os.makedirs(directory, exist_ok=True)
    for stale in ("console.log", "sock"):
        path = os.path.join(directory, stale)
        if os.path.exists(path):
            os.unlink(path)
    _point_console_log(directory)
    theirs, ours = os.pipe()
    pid = os.fork()
    if not pid:
        _keep(name, settings, theirs if alone_lock >= 0 else -1, [theirs, alone_lock] if alone_lock >= 0 else [])
    os.close(theirs)
    if alone_lock >= 0:
        return pid, ours
    os.close(ours)
    return pid, -1


def _keep(name, settings, lifeline, kept):
    """The keeper's process; does not return."""
    status = 1
    try:
        os.setsid()
        path = os.path.join(directory_of(name), "keeper.log")
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open("/dev/null", os.O_RDONLY)
        for target, fd in ((0, null), (1, log), (2, log)):
            os.dup2(fd, target)
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and fd not in kept:
                try:
                    os.close(fd)
                except OSError:
                    pass  # the one that lists the directory
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda *_: sys.exit(1))
        os.chdir("/")
        Keeper(name, settings, lifeline).run()
        status = 0
    except boot.SetupError as error:
        print(error, file=sys.stderr)
    except SystemExit:
        pass
    except BaseException:  # pylint: disable=broad-except
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


def _point_console_log(directory):
    link = os.path.join(boot.STATE, "console.log")
    temporary = f"{link}.{os.getpid()}"
    os.symlink(os.path.join(os.path.basename(directory), "console.log"), temporary)
    os.rename(temporary, link)


def lock(name, wait):
    """Takes the lock of a name; returns its fd, or -1 if someone has it and we do not wait."""
    os.makedirs(directory_of(name), exist_ok=True)
    fd = os.open(os.path.join(directory_of(name), "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def connect(name):
    """A connection to a running host's keeper, or None."""
    if not os.path.isdir(directory_of(name)):
        return None
    address, fd = socket_address(directory_of(name))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
        return connection
    except OSError:
        connection.close()
        return None
    finally:
        os.close(fd)
