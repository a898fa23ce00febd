/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox_rules.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define ANY(name_, roles_, reason_)                                           \
	{                                                                     \
		.nr = SCMP_SYS(name_), .roles = (roles_), .reason = (reason_) \
	}
#define ARG(name_, roles_, arg_, mask_, value_, reason_)                                           \
	{                                                                                          \
		.nr = SCMP_SYS(name_), .roles = (roles_), .reason = (reason_), .match = MATCH_ARG, \
		.arg = (arg_), .mask = (mask_), .value = (uint64_t)(value_)                        \
	}
#define SELF(name_, roles_, arg_, reason_)                                     \
	{                                                                      \
		.nr = SCMP_SYS(name_), .roles = (roles_), .reason = (reason_), \
		.match = MATCH_SELF, .arg = (arg_)                             \
	}

#define U32 0xffffffffull

/* <asm/prctl.h> of older systems lacks it. */
#define REQ_XCOMP_GUEST_PERM 0x1025

/* <linux/kvm.h> of older systems lacks it. */
#ifndef KVM_GET_XSAVE2
#define KVM_GET_XSAVE2 _IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif

/* clang-format off: a table is read by its columns */

const struct sandbox_rule sandbox_rules[] = {
	/* Memory: malloc, stacks of new threads. Nothing is ever made executable. */
	ARG(mmap, ROLES_ALL, 2, PROT_EXEC, 0, "malloc, thread stacks, guest RAM"),
	ARG(mprotect, ROLES_ALL, 2, PROT_EXEC, 0, "malloc, guard pages"),
	ANY(munmap, ROLES_ALL, "malloc, thread stacks, guest RAM"),
	ANY(mremap, ROLES_ALL, "realloc"),
	ANY(brk, ROLES_ALL, "malloc"),
	ANY(madvise, ROLES_ALL, "malloc, end of a thread, advice on guest RAM"),

	/* Threads and locks. */
	ANY(futex, ROLES_ALL, "mutexes, joins"),
	ANY(sched_yield, ROLES_ALL, "spinning in libraries"),
	ANY(set_robust_list, ROLES_ALL, "start of a thread"),
	ANY(rseq, ROLES_ALL, "start and end of a thread"),
	ANY(exit, ROLES_ALL, "end of a thread"),
	ANY(exit_group, ROLES_ALL, "end of the process"),
	ANY(gettid, ROLES_ALL, "log lines, kicks"),
	ANY(getpid, ROLES_ALL, "kicks"),
	SELF(tgkill, ROLES_ALL, 0, "kicks of vCPU threads; dying of a bad system call"),
	ANY(restart_syscall, ROLES_ALL, "the kernel's, after a signal"),
	ANY(rt_sigreturn, ROLES_ALL, "end of a signal handler"),
	ANY(rt_sigprocmask, ROLES_ALL, "start of a thread, kicks"),
	ARG(clone, ROLES_WORK, 0, CLONE_THREAD, CLONE_THREAD, "threads, never processes"),
	ANY(sched_setaffinity, ROLES_WORK | ROLES_IO | ROLES_VCPU, "pinning as configured"),
	ANY(sched_getaffinity, ROLES_WORK | ROLES_IO | ROLES_VCPU, "pinning, number of host CPUs"),
	ANY(rt_sigaction, ROLES_WORK, "handlers of kicks"),
	ARG(prctl, ROLES_ALL, 0, U32, PR_SET_NAME, "names of threads"),
	ARG(prctl, ROLES_ALL, 0, U32, PR_GET_NAME, "names of threads"),
	ARG(prctl, ROLES_VCPU | ROLES_WORK, 0, U32, PR_SCHED_CORE, "core scheduling"),
	ARG(arch_prctl, ROLES_WORK, 0, U32, REQ_XCOMP_GUEST_PERM, "AMX for the guest"),
	ANY(seccomp, ROLES_WORK, "filters of new threads"),
	ANY(capget, ROLES_WORK, "dropping capabilities"),
	ANY(capset, ROLES_WORK, "dropping capabilities"),

	/* Waiting, and what is waited for. */
	ANY(epoll_wait, ROLES_ALL, "loops"),
	ANY(epoll_pwait, ROLES_ALL, "loops"),
	ANY(epoll_ctl, ROLES_ALL, "loops"),
	ANY(epoll_create1, ROLES_WORK | ROLES_IO, "new loops"),
	ANY(eventfd2, ROLES_WORK | ROLES_GUEST, "notifications"),
	ANY(pipe2, ROLES_WORK | ROLES_IO, "new loops"),
	ANY(poll, ROLES_ALL, "room in the log's pipe"),
	ANY(ppoll, ROLES_ALL, "room in the log's pipe"),
	ANY(clock_gettime, ROLES_ALL, "time where the vDSO has none"),
	ANY(gettimeofday, ROLES_ALL, "time where the vDSO has none"),
	ANY(clock_nanosleep, ROLES_ALL, "short waits"),
	ANY(getrandom, ROLES_ALL, "malloc, MAC addresses, virtio-rng"),
	ANY(timerfd_create, ROLES_WORK, "guest timers"),
	ANY(timerfd_settime, ROLES_ALL, "guest timers"),

	/* Open descriptors. */
	ANY(read, ROLES_ALL, "eventfds, taps, consoles"),
	ANY(write, ROLES_ALL, "eventfds, taps, consoles, log"),
	ANY(readv, ROLES_ALL, "taps, consoles"),
	ANY(writev, ROLES_ALL, "taps, consoles, answers"),
	ANY(close, ROLES_ALL, "what a device had open"),
	ANY(fstat, ROLES_ALL, "stdio, images"),
	ANY(newfstatat, ROLES_WORK, "payload, images, sockets' paths; fstat of newer libraries"),
	ANY(statx, ROLES_WORK, "alignment of direct I/O"),
	ANY(lseek, ROLES_WORK | ROLES_DISK, "sizes, holes"),
	ANY(fcntl, ROLES_ALL, "O_NONBLOCK, locks on images"),
	ANY(dup, ROLES_WORK, "descriptors that a configuration keeps"),
	ANY(dup3, ROLES_WORK, "descriptors that a configuration keeps"),

	/* Disks. */
	ANY(pread64, ROLES_WORK | ROLES_DISK, "images, payload"),
	ANY(pwrite64, ROLES_WORK | ROLES_DISK, "images"),
	ANY(preadv, ROLES_WORK | ROLES_DISK, "images"),
	ANY(pwritev, ROLES_WORK | ROLES_DISK, "images"),
	ANY(preadv2, ROLES_WORK | ROLES_DISK, "images"),
	ANY(pwritev2, ROLES_WORK | ROLES_DISK, "images"),
	ANY(fsync, ROLES_WORK | ROLES_DISK, "flush"),
	ANY(fdatasync, ROLES_WORK | ROLES_DISK, "flush"),
	ANY(fallocate, ROLES_WORK | ROLES_DISK, "discard, write-zeroes"),
	ANY(ftruncate, ROLES_WORK, "size of a memfd"),
	ANY(io_uring_setup, ROLES_WORK | ROLES_DISK, "image I/O"),
	ANY(io_uring_enter, ROLES_WORK | ROLES_DISK, "image I/O"),
	ANY(io_uring_register, ROLES_WORK | ROLES_DISK, "image I/O"),

	/* Files by name: only main and jobs. */
	ANY(open, ROLES_WORK, "payload, images, taps, pseudo-terminals"),
	ANY(openat, ROLES_WORK, "payload, images, taps, pseudo-terminals"),
	ANY(access, ROLES_WORK, "libraries' look for configuration"),
	ANY(readlink, ROLES_WORK, "names of descriptors"),
	ANY(readlinkat, ROLES_WORK, "names of descriptors"),
	ANY(lstat, ROLES_WORK, "sockets' paths"),
	ANY(stat, ROLES_WORK, "libraries' look for configuration"),
	ANY(unlink, ROLES_WORK, "own sockets"),
	ANY(unlinkat, ROLES_WORK, "own sockets"),
	ANY(umask, ROLES_WORK, "mode of own sockets"),
	ANY(chmod, ROLES_WORK, "mode of own sockets"),
	ANY(fchmod, ROLES_WORK, "mode of own sockets"),
	ANY(getdents64, ROLES_WORK, "sizes of huge pages"),
	ANY(statfs, ROLES_WORK, "size of huge pages"),
	ANY(fstatfs, ROLES_WORK, "size of huge pages"),
	ANY(memfd_create, ROLES_WORK, "shared guest RAM"),

	/* Sockets: the API, consoles, service manager; netlink for taps. */
	ARG(socket, ROLES_WORK, 0, U32, AF_UNIX, "consoles, service manager"),
	ARG(socket, ROLES_WORK, 0, U32, AF_NETLINK, "addresses and state of a tap"),
	ANY(bind, ROLES_WORK, "consoles, netlink"),
	ANY(listen, ROLES_WORK, "consoles"),
	ANY(connect, ROLES_WORK, "consoles"),
	ANY(accept4, ROLES_VCPU | ROLES_IO, "API, consoles"),
	ANY(sendmsg, ROLES_GUEST | ROLES_WORK, "API, consoles, netlink"),
	ANY(sendto, ROLES_GUEST | ROLES_WORK, "API, consoles, netlink"),
	ANY(recvmsg, ROLES_GUEST | ROLES_WORK, "API, consoles, netlink"),
	ANY(recvfrom, ROLES_GUEST | ROLES_WORK, "API, consoles, netlink"),
	ANY(getsockopt, ROLES_WORK, "inherited sockets"),
	ANY(setsockopt, ROLES_WORK, "buffer sizes"),
	ANY(getsockname, ROLES_WORK, "netlink"),
	ANY(getpeername, ROLES_NONE, "API"),
	ANY(shutdown, ROLES_NONE, "end of a connection"),

	/* The host. */
	ANY(uname, ROLES_WORK, "kernel version for io_uring"),
	ANY(sysinfo, ROLES_WORK, "host memory"),
	ANY(prlimit64, ROLES_WORK, "stack size, number of descriptors"),
	ANY(mbind, ROLES_WORK, "guest NUMA"),
	ANY(mlock, ROLES_WORK, "guest RAM"),
	ANY(getuid, ROLES_WORK, "libraries"),
	ANY(geteuid, ROLES_WORK, "libraries"),
	ANY(getgid, ROLES_WORK, "libraries"),
	ANY(getegid, ROLES_WORK, "libraries"),
	ANY(getpgrp, ROLES_WORK, "whether the terminal is ours to change"),
	ANY(signalfd4, ROLES_NONE, "SIGTERM and the like"),
};

const size_t sandbox_num_rules = ARRAY_SIZE(sandbox_rules);

#define VCPU_AND_WORK (ROLES_VCPU | ROLES_WORK)

const struct sandbox_ioctl sandbox_ioctls[] = {
	/* sandbox_compile() sees to it that this is the first request that a filter looks for. */
	{KVM_RUN, ROLES_VCPU, "enters the guest"},

	/* What a guest's access to a device changes. */
	{KVM_IRQFD, VCPU_AND_WORK, "MSI-X vectors come and go with the guest's driver"},
	{KVM_IOEVENTFD, VCPU_AND_WORK, "notifies move with a BAR"},
	{KVM_SET_GSI_ROUTING, VCPU_AND_WORK, "MSI-X vectors are written"},
	{KVM_SIGNAL_MSI, ROLES_GUEST | ROLES_WORK, "I/O APIC, MSI without a route"},
	{TUNSETOFFLOAD, ROLES_GUEST | ROLES_WORK, "features that the guest's driver accepts"},
	{TUNSETQUEUE, ROLES_GUEST | ROLES_WORK, "queue pairs that the guest's driver uses"},

	/* A vCPU's registers: set at boot, read for pause. */
	{KVM_GET_REGS, VCPU_AND_WORK, "save"},
	{KVM_SET_REGS, VCPU_AND_WORK, "boot"},
	{KVM_GET_SREGS, VCPU_AND_WORK, "save"},
	{KVM_SET_SREGS, VCPU_AND_WORK, "boot"},
	{KVM_GET_FPU, VCPU_AND_WORK, "save"},
	{KVM_SET_FPU, VCPU_AND_WORK, "boot"},
	{KVM_GET_MSRS, VCPU_AND_WORK, "save"},
	{KVM_SET_MSRS, VCPU_AND_WORK, "boot"},
	{KVM_SET_CPUID2, VCPU_AND_WORK, "boot"},
	{KVM_GET_LAPIC, VCPU_AND_WORK, "boot, save"},
	{KVM_SET_LAPIC, VCPU_AND_WORK, "boot"},
	{KVM_GET_XSAVE, VCPU_AND_WORK, "save"},
	{KVM_GET_XSAVE2, VCPU_AND_WORK, "save"},
	{KVM_SET_XSAVE, VCPU_AND_WORK, "load"},
	{KVM_GET_XCRS, VCPU_AND_WORK, "save"},
	{KVM_SET_XCRS, VCPU_AND_WORK, "load"},
	{KVM_GET_DEBUGREGS, VCPU_AND_WORK, "save"},
	{KVM_SET_DEBUGREGS, VCPU_AND_WORK, "load"},
	{KVM_GET_VCPU_EVENTS, VCPU_AND_WORK, "save"},
	{KVM_SET_VCPU_EVENTS, VCPU_AND_WORK, "load"},
	{KVM_GET_MP_STATE, VCPU_AND_WORK, "save"},
	{KVM_SET_MP_STATE, VCPU_AND_WORK, "boot"},
	{KVM_GET_TSC_KHZ, VCPU_AND_WORK, "TSC frequency for the guest"},
	{KVM_SET_TSC_KHZ, VCPU_AND_WORK, "load"},
	{KVM_NMI, VCPU_AND_WORK, "vm.nmi"},
	{KVM_KVMCLOCK_CTRL, VCPU_AND_WORK, "the guest was paused"},
	{KVM_GET_CLOCK, VCPU_AND_WORK, "pause"},
	{KVM_SET_CLOCK, VCPU_AND_WORK, "resume"},

	/* Making a machine. */
	{KVM_GET_API_VERSION, ROLES_WORK, "boot"},
	{KVM_CHECK_EXTENSION, ROLES_WORK, "boot"},
	{KVM_CREATE_VM, ROLES_WORK, "boot"},
	{KVM_GET_VCPU_MMAP_SIZE, ROLES_WORK, "boot"},
	{KVM_GET_SUPPORTED_CPUID, ROLES_WORK, "boot"},
	{KVM_GET_MSR_INDEX_LIST, ROLES_WORK, "save"},
	{KVM_CREATE_VCPU, ROLES_WORK, "boot"},
	{KVM_ENABLE_CAP, ROLES_WORK, "split irqchip"},
	{KVM_SET_USER_MEMORY_REGION, ROLES_WORK, "guest RAM"},
	{KVM_GET_DIRTY_LOG, ROLES_WORK, "dirty tracking"},
	{KVM_SET_TSS_ADDR, ROLES_WORK, "boot"},
	{KVM_SET_IDENTITY_MAP_ADDR, ROLES_WORK, "boot"},

	/* Disks. */
	{BLKDISCARD, ROLES_DISK | ROLES_WORK, "discard on a block device"},
	{BLKZEROOUT, ROLES_DISK | ROLES_WORK, "write-zeroes on a block device"},
	{BLKGETSIZE64, ROLES_WORK, "size of a block device"},
	{BLKSSZGET, ROLES_WORK, "sector size of a block device"},
	{BLKPBSZGET, ROLES_WORK, "sector size of a block device"},

	/* Taps. */
	{TUNSETIFF, ROLES_WORK, "makes or finds a tap"},
	{TUNGETIFF, ROLES_WORK, "a tap given as an fd"},
	{TUNGETFEATURES, ROLES_WORK, "multi-queue, vnet header"},
	{TUNSETVNETHDRSZ, ROLES_WORK, "vnet header"},
	{TUNGETVNETHDRSZ, ROLES_WORK, "vnet header"},
	{TUNSETVNETLE, ROLES_WORK, "vnet header"},
	{SIOCGIFHWADDR, ROLES_WORK, "whose a given tap is"},
	{SIOCGIFINDEX, ROLES_WORK, "if_nametoindex()"},
	{SIOCGIFNAME, ROLES_WORK, "if_indextoname()"},

	/* Terminals. */
	{TCGETS, ROLES_WORK, "console on a terminal, isatty()"},
	{TCSETS, ROLES_WORK, "raw mode and back"},
	{TCSETSW, ROLES_WORK, "raw mode and back"},
	{TCSETSF, ROLES_WORK, "raw mode and back"},
	{TIOCGPGRP, ROLES_WORK, "whether the terminal is ours to change"},
	{TIOCGWINSZ, ROLES_ALL, "size of the console"},
	{TIOCSWINSZ, ROLES_WORK, "size of the console"},
	{TIOCGPTN, ROLES_WORK, "pseudo-terminals"},
	{TIOCSPTLCK, ROLES_WORK, "pseudo-terminals"},
	{TIOCGPTPEER, ROLES_WORK, "pseudo-terminals"},
	{FIONBIO, ROLES_WORK | ROLES_IO, "libuv, for what a loop watches"},
	{FIONREAD, ROLES_WORK, "terminal input"},
};

const size_t sandbox_num_ioctls = ARRAY_SIZE(sandbox_ioctls);
