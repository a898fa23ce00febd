# SPDX-License-Identifier: Apache-2.0
"""The first process of the emulated host: takes jobs from a virtio-serial port, runs them, sends back what they say.

Theory of operation: one thread, one poll loop. Each job is a process group in a session and a cgroup of its own; when
its first process ends, whatever it left behind is killed, so that one job cannot disturb the next. A job's output is
read only while the port's backlog is short, its input is taken by the client's window: nothing here grows without
bound. The heartbeat comes from this loop: if it stops, the host is as good as dead.

This is pid 1: should it fail, the kernel panics, and the keeper outside sees the host die."""

import errno
import fcntl
import os
import resource
import select
import signal
import struct
import sys
import termios
import time

sys.path.insert(0, "/.kvmhost")
import protocol as p  # noqa: E402

HOME = "/.kvmhost"
CGROUPS = "/sys/fs/cgroup/kvmhost"
BEAT_SECONDS = 1.0
BACKLOG = 1 << 20
# How long output may still come after the last process of a job has been killed.
DRAIN_SECONDS = 5.0


def say(text):
    with open("/dev/kmsg", "w", encoding="utf-8") as log:
        log.write(f"kvmhost: {text}\n")


def run(*argv):
    """Runs a busybox applet to its end; returns its status."""
    argv = [f"{HOME}/busybox", *argv]
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)[1])
    if status:
        say(f"{' '.join(argv)}: status {status}")
    return status


def write_file(path, text):
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        say(f"{path}: {error}")


def set_clock(now):
    # A step would disturb whoever measures time, so small differences stay.
    if abs(time.time() - now) > 0.25:
        time.clock_settime(time.CLOCK_REALTIME, now)


def mount(kind, source, target, options=""):
    os.makedirs(target, exist_ok=True)
    argv = ["mount", "-t", kind, source, target]
    return run(*(argv + ["-o", options] if options else argv))


def device_nodes():
    """The nodes by which programs ask for modules that are not loaded yet (what kmod static-nodes is for)."""
    path = f"/lib/modules/{os.uname().release}/modules.devname"
    with open(path, encoding="utf-8") as table:
        for line in table:
            if line.startswith("#"):
                continue
            _, name, device = line.split()
            major, minor = device[1:].split(":")
            node = f"/dev/{name}"
            kind = 0o020600 if device[0] == "c" else 0o060600
            try:
                os.makedirs(os.path.dirname(node), exist_ok=True)
                os.mknod(node, kind, os.makedev(int(major), int(minor)))
            except FileExistsError:
                pass


def set_up_machine():
    """Everything but what the keeper's CONFIG tells."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    # As systemd has it: programs that ask for more files get them.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1 << 19))
    for limit in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for directory in ("/dev/shm", "/dev/pts", "/dev/mqueue", "/dev/hugepages"):
        os.makedirs(directory, exist_ok=True)
    mount("tmpfs", "tmpfs", "/run", "mode=755")
    mount("tmpfs", "tmpfs", "/tmp", "mode=1777")
    mount("tmpfs", "tmpfs", "/dev/shm", "mode=1777")
    mount("devpts", "devpts", "/dev/pts", "mode=620,gid=5,ptmxmode=666")
    mount("hugetlbfs", "hugetlbfs", "/dev/hugepages")
    mount("cgroup2", "cgroup2", "/sys/fs/cgroup")
    mount("debugfs", "debugfs", "/sys/kernel/debug")
    mount("securityfs", "securityfs", "/sys/kernel/security")
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"/dev/{link}")
    os.makedirs("/run/lock", exist_ok=True)
    os.makedirs(CGROUPS, exist_ok=True)
    device_nodes()
    write_file("/proc/sys/kernel/hostname", "kvmhost")
    write_file("/proc/sys/kernel/core_pattern", f"|{HOME}/core %P %e %s")
    write_file("/proc/sys/kernel/core_pipe_limit", "16")
    write_file("/proc/sys/fs/suid_dumpable", "1")
    write_file("/proc/self/oom_score_adj", "-1000")
    run("ip", "link", "set", "lo", "up")
    # What the kernel says while jobs run belongs on the console, where it outlives the host.
    write_file("/proc/sys/kernel/printk", "7")


def apply_config(config):
    """Mounts what the keeper exports and notes it for the jobs; returns the number of shared directories."""
    set_clock(config["time"])
    for n, path in enumerate(config["shares"]):
        os.makedirs(path, exist_ok=True)
        mount("9p", f"share{n}", f"{HOME}/share{n}", "trans=virtio,version=9p2000.L,msize=262144,cache=none,access=any,ro")
    mount("9p", "out", f"{HOME}/out", "trans=virtio,version=9p2000.L,msize=262144,cache=mmap,access=any")
    with open(f"{HOME}/shares", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(path + "\n" for path in config["shares"])
    with open(f"{HOME}/out.path", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(config["out"] + "\n")
    return len(config["shares"])


def open_port():
    for port in os.listdir("/sys/class/virtio-ports"):
        with open(f"/sys/class/virtio-ports/{port}/name", encoding="ascii") as file:
            if file.read().strip() == "kvmhost.jobs":
                return os.open(f"/dev/{port}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    raise OSError(errno.ENODEV, "no port kvmhost.jobs")


class Job:
    """One command that runs. stdin_fd is -1 once closed; outputs maps a file descriptor to its frame type."""

    def __init__(self, number, order, shares):
        self.number = number
        self.cgroup = f"{CGROUPS}/{number}"
        self.status = None
        self.signal = 0
        self.drain_until = 0.0
        self.input = bytearray()
        self.input_ended = False
        os.makedirs(self.cgroup, exist_ok=True)
        for n in range(shares):
            for layer in ("upper", "work"):
                os.makedirs(f"{HOME}/jobs/{number}/{n}/{layer}", exist_ok=True)
        self.tty = order.get("tty", False)
        if self.tty:
            self._start_on_tty(order)
        else:
            self._start_on_pipes(order)

    def _start_on_tty(self, order):
        master, slave = os.openpty()
        self.stdin_fd = os.dup(master)
        self.outputs = {master: p.STDOUT}
        self.set_window(order)
        os.set_blocking(master, False)
        self.pid = self._fork(order, slave, slave, slave)
        os.close(slave)

    def _start_on_pipes(self, order):
        stdin, self.stdin_fd = os.pipe()
        stdout_read, stdout = os.pipe()
        stderr_read, stderr = os.pipe()
        self.outputs = {stdout_read: p.STDOUT, stderr_read: p.STDERR}
        for fd in (self.stdin_fd, stdout_read, stderr_read):
            os.set_blocking(fd, False)
        self.pid = self._fork(order, stdin, stdout, stderr)
        for fd in (stdin, stdout, stderr):
            os.close(fd)

    def _fork(self, order, *stdio):
        pid = os.fork()
        if pid:
            return pid
        try:
            write_file(f"{self.cgroup}/cgroup.procs", "0")
            write_file("/proc/self/oom_score_adj", "0")
            os.setsid()
            if self.tty:
                fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
            for target, fd in enumerate(stdio):
                os.dup2(fd, target)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            argv = ["busybox", "unshare", "-m", "--propagation", "private", "/bin/sh", f"{HOME}/job"]
            argv += [str(self.number), order["cwd"], *order["argv"]]
            os.execve(f"{HOME}/busybox", [os.fsencode(a) for a in argv], _environment(order))
        except BaseException as error:  # pylint: disable=broad-except
            os.write(2, f"kvmhost: cannot start the command: {error}\n".encode())
        os._exit(126)

    def set_window(self, order):
        size = struct.pack("HHHH", order.get("rows", 24), order.get("cols", 80), 0, 0)
        fcntl.ioctl(self.stdin_fd, termios.TIOCSWINSZ, size)

    def send_signal(self, number):
        try:
            if self.tty:
                # To whom the terminal would send it: the group in the foreground.
                os.killpg(os.tcgetpgrp(self.stdin_fd), number)
            else:
                os.killpg(self.pid, number)
        except OSError:
            pass

    def kill(self):
        write_file(f"{self.cgroup}/cgroup.kill", "1")

    def feed(self):
        """Writes what input there is; returns how many bytes the job took, a broken pipe swallows all."""
        taken = 0
        try:
            while self.input:
                count = os.write(self.stdin_fd, self.input[: p.CHUNK])
                taken += count
                del self.input[:count]
        except BlockingIOError:
            return taken
        except OSError:
            taken += len(self.input)
            self.input.clear()
            self.input_ended = True
        if self.input_ended:
            self.close_stdin()
        return taken

    def close_stdin(self):
        if self.stdin_fd >= 0 and self.tty:
            # A terminal has no end of file but the one that is typed.
            try:
                os.write(self.stdin_fd, b"\4")
            except OSError:
                pass
            self.input_ended = False
        elif self.stdin_fd >= 0:
            os.close(self.stdin_fd)
            self.stdin_fd = -1

    def close(self):
        for fd in list(self.outputs):
            os.close(fd)
        self.outputs.clear()
        if self.stdin_fd >= 0:
            os.close(self.stdin_fd)
            self.stdin_fd = -1
        try:
            os.rmdir(self.cgroup)
        except OSError:
            pass
        run("rm", "-rf", f"{HOME}/jobs/{self.number}")


def _environment(order):
    env = dict(order["env"])
    env.update(HOME="/root", USER="root", LOGNAME="root", KVMHOST="emulated", KVMHOST_MODE="direct")
    return {os.fsencode(k): os.fsencode(v) for k, v in env.items()}


class Server:
    """The loop."""

    def __init__(self):
        self.port = open_port()
        self.decoder = p.Decoder()
        self.backlog = bytearray()
        self.jobs = {}
        self.shares = 0
        self.next_beat = 0.0
        self.children, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self.children, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)

    def send(self, kind, job=0, payload=b""):
        self.backlog += p.encode(kind, job, payload)
        self.flush()

    def flush(self):
        try:
            while self.backlog:
                del self.backlog[: os.write(self.port, self.backlog[: p.CHUNK])]
        except BlockingIOError:
            pass

    def loop(self):
        self.send(p.HELLO)
        while True:
            now = time.monotonic()
            if now >= self.next_beat and len(self.backlog) < BACKLOG:
                self.send(p.BEAT)
                self.next_beat = now + BEAT_SECONDS
            for fd, events in self._poll():
                self._ready(fd, events)
            self.flush()
            for job in [job for job in self.jobs.values() if job.status is not None]:
                self._finish(job)

    def _poll(self):
        poll = select.poll()
        poll.register(self.port, select.POLLIN | (select.POLLOUT if self.backlog else 0))
        poll.register(self.children, select.POLLIN)
        for job in self.jobs.values():
            if len(self.backlog) < BACKLOG:
                for fd in job.outputs:
                    poll.register(fd, select.POLLIN)
            if job.stdin_fd >= 0 and job.input:
                poll.register(job.stdin_fd, select.POLLOUT)
        return poll.poll(100 if any(j.status is not None for j in self.jobs.values()) else 500)

    def _ready(self, fd, events):
        if fd == self.port:
            if events & (select.POLLIN | select.POLLHUP):
                self._read_port()
        elif fd == self.children:
            os.read(fd, 4096)
            self._reap()
        else:
            for job in list(self.jobs.values()):
                if fd in job.outputs:
                    self._read_output(job, fd)
                elif fd == job.stdin_fd:
                    self._feed(job)

    def _read_port(self):
        try:
            data = os.read(self.port, p.CHUNK)
        except BlockingIOError:
            return
        if not data:
            # The keeper has gone: nobody will ever ask for anything again.
            with open("/proc/sysrq-trigger", "w", encoding="ascii") as trigger:
                trigger.write("o")
            time.sleep(60)
        for kind, number, payload in self.decoder.feed(data):
            self._frame(kind, number, payload)

    def _frame(self, kind, number, payload):
        if kind == p.CONFIG:
            self.shares = apply_config(p.decode_json(payload))
            self.send(p.READY, 0, self._facts())
            return
        if kind == p.START:
            order = p.decode_json(payload)
            if not self.jobs:
                set_clock(order["time"])
            self.jobs[number] = Job(number, order, self.shares)
            return
        job = self.jobs.get(number)
        if not job:
            return  # it has ended; or a NUDGE, which is for no job
        if kind == p.STDIN:
            job.input += payload
            job.input_ended = job.input_ended or not payload
            self._feed(job)
        elif kind == p.SIGNAL:
            job.send_signal(p.decode_json(payload)["number"])
        elif kind == p.WINDOW and job.tty:
            job.set_window(p.decode_json(payload))
        elif kind == p.KILL:
            job.kill()

    @staticmethod
    def _facts():
        return {
            "kernel": os.uname().release,
            "kvm": os.path.exists("/dev/kvm"),
            "uptime": time.clock_gettime(time.CLOCK_BOOTTIME),
        }

    def _feed(self, job):
        if job.stdin_fd < 0:
            taken = len(job.input)
            job.input.clear()
        else:
            taken = job.feed()
        if taken:
            self.send(p.TAKEN, job.number, {"bytes": taken})

    def _read_output(self, job, fd):
        try:
            data = os.read(fd, p.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal whose last user has gone
        if data:
            self.send(job.outputs[fd], job.number, data)
        else:
            os.close(fd)
            del job.outputs[fd]

    def _reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for job in self.jobs.values():
                if job.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    job.status, job.signal = (128 - code, -code) if code < 0 else (code, 0)
                    job.kill()
                    job.drain_until = time.monotonic() + DRAIN_SECONDS

    def _finish(self, job):
        if job.outputs and time.monotonic() < job.drain_until:
            return
        del self.jobs[job.number]
        self.send(p.EXIT, job.number, {"status": job.status, "signal": job.signal})
        job.close()


def main():
    set_up_machine()
    Server().loop()


if __name__ == "__main__":
    main()
