/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOADed into a coracle, makes the allocation or the system call fail that a test names.
 *
 * Theory of operation
 *
 * The test maps the file that $CORACLE_FAULT names, which is a struct control, and writes into it
 * what is to fail: tests/system/faults.py. Nothing fails before main() has begun.
 *
 * Allocations are failed where they are made: malloc() and its kin are wrapped, and passed on to
 * whoever is next, the C library or AddressSanitizer. The same place counts what is allocated,
 * which is how a test sees a leak of one block.
 *
 * System calls are failed by seccomp: a filter that main() gets before coracle has any of its own
 * hands those that are listed below over to a thread that was started before, and is not under the
 * filter; it looks whether it is this one's turn, and answers either with an error or with "go
 * on". So what liburing and the C library do by themselves is under it too; and a call that
 * coracle's sandbox forbids still ends the process, since that counts for more. No call is needed
 * for this on coracle's own threads.
 *
 * Where an error would not be one that the kernel can give, none is given: see is_possible().
 */
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

#define ALLOCATION  512 /* the kind that is no system call */
#define KINDS	    513
#define MAX_FRAMES  16
#define LISTENER_FD 900 /* out of the way of what coracle opens */

/* <linux/seccomp.h> of older systems lacks them. */
#define NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define NOTIF_SYNC_WAKE_UP 1ul

/* What the test and this library share: faults.py knows it by offset. */
struct control {
	_Atomic uint32_t kind; /* number of the system call, or ALLOCATION; ~0: none */
	_Atomic uint32_t nth;  /* the first to fail, from 1; 0: none, only count */
	_Atomic uint32_t times;
	_Atomic uint32_t error;
	char thread[16];  /* only on threads whose names begin so */
	char target[128]; /* only on descriptors that lead to what contains this */

	_Atomic uint32_t seen;	 /* of `kind`, since it was set */
	_Atomic uint32_t failed; /* of these */
	_Atomic uint64_t live_blocks;
	_Atomic uint64_t live_bytes;

	/* The last one that failed. */
	uint32_t tid, num_frames;
	uint64_t args[6];
	uint64_t frames[MAX_FRAMES];
	char where[128];
	_Atomic uint64_t calls[KINDS]; /* all, whatever is armed */
};

static_assert(offsetof(struct control, seen) == 160, "faults.py");
static_assert(offsetof(struct control, live_blocks) == 168, "faults.py");
static_assert(offsetof(struct control, tid) == 184, "faults.py");
static_assert(offsetof(struct control, calls) == 496, "faults.py");

static struct control *control; /* NULL: before main(), or not wanted */
static int proc_fd = -1;	/* /proc/self of the process */
static int listener = -1;

/* Whether it is this one's turn. */
static bool strike(void)
{
	uint32_t nth = atomic_load(&control->nth);
	uint32_t n = atomic_fetch_add(&control->seen, 1) + 1;

	if (!nth || n < nth || n - nth >= atomic_load(&control->times))
		return false;
	atomic_fetch_add(&control->failed, 1);
	return true;
}

/* --- allocations ------------------------------------------------------------------------------ */

static struct {
	void *(*malloc)(size_t size);
	void *(*calloc)(size_t n, size_t size);
	void *(*realloc)(void *old, size_t size);
	void *(*memalign)(size_t align, size_t size);
	void (*free)(void *block);
} next;

/* dlsym() allocates, before there is anything to pass that on to. */
static char nursery[4096] __attribute__((aligned(16)));
static size_t nursery_used;

static bool in_nursery(const void *block)
{
	return (const char *)block >= nursery && (const char *)block < nursery + sizeof(nursery);
}

static void *nursery_alloc(size_t size)
{
	void *block = nursery + nursery_used;

	size = (size + 15) & ~(size_t)15;
	if (size > sizeof(nursery) - nursery_used)
		abort();
	nursery_used += size;
	return block;
}

static bool find_next(void)
{
	static bool finding;

	if (next.free)
		return true;
	if (finding)
		return false;
	finding = true;
	*(void **)&next.malloc = dlsym(RTLD_NEXT, "malloc");
	*(void **)&next.calloc = dlsym(RTLD_NEXT, "calloc");
	*(void **)&next.realloc = dlsym(RTLD_NEXT, "realloc");
	*(void **)&next.memalign = dlsym(RTLD_NEXT, "memalign");
	*(void **)&next.free = dlsym(RTLD_NEXT, "free");
	return true;
}

/* The C library's text, under AddressSanitizer: it ends the process when what it asks of the C
 * library at the start of each thread fails, and its calls cannot be told from others. */
static uintptr_t spared_start, spared_end;

static int find_spared(struct dl_phdr_info *info, size_t size, void *arg)
{
	Dl_info libc;

	(void)size;
	(void)arg;
	if (!dladdr(dlsym(RTLD_NEXT, "pthread_getattr_np"), &libc) ||
	    (uintptr_t)libc.dli_fbase != info->dlpi_addr)
		return 0;
	spared_start = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type == PT_LOAD)
			spared_end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
	}
	return 1;
}

static bool allocation_fails(const void *caller)
{
	if (!control || (uintptr_t)caller - spared_start < spared_end - spared_start)
		return false;
	atomic_fetch_add_explicit(&control->calls[ALLOCATION], 1, memory_order_relaxed);
	if (atomic_load_explicit(&control->kind, memory_order_relaxed) != ALLOCATION || !strike())
		return false;
	control->num_frames = (uint32_t)backtrace((void **)control->frames, MAX_FRAMES);
	errno = ENOMEM;
	return true;
}

static void *count_new(void *block)
{
	if (block && control) {
		atomic_fetch_add_explicit(&control->live_blocks, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&control->live_bytes, malloc_usable_size(block),
					  memory_order_relaxed);
	}
	return block;
}

static void count_old(void *block)
{
	if (block && control) {
		atomic_fetch_sub_explicit(&control->live_blocks, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&control->live_bytes, malloc_usable_size(block),
					  memory_order_relaxed);
	}
}

PUBLIC void *malloc(size_t size)
{
	if (!find_next())
		return nursery_alloc(size);
	return allocation_fails(__builtin_return_address(0)) ? NULL : count_new(next.malloc(size));
}

PUBLIC void *calloc(size_t n, size_t size)
{
	if (!find_next())
		return nursery_alloc(n * size);
	return allocation_fails(__builtin_return_address(0)) ? NULL
							     : count_new(next.calloc(n, size));
}

PUBLIC void free(void *block)
{
	if (in_nursery(block) || !find_next())
		return;
	count_old(block);
	next.free(block);
}

PUBLIC void *realloc(void *old, size_t size)
{
	size_t old_bytes = old && control && !in_nursery(old) ? malloc_usable_size(old) : 0;
	void *block;

	if (!old)
		return malloc(size);
	if (in_nursery(old)) {
		block = malloc(size);
		if (block)
			memcpy(block, old, size);
		return block;
	}
	if (!size) {
		free(old);
		return NULL;
	}
	if (!find_next() || allocation_fails(__builtin_return_address(0)))
		return NULL;
	block = next.realloc(old, size);
	if (block && control)
		atomic_fetch_add_explicit(&control->live_bytes,
					  malloc_usable_size(block) - old_bytes,
					  memory_order_relaxed);
	return block;
}

PUBLIC void *reallocarray(void *old, size_t n, size_t size)
{
	if (__builtin_mul_overflow(n, size, &size)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(old, size);
}

PUBLIC void *memalign(size_t align, size_t size)
{
	if (!find_next() || allocation_fails(__builtin_return_address(0)))
		return NULL;
	return count_new(next.memalign(align, size));
}

PUBLIC void *aligned_alloc(size_t align, size_t size)
{
	return memalign(align, size);
}

PUBLIC int posix_memalign(void **ret_block, size_t align, size_t size)
{
	void *block = memalign(align, size);

	if (!block)
		return ENOMEM;
	*ret_block = block;
	return 0;
}

/* --- system calls ----------------------------------------------------------------------------- */

/* All that may fail for want of something. Of what is left out, close() and munmap() cannot, and
 * futex() and waiting for events only by an error of ours. */
static const uint16_t watched[] = {
	SYS_open,
	SYS_openat,
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_preadv,
	SYS_pwritev,
	SYS_preadv2,
	SYS_pwritev2,
	SYS_mmap,
	SYS_mprotect,
	SYS_mremap,
	SYS_madvise,
	SYS_mbind,
	SYS_mlock,
	SYS_ioctl,
	SYS_eventfd2,
	SYS_timerfd_create,
	SYS_signalfd4,
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_pipe2,
	SYS_memfd_create,
	SYS_ftruncate,
	SYS_fallocate,
	SYS_fsync,
	SYS_fdatasync,
	SYS_lseek,
	SYS_fcntl,
	SYS_dup,
	SYS_dup3,
	SYS_fstat,
	SYS_newfstatat,
	SYS_stat,
	SYS_lstat,
	SYS_statx,
	SYS_statfs,
	SYS_fstatfs,
	SYS_getdents64,
	SYS_readlink,
	SYS_unlink,
	SYS_chmod,
	SYS_fchmod,
	SYS_socket,
	SYS_socketpair,
	SYS_bind,
	SYS_listen,
	SYS_connect,
	SYS_accept4,
	SYS_sendmsg,
	SYS_sendto,
	SYS_recvmsg,
	SYS_recvfrom,
	SYS_getsockopt,
	SYS_setsockopt,
	SYS_getsockname,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	SYS_clone,
	SYS_clone3,
	SYS_prctl,
	SYS_seccomp,
	SYS_capget,
	SYS_capset,
	SYS_sched_setaffinity,
	SYS_prlimit64,
	SYS_getrandom,
	SYS_rt_sigaction,
	SYS_poll,

};

#define NUM_WATCHED (sizeof(watched) / sizeof(watched[0]))

/* What a descriptor of ours leads to, or "". */
static const char *link_of(uint64_t fd, char *buf, size_t size)
{
	char name[32];
	ssize_t n;

	snprintf(name, sizeof(name), "fd/%d", (int)fd);
	n = readlinkat(proc_fd, name, buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

/* Whether epoll `set` has `fd` already: then a second entry is EEXIST, whatever the kernel is short
 * of, and not ours to fail. */
static bool is_entered(uint64_t set, uint64_t fd)
{
	char name[32], text[4096], line[32];
	ssize_t n = -1;
	int info;

	snprintf(name, sizeof(name), "fdinfo/%d", (int)set);
	info = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
	if (info >= 0) {
		n = read(info, text, sizeof(text) - 1);
		close(info);
	}
	text[n > 0 ? n : 0] = '\0';
	snprintf(line, sizeof(line), "tfd: %8d ", (int)fd);
	return strstr(text, line);
}

/* Whether the kernel ever fails this one. Changing or ending what epoll watches needs nothing; an
 * eventfd can only be full or empty; and a byte fits into the empty pipe of libuv. */
static bool is_possible(const struct seccomp_data *call, const char *target)
{
	switch (call->nr) {
	case SYS_epoll_ctl:
		return call->args[1] == EPOLL_CTL_ADD && !is_entered(call->args[0], call->args[2]);
	case SYS_read: return !strstr(target, "[eventfd]");
	case SYS_write:
		return !strstr(target, "[eventfd]") &&
		       !(call->args[2] == 1 && strstr(target, "pipe:"));
	case SYS_fcntl: return call->args[1] != F_GETFL && call->args[1] != F_GETFD;
	default: return true;
	}
}

static bool is_meant(const struct seccomp_notif *notif)
{
	char target[sizeof(control->where)], name[32], thread[16] = "";
	int fd;

	link_of(notif->data.args[notif->data.nr == SYS_epoll_ctl ? 2 : 0], target, sizeof(target));
	if (!is_possible(&notif->data, target) || !strstr(target, control->target))
		return false;
	snprintf(name, sizeof(name), "task/%u/comm", notif->pid);
	fd = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, thread, sizeof(thread) - 1) < 0)
		thread[0] = '\0';
	close(fd);
	return !strncmp(thread, control->thread, strlen(control->thread));
}

static void note(const struct seccomp_notif *notif)
{
	control->tid = notif->pid;
	memcpy(control->args, notif->data.args, sizeof(control->args));
	link_of(notif->data.args[0], control->where, sizeof(control->where));
}

static int verdict(const struct seccomp_notif *notif)
{
	uint32_t kind = (uint32_t)notif->data.nr;

	if (kind < ALLOCATION)
		atomic_fetch_add_explicit(&control->calls[kind], 1, memory_order_relaxed);
	if (atomic_load(&control->kind) != kind || !is_meant(notif) || !strike())
		return 0;
	note(notif);
	return (int)atomic_load(&control->error);
}

static void *supervise(void *arg)
{
	sem_t *ready = arg;
	struct seccomp_notif notif;
	struct seccomp_notif_resp resp;

	sem_wait(ready);
	for (;;) {
		memset(&notif, 0, sizeof(notif));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) < 0)
			continue;
		memset(&resp, 0, sizeof(resp));
		resp.id = notif.id;
		resp.error = -verdict(&notif);
		if (!resp.error)
			resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
	}
	return NULL;
}

#define LOAD(member)	      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define RETURN(action)	      BPF_STMT(BPF_RET | BPF_K, (action))

/* Hands the calls over, but for KVM_RUN, which is no allocation and far too frequent. */
static int install(void)
{
	struct sock_filter code[NUM_WATCHED * 2 + 6];
	struct sock_fprog program = {.filter = code};
	unsigned n = 0;

	code[n++] = (struct sock_filter)LOAD(args[1]);
	code[n++] = (struct sock_filter)SKIP_UNLESS(KVM_RUN, 1);
	code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)LOAD(nr);
	for (size_t i = 0; i < NUM_WATCHED; i++) {
		code[n++] = (struct sock_filter)SKIP_UNLESS(watched[i], 1);
		code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_USER_NOTIF);
	}
	code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	program.len = (unsigned short)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &program);
}

/* --- the start -------------------------------------------------------------------------------- */

static void die(const char *what)
{
	fprintf(stderr, "failing_calls: %s: %s\n", what, strerror(errno));
	_exit(120);
}

static struct control *map_control(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct control *mapped;

	if (fd < 0)
		die(path);
	mapped = mmap(NULL, sizeof(*mapped), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		die(path);
	close(fd);
	return mapped;
}

static void start(void)
{
	const char *path = getenv("CORACLE_FAULT");
	static sem_t ready;
	struct control *mapped;
	sigset_t all, before;
	pthread_t supervisor;
	void *warm[2];
	int fd;

	if (!path)
		return;
	mapped = map_control(path);
	if (dlsym(RTLD_DEFAULT, "__asan_init"))
		dl_iterate_phdr(find_spared, NULL);
	backtrace(warm, 2); /* loads a library the first time */
	fd = open("/proc/self", O_PATH | O_CLOEXEC);
	proc_fd = fcntl(fd, F_DUPFD_CLOEXEC, LISTENER_FD);
	close(fd);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	sem_init(&ready, 0, 0);
	if (proc_fd < 0 || pthread_create(&supervisor, NULL, supervise, &ready) != 0)
		die("no supervisor");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	control = mapped;
	fd = install();
	if (fd < 0)
		die("no filter");
	/* Until the thread listens, only calls that are not handed over can be made: dup2() is. */
	listener = (int)syscall(SYS_dup2, fd, LISTENER_FD + 10);
	syscall(SYS_close, fd);
	sem_post(&ready);
	ioctl(listener, NOTIF_SET_FLAGS, NOTIF_SYNC_WAKE_UP);
}

static int (*real_main)(int argc, char **argv, char **envp);

static int main_with_faults(int argc, char **argv, char **envp)
{
	start();
	return real_main(argc, argv, envp);
}

PUBLIC int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
			     void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			     void *stack_end);

PUBLIC int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
			     void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			     void *stack_end)
{
	__typeof__(&__libc_start_main) libc;

	*(void **)&libc = dlsym(RTLD_NEXT, "__libc_start_main");
	real_main = main;
	return libc(main_with_faults, argc, argv, init, fini, rtld_fini, stack_end);
}
