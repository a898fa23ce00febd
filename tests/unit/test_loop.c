/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;
static char trail[64]; /* what ran, in order */

static void mark(char c)
{
	size_t len = strlen(trail);

	assert_true(len + 1 < sizeof(trail));
	trail[len] = c;
	trail[len + 1] = '\0';
}

static int setup(void **state)
{
	trail[0] = '\0';
	return loop_new(&loop);
}

static int teardown(void **state)
{
	loop_free(loop);
	return 0;
}

/* --- tasks ---------------------------------------------------------------------------------- */

static char letter_a = 'a', letter_b = 'b', letter_v = 'v';

static void stop_task(struct loop_task *task)
{
	mark('.');
	loop_stop(loop);
}

static void mark_task(struct loop_task *task)
{
	mark(*(char *)task->arg);
}

static void tasks_run_once_in_order_of_posting(void **state)
{
	struct loop_task a = {.fn = mark_task, .arg = &letter_a};
	struct loop_task b = {.fn = mark_task, .arg = &letter_b};
	struct loop_task stop = {.fn = stop_task};

	loop_post(loop, &b);
	loop_post(loop, &a);
	loop_post(loop, &b);
	loop_post(loop, &stop);
	loop_run(loop);
	assert_string_equal(trail, "ba.");
	assert_false(a.queued);
}

static void stop_keeps_later_tasks_for_the_next_run(void **state)
{
	struct loop_task a = {.fn = mark_task, .arg = &letter_a};
	struct loop_task stop = {.fn = stop_task}, again = {.fn = stop_task};

	loop_post(loop, &stop);
	loop_post(loop, &a);
	loop_post(loop, &again);
	loop_run(loop);
	assert_string_equal(trail, ".");
	loop_run(loop);
	assert_string_equal(trail, ".a.");
}

static void stop_before_run_is_kept(void **state)
{
	struct loop_task a = {.fn = mark_task, .arg = &letter_a};

	loop_post(loop, &a);
	loop_stop(loop);
	loop_run(loop);
	assert_string_equal(trail, "");
	loop_task_cancel(loop, &a);
}

static struct loop_task victim;

static void cancel_victim(struct loop_task *task)
{
	mark('c');
	loop_task_cancel(loop, &victim);
}

static void cancelled_task_does_not_run_even_in_the_same_turn(void **state)
{
	struct loop_task cancel = {.fn = cancel_victim}, stop = {.fn = stop_task};

	victim = (struct loop_task){.fn = mark_task, .arg = &letter_v};
	loop_task_cancel(loop, &victim);
	loop_post(loop, &cancel);
	loop_post(loop, &victim);
	loop_post(loop, &stop);
	loop_run(loop);
	assert_string_equal(trail, "c.");
	loop_task_cancel(loop, &victim);
}

static int pipe_fds[2];

static void repost(struct loop_task *task)
{
	loop_post(loop, task);
}

static void on_readable_stop(struct loop_fd *h, unsigned events, void *arg)
{
	mark('r');
	loop_stop(loop);
}

static void task_that_posts_itself_leaves_room_for_io(void **state)
{
	struct loop_task again = {.fn = repost};
	struct loop_fd *h;

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(write(pipe_fds[1], "x", 1), 1);
	assert_int_equal(loop_fd_new(loop, pipe_fds[0], LOOP_READ, on_readable_stop, NULL, &h), 0);
	loop_post(loop, &again);
	loop_run(loop);
	assert_string_equal(trail, "r");
	loop_task_cancel(loop, &again);
	loop_fd_free(h);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

#define POSTS 2000

struct poster {
	struct loop_task tasks[POSTS];
	uint64_t value[POSTS];
};

static uint64_t sum;
static unsigned runs;

static void add_value(struct loop_task *task)
{
	sum += *(uint64_t *)task->arg;
	if (++runs == 3 * POSTS)
		loop_stop(loop);
}

static void *post_many(void *arg)
{
	struct poster *p = arg;

	for (size_t i = 0; i < POSTS; i++) {
		p->value[i] = i;
		p->tasks[i] = (struct loop_task){.fn = add_value, .arg = &p->value[i]};
		loop_post(loop, &p->tasks[i]);
	}
	return NULL;
}

static void posts_from_several_threads_all_arrive(void **state)
{
	struct poster *posters = calloc(3, sizeof(*posters));
	pthread_t threads[3];

	assert_non_null(posters);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
	loop_run(loop);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(runs, 3 * POSTS);
	assert_true(sum == (uint64_t)3 * POSTS * (POSTS - 1) / 2);
	free(posters);
}

static void *stop_from_outside(void *arg)
{
	usleep(20000);
	loop_stop(loop);
	return NULL;
}

static atomic_uint yields;

static void on_yield(int sig)
{
	atomic_fetch_add(&yields, 1);
}

/* Has each sched_yield() of this thread send it SIGSYS instead. */
static void trap_yields(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_yield, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = ARRAY_SIZE(filter), .filter = filter};

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void *run_without_yield(void *arg)
{
	trap_yields();
	loop_run(loop);
	return NULL;
}

static void count_task(struct loop_task *task)
{
	atomic_fetch_add((atomic_uint *)task->arg, 1);
}

/* A wake-up that preempts the poster, as on a machine with one CPU. */
static void loop_does_not_wait_for_whoever_woke_it(void **state)
{
	atomic_uint done = 0;
	struct loop_task task = {.fn = count_task, .arg = &done};
	cpu_set_t before, one;
	pthread_t t;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	signal(SIGSYS, on_yield);
	assert_int_equal(pthread_create(&t, NULL, run_without_yield, NULL), 0);
	for (unsigned i = 0; i < 2000; i++) {
		loop_post(loop, &task);
		while (atomic_load(&done) <= i)
			usleep(50); /* the loop goes to sleep */
	}
	loop_stop(loop);
	pthread_join(t, NULL);
	signal(SIGSYS, SIG_DFL);
	sched_setaffinity(0, sizeof(before), &before);
	assert_int_equal(atomic_load(&yields), 0);
}

static void another_thread_can_stop_a_sleeping_loop(void **state)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, stop_from_outside, NULL), 0);
	loop_run(loop);
	pthread_join(t, NULL);
}

/* --- file descriptors ----------------------------------------------------------------------- */

static void readiness_is_level_triggered(void **state)
{
	struct loop_fd *h;

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(loop_fd_new(loop, pipe_fds[0], LOOP_READ, on_readable_stop, NULL, &h), 0);
	assert_int_equal(write(pipe_fds[1], "x", 1), 1);
	loop_run(loop);
	loop_run(loop);
	assert_string_equal(trail, "rr");
	loop_fd_free(h);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void free_and_close(struct loop_fd *h, unsigned events, void *arg)
{
	mark('f');
	loop_fd_free(h);
	close(pipe_fds[0]);
	loop_post(loop, arg);
}

static void callback_may_free_its_handle_and_close_the_fd(void **state)
{
	struct loop_task stop = {.fn = stop_task};
	struct loop_fd *h;
	int second[2];

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(write(pipe_fds[1], "x", 1), 1);
	assert_int_equal(loop_fd_new(loop, pipe_fds[0], LOOP_READ, free_and_close, &stop, &h), 0);
	loop_run(loop);
	assert_string_equal(trail, "f.");

	/* The number of the closed fd can be watched again at once. */
	assert_int_equal(pipe(second), 0);
	assert_int_equal(second[0], pipe_fds[0]);
	assert_int_equal(write(second[1], "x", 1), 1);
	assert_int_equal(loop_fd_new(loop, second[0], LOOP_READ, on_readable_stop, NULL, &h), 0);
	loop_run(loop);
	assert_string_equal(trail, "f.r");
	loop_fd_free(h);
	close(second[0]);
	close(second[1]);
	close(pipe_fds[1]);
}

static struct loop_fd *pair[2];

static void free_the_other(struct loop_fd *h, unsigned events, void *arg)
{
	int other = h == pair[0];

	mark('1');
	loop_fd_free(pair[other]);
	pair[other] = NULL;
	loop_post(loop, arg);
}

static void handle_freed_by_another_callback_does_not_run_in_the_same_turn(void **state)
{
	int a = eventfd_new(), b = eventfd_new();
	struct loop_task stop = {.fn = stop_task};

	eventfd_signal(a);
	eventfd_signal(b);
	assert_int_equal(loop_fd_new(loop, a, LOOP_READ, free_the_other, &stop, &pair[0]), 0);
	assert_int_equal(loop_fd_new(loop, b, LOOP_READ, free_the_other, &stop, &pair[1]), 0);
	loop_run(loop);
	/* The survivor is level triggered and may have run twice; the freed one has not run. */
	assert_true((pair[0] == NULL) != (pair[1] == NULL));
	loop_fd_free(pair[0]);
	loop_fd_free(pair[1]);
	fd_close(&a);
	fd_close(&b);
}

static void stop_holds_back_other_fds_of_the_turn(void **state)
{
	int a = eventfd_new(), b = eventfd_new();
	struct loop_fd *ha, *hb;

	eventfd_signal(a);
	eventfd_signal(b);
	assert_int_equal(loop_fd_new(loop, a, LOOP_READ, on_readable_stop, NULL, &ha), 0);
	assert_int_equal(loop_fd_new(loop, b, LOOP_READ, on_readable_stop, NULL, &hb), 0);
	loop_run(loop);
	assert_string_equal(trail, "r");
	loop_fd_free(ha);
	loop_fd_free(hb);
	fd_close(&a);
	fd_close(&b);
}

static unsigned seen_events;

static void note_events(struct loop_fd *h, unsigned events, void *arg)
{
	seen_events = events;
	loop_stop(loop);
}

static void what_is_watched_can_change(void **state)
{
	struct loop_fd *h;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(loop_fd_new(loop, s[0], 0, note_events, NULL, &h), 0);
	assert_int_equal(write(s[1], "x", 1), 1);
	assert_int_equal(loop_fd_set(h, LOOP_WRITE), 0);
	loop_run(loop);
	assert_int_equal(seen_events, LOOP_WRITE);
	assert_int_equal(loop_fd_set(h, LOOP_READ | LOOP_WRITE), 0);
	loop_run(loop);
	assert_int_equal(seen_events, LOOP_READ | LOOP_WRITE);
	loop_fd_free(h);
	close(s[0]);
	close(s[1]);
}

static void peer_that_is_gone_makes_the_fd_readable(void **state)
{
	struct loop_fd *h;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(loop_fd_new(loop, s[0], LOOP_READ, note_events, NULL, &h), 0);
	close(s[1]);
	loop_run(loop);
	assert_true(seen_events & LOOP_READ);
	assert_int_equal(loop_fd_set(h, LOOP_HANGUP), 0);
	loop_run(loop);
	assert_int_equal(seen_events, LOOP_HANGUP);
	loop_fd_free(h);
	close(s[0]);
}

static void error_is_a_hangup_and_is_reported_until_dealt_with(void **state)
{
	struct loop_fd *h;

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(loop_fd_new(loop, pipe_fds[1], LOOP_WRITE, note_events, NULL, &h), 0);
	close(pipe_fds[0]); /* POLLERR on the writing end */
	for (int i = 0; i < 2; i++) {
		seen_events = 0;
		loop_run(loop);
		assert_int_equal(seen_events, LOOP_WRITE | LOOP_HANGUP);
	}
	loop_fd_free(h);
	close(pipe_fds[1]);
}

static void what_cannot_be_watched_is_refused(void **state)
{
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct loop_fd *h;
	int e = eventfd_new();

	assert_true(file >= 0);
	assert_int_equal(loop_fd_new(loop, file, LOOP_READ, note_events, NULL, &h), -EPERM);
	assert_int_equal(loop_fd_new(loop, -1, LOOP_READ, note_events, NULL, &h), -EBADF);
	assert_int_equal(loop_fd_new(loop, e, LOOP_READ, note_events, NULL, &h), 0);
	assert_int_equal(loop_fd_new(loop, e, LOOP_READ, note_events, NULL, &pair[0]), -EEXIST);
	loop_fd_free(h);
	loop_fd_free(NULL);
	close(file);
	fd_close(&e);
}

/* --- timers --------------------------------------------------------------------------------- */

static void on_timer_stop(struct loop_timer *t, void *arg)
{
	mark('t');
	loop_stop(loop);
}

static void timer_counts_its_delay_from_the_call(void **state)
{
	struct loop_timer *t;
	uint64_t armed;

	assert_int_equal(loop_timer_new(loop, on_timer_stop, NULL, &t), 0);
	usleep(30000);
	armed = loop_now_ns();
	loop_timer_start(t, 30, 0);
	loop_run(loop);
	assert_true(loop_now_ns() - armed >= 28 * 1000000ull); /* libuv counts in milliseconds */
	assert_string_equal(trail, "t");
	loop_timer_free(t);
	loop_timer_free(NULL);
}

static void on_third_free(struct loop_timer *t, void *arg)
{
	mark('t');
	if (strlen(trail) == 3) {
		loop_timer_free(t);
		loop_stop(loop);
	}
}

static void timer_repeats_until_freed_by_its_callback(void **state)
{
	struct loop_timer *t;

	assert_int_equal(loop_timer_new(loop, on_third_free, NULL, &t), 0);
	loop_timer_start(t, 1, 2);
	loop_run(loop);
	assert_string_equal(trail, "ttt");
}

static void mark_timer(struct loop_timer *t, void *arg)
{
	mark(*(char *)arg);
}

static void stopped_timer_does_not_fire_and_rearming_replaces(void **state)
{
	struct loop_timer *stopped, *late, *stop;

	assert_int_equal(loop_timer_new(loop, mark_timer, &letter_a, &stopped), 0);
	assert_int_equal(loop_timer_new(loop, mark_timer, &letter_b, &late), 0);
	assert_int_equal(loop_timer_new(loop, on_timer_stop, NULL, &stop), 0);
	loop_timer_start(stopped, 1, 0);
	loop_timer_start(late, 1, 0);
	loop_timer_start(late, 60000, 0);
	loop_timer_start(stop, 10, 0);
	loop_timer_stop(stopped);
	loop_run(loop);
	assert_string_equal(trail, "t");
	loop_timer_free(stopped);
	loop_timer_free(late);
	loop_timer_free(stop);
}

static void timer_that_was_due_at_the_stop_fires_in_the_next_run(void **state)
{
	struct loop_timer *first, *second;

	assert_int_equal(loop_timer_new(loop, on_timer_stop, NULL, &first), 0);
	assert_int_equal(loop_timer_new(loop, on_timer_stop, NULL, &second), 0);
	loop_timer_start(first, 1, 0);
	loop_timer_start(second, 1, 0);
	loop_run(loop);
	assert_string_equal(trail, "t");
	loop_run(loop);
	assert_string_equal(trail, "tt");
	loop_timer_free(first);
	loop_timer_free(second);
}

/* --- the end -------------------------------------------------------------------------------- */

static void free_ends_what_is_left_and_drops_tasks(void **state)
{
	struct loop_task task = {.fn = mark_task, .arg = &letter_a};
	struct loop *other;
	struct loop_timer *t;
	struct loop_fd *h, *freed;
	int e = eventfd_new(), f = eventfd_new();

	assert_int_equal(loop_new(&other), 0);
	eventfd_signal(e);
	assert_int_equal(loop_fd_new(other, e, LOOP_READ, note_events, NULL, &h), 0);
	assert_int_equal(loop_fd_new(other, f, LOOP_READ, note_events, NULL, &freed), 0);
	assert_int_equal(loop_timer_new(other, on_timer_stop, NULL, &t), 0);
	loop_timer_start(t, 0, 0);
	loop_post(other, &task);
	loop_fd_free(freed);
	loop_free(other);
	assert_false(task.queued);
	assert_string_equal(trail, "");
	fd_close(&e);
	fd_close(&f);
	loop_free(NULL);
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void loops_come_and_go_without_leaving_fds(void **state)
{
	int before = open_fds();

	for (int i = 0; i < 300; i++) {
		struct loop *other;

		assert_int_equal(loop_new(&other), 0);
		loop_free(other);
	}
	assert_int_equal(open_fds(), before);
}

/* Whatever number of descriptors is left for it. */
static void loop_that_cannot_be_made_leaves_no_fds(void **state)
{
	struct rlimit before, tight;
	int fds = open_fds(), failures = 0;
	struct loop *other = NULL;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	for (tight.rlim_cur = 3; !other; tight.rlim_cur++) {
		int rc;

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
		rc = loop_new(&other);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		assert_int_equal(rc, other ? 0 : -EMFILE);
		failures += rc < 0;
		if (!other)
			assert_int_equal(open_fds(), fds);
	}
	assert_true(failures >= 3);
	loop_free(other);
	assert_int_equal(open_fds(), fds);
}

int main(void)
{
#define WITH_LOOP(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_LOOP(tasks_run_once_in_order_of_posting),
		WITH_LOOP(stop_keeps_later_tasks_for_the_next_run),
		WITH_LOOP(stop_before_run_is_kept),
		WITH_LOOP(cancelled_task_does_not_run_even_in_the_same_turn),
		WITH_LOOP(task_that_posts_itself_leaves_room_for_io),
		WITH_LOOP(posts_from_several_threads_all_arrive),
		WITH_LOOP(loop_does_not_wait_for_whoever_woke_it),
		WITH_LOOP(another_thread_can_stop_a_sleeping_loop),
		WITH_LOOP(readiness_is_level_triggered),
		WITH_LOOP(callback_may_free_its_handle_and_close_the_fd),
		WITH_LOOP(handle_freed_by_another_callback_does_not_run_in_the_same_turn),
		WITH_LOOP(stop_holds_back_other_fds_of_the_turn),
		WITH_LOOP(what_is_watched_can_change),
		WITH_LOOP(peer_that_is_gone_makes_the_fd_readable),
		WITH_LOOP(error_is_a_hangup_and_is_reported_until_dealt_with),
		WITH_LOOP(what_cannot_be_watched_is_refused),
		WITH_LOOP(timer_counts_its_delay_from_the_call),
		WITH_LOOP(timer_repeats_until_freed_by_its_callback),
		WITH_LOOP(stopped_timer_does_not_fire_and_rearming_replaces),
		WITH_LOOP(timer_that_was_due_at_the_stop_fires_in_the_next_run),
		WITH_LOOP(free_ends_what_is_left_and_drops_tasks),
		WITH_LOOP(loops_come_and_go_without_leaving_fds),
		WITH_LOOP(loop_that_cannot_be_made_leaves_no_fds),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
