# SPDX-License-Identifier: Apache-2.0
"""What a process has of the machine: to be compared before and after what must leave nothing behind."""

from coracle import wait_until


class Usage:
    """What a process has of the machine, at rest."""

    def __init__(self, vmm):
        self.fds = sorted(kind_of(what) for what in vmm.fds_at_rest().values())
        self.threads = wait_until(lambda: threads_at_rest(vmm))
        self.rss_kib = vmm.rss_kib()
        self.maps = len(open(f"/proc/{vmm.pid}/maps").readlines())


def threads_at_rest(vmm):
    """Names of the threads, or nothing while one has the name of a job: the thread of one that has just been answered
    takes a moment to go, and a vCPU's begins with its starter's name."""
    names = vmm.threads()
    return None if any(name.startswith("vm.") for name in names) else names


def kind_of(link):
    """"socket:[123]" -> "socket:"."""
    return link.split("[")[0] if ":[" in link and not link.startswith("anon_inode") else link


def check_growth(vmm, before, kib=None):
    """Asserts that nothing has grown since. kib: memory by no more than that, and mappings not at all; None where what
    is allocated once only has not been allocated before. Freed memory is kept for a while by a sanitizer."""
    after = Usage(vmm)
    assert after.fds == before.fds
    assert after.threads == before.threads
    if kib is not None and not vmm.is_sanitized():
        assert after.maps <= before.maps + 8
        assert after.rss_kib <= before.rss_kib + kib, f"{before.rss_kib} KiB became {after.rss_kib}"


def cpu_seconds(vmm):
    """Processor time that its main thread has used."""
    with open(f"/proc/{vmm.pid}/schedstat") as file:
        return int(file.read().split()[0]) * 1e-9


def wait_for_fds(vmm, before):
    """Waits until it has no more descriptors than that (see Coracle.fds())."""
    wait_until(lambda: len(vmm.fds()) <= len(before))
