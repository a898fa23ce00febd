# SPDX-License-Identifier: Apache-2.0
"""tests/kvmhost/run: what a command on the emulated host can rely on, and what happens when that host dies. Runs on the
machine itself, not on a KVM host."""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
STATE = CHECKOUT / "build" / "kvmhost"
NAME = f"test-{os.getpid()}"
EMULATED = [sys.executable, str(HERE / "run"), "--mode", "emulated", "--name", NAME]

pytestmark = pytest.mark.skipif(os.environ.get("KVMHOST") == "emulated", reason="runs outside the emulated host")


def run(*args, **kwargs):
    kwargs = {"capture_output": True, "text": True, "timeout": 120, "cwd": HERE, **kwargs}
    return subprocess.run([*EMULATED, *args], **kwargs)


def stats():
    path = STATE / "stats.json"
    return json.loads(path.read_text()) if path.exists() else {}


def qemu_pid(name=NAME):
    return int((STATE / name / "qemu.pid").read_text())


def gone(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not os.path.exists(f"/proc/{pid}"):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module", autouse=True)
def host(out):
    started = run("--start", "--out", str(out), "--memory", "1G")
    assert started.returncode == 0, started.stderr
    yield
    pid = qemu_pid()
    assert run("--stop").returncode == 0
    assert gone(pid)
    shutil.rmtree(STATE / NAME)


def test_exit_status_and_streams_pass_through():
    result = run("sh", "-c", "echo out; echo err >&2; exit 42")
    assert (result.returncode, result.stdout, result.stderr) == (42, "out\n", "err\n")


def test_status_of_a_killed_command_is_that_of_a_shell():
    assert run("sh", "-c", "kill -SEGV $$").returncode == 128 + signal.SIGSEGV
    assert run("no-such-command").returncode == 127


def test_command_has_kvm_the_checkout_cwd_and_environment():
    script = 'test -c /dev/kvm && test -c /dev/net/tun && pwd && echo "$MARK $KVMHOST" && hostname'
    result = run("sh", "-c", script, env={**os.environ, "MARK": "a b\n"})
    assert result.stdout == f"{HERE}\na b\n emulated\nkvmhost\n", result.stderr


def test_checkout_is_as_it_is_now_and_writes_to_it_do_not_come_back():
    path = STATE / f"{NAME}.tmp"
    try:
        for text in ("one", "other one", "x"):
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").rename(path)
            assert run("sh", "-c", f"cat {path} && echo gone >{path}").stdout == text
            assert path.read_text() == text
    finally:
        path.unlink()


def test_output_streams_while_the_command_runs():
    process = subprocess.Popen(
        [*EMULATED, "sh", "-c", "echo first; read line; echo $line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"first\n"
    process.stdin.write(b"second\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"second\n"
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


def test_megabytes_of_input_and_output_arrive_whole():
    data = os.urandom(3 << 20)
    result = run("cat", input=data, text=False)
    assert result.returncode == 0 and result.stdout == data


def test_files_in_the_out_directory_come_back(out):
    result = run("sh", "-c", 'echo kept >"$KVMHOST_OUT/file"')
    assert result.returncode == 0, result.stderr
    assert (out / "file").read_text() == "kept\n"


def test_core_dump_comes_back_whatever_the_limit(out):
    before = set(out.glob("core.sh.*"))
    result = run("sh", "-c", "ulimit -c 0; kill -ABRT $$")
    assert result.returncode == 128 + signal.SIGABRT
    cores = list(set(out.glob("core.sh.*")) - before)
    assert len(cores) == 1
    assert cores[0].read_bytes()[:4] == b"\x7fELF"


def test_nothing_that_a_command_started_outlives_it():
    run("sh", "-c", "setsid sleep 777 >/dev/null 2>&1 & exit 0")
    assert run("pgrep", "-f", "^sleep 777").returncode == 1


def test_time_limit_ends_a_command_that_ignores_signals():
    begin = time.monotonic()
    result = run("--timeout", "1", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    assert result.returncode == 124
    assert "time limit" in result.stderr
    assert time.monotonic() - begin < 30


def test_interrupt_reaches_the_command():
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen([*EMULATED, "sh", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"caught\n"
    assert process.wait(20) == 9
    process.stdout.close()


def test_command_ends_when_the_tool_is_killed():
    process = subprocess.Popen([*EMULATED, "sh", "-c", "echo ready; exec sleep 888"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while run("pgrep", "-f", "^sleep 888").returncode == 0:
        assert time.monotonic() < deadline


def test_shell_is_on_a_terminal():
    pid, fd = pty.fork()
    if not pid:
        os.environ["PS1"] = "prompt> "
        os.execv(EMULATED[0], [*EMULATED, "--shell", "/bin/sh"])
    seen = b""

    def expect(text):
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in seen:
            assert select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], seen
            seen += os.read(fd, 4096)
        seen = seen[seen.index(text) + len(text) :]

    expect(b"# " if b"# " in seen else b"prompt> ")
    os.write(fd, b"test -t 0 && echo is-a-$((1+1))-tty; tty\n")
    expect(b"is-a-2-tty")
    expect(b"/dev/pts/")
    os.write(fd, b"sleep 100\n")
    time.sleep(1)
    os.write(fd, b"\3")
    os.write(fd, b"exit 6\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    os.close(fd)


def test_quiet_host_is_nudged_and_goes_on():
    assert run("true").returncode == 0  # it is up
    before = stats().get("nudges", 0)
    os.kill(qemu_pid(), signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 30
        while stats().get("nudges", 0) == before and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        os.kill(qemu_pid(), signal.SIGCONT)
    assert stats()["nudges"] > before
    assert run("echo", "still there").stdout == "still there\n"


def test_dead_host_is_told_apart_and_counted():
    before = stats()
    process = subprocess.Popen(
        [*EMULATED, "sh", "-c", "echo ready; sleep 100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    os.kill(qemu_pid(), signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 125
    assert "HOST DIED" in err
    assert stats()["deaths"] == before.get("deaths", 0) + 1


def test_command_is_run_again_on_a_fresh_host_when_its_host_panics(out):
    before = stats()
    # The first try ends in a kernel panic, the second finds the mark.
    script = 'cat; test -e "$KVMHOST_OUT/tried" && exit 3; touch "$KVMHOST_OUT/tried"; sleep 1; echo c >/proc/sysrq-trigger'
    result = run("--retry", "2", "--out", str(out), "sh", "-c", script, input="input\n")
    assert result.returncode == 3, result.stderr
    assert result.stdout == "input\ninput\n"
    assert "Kernel panic" in result.stderr
    after = stats()
    assert after["deaths"] == before["deaths"] + 1
    assert after.get("retries", 0) == before.get("retries", 0) + 1
    assert re.search("panic", after["reasons"][-1])


def test_host_that_cannot_boot_is_dead():
    result = run("--alone", "--qemu-arg=-no-such-option", "true")
    assert result.returncode == 125
    assert "no-such-option" in result.stderr


def test_host_of_one_command_ends_with_the_tool_however_that_ends():
    process = subprocess.Popen(
        [*EMULATED, "--alone", "--memory", "1G", "sh", "-c", "echo ready; sleep 100"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    pids = {int(path.read_text()) for path in STATE.glob("alone-*/qemu.pid")}
    ours = {pid for pid in pids if f"\nPPid:\t{keeper_of(process.pid)}\n" in status_of(pid)}
    assert len(ours) == 1
    process.kill()
    process.wait()
    process.stdout.close()
    assert gone(ours.pop())


def status_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def keeper_of(pid):
    """The tool's only child."""
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]


def test_silent_host_is_dead_after_the_watchdogs_time():
    process = subprocess.Popen(
        [*EMULATED, "--alone", "--watchdog", "3", "--memory", "1G", "sh", "-c", "echo ready; sleep 100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    children = pathlib.Path(f"/proc/{keeper_of(process.pid)}/task/{keeper_of(process.pid)}/children")
    os.kill(int(children.read_text()), signal.SIGSTOP)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 125
    assert "no heartbeat" in err


def test_waiting_takes_no_time_on_a_host_that_counts_instructions():
    text = "import time; time.sleep(3600); a = time.monotonic_ns(); sum(range(100000)); print(time.monotonic_ns() - a)"
    done = run("--alone", "--counted", "--watchdog", "110", "/usr/bin/python3", "-c", text)
    assert done.returncode == 0, done.stderr
    # An hour has gone by in less than the two minutes that run() gives it; the loop took some million instructions.
    assert 10**5 < int(done.stdout) < 10**9
