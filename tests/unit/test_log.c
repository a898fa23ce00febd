/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int out[2]; /* the log's pipe; the reading end does not block */
static char text[70000];

static int setup(void **state)
{
	if (pipe2(out, O_CLOEXEC) < 0)
		return -1;
	log_set_fd(out[1]);
	log_set_level(LOG_TRACE);
	log_set_format(LOG_FORMAT_TEXT);
	return fd_set_nonblock(out[0], true);
}

static int teardown(void **state)
{
	log_set_fd(STDERR_FILENO);
	log_set_format(LOG_FORMAT_TEXT);
	close(out[0]);
	close(out[1]);
	return 0;
}

static const char *logged(void)
{
	ssize_t n = read(out[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void assert_one_line(void)
{
	assert_true(strlen(text) > 0);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void text_line_has_the_documented_form(void **state)
{
	unsigned long secs, micros;
	int line, used = 0;

	log_info("hello %d", 42);
	logged();
	assert_int_equal(sscanf(text, "coracle: %lu.%6lu: main INFO: test_log.c:%d -- hello 42\n%n",
				&secs, &micros, &line, &used),
			 3);
	assert_int_equal(used, strlen(text));
	assert_one_line();
}

static void level_words_are_those_that_clients_sort_by(void **state)
{
	static const char *const words[] = {" ERRO: ", " WARN: ", " INFO: ", " DEBG: ", " TRCE: "};

	for (int level = LOG_ERROR; level <= LOG_TRACE; level++) {
		log_at((enum log_level)level, "x");
		assert_non_null(strstr(logged(), words[level]));
	}
}

static void messages_above_the_level_are_not_written(void **state)
{
	log_set_level(LOG_WARN);
	log_info("no");
	assert_string_equal(logged(), "");
	log_warn("yes");
	assert_non_null(strstr(logged(), "yes"));
	assert_false(log_enabled(LOG_INFO));
}

static void control_characters_cannot_forge_lines(void **state)
{
	log_info("a\nb\rc\x1b[2J\x7f\xc2\x9b\xff\xc3\xa9");
	logged();
	assert_non_null(strstr(text, " -- a\\nb\\x0dc\\x1b[2J\\x7f\\xc2\\x9b\\xff\xc3\xa9\n"));
	assert_one_line();
}

static void json_line_parses_and_holds_the_message(void **state)
{
	const char *msg = "q\" \\ \n \x01 \x7f \xc2\x85 \xc3\xa9";
	AUTO_JSON struct json *v = NULL;

	log_set_format(LOG_FORMAT_JSON);
	log_warn("%s", msg);
	logged();
	assert_one_line();
	v = json_parse(text, strlen(text), NULL);
	assert_non_null(v);
	assert_string_equal(json_string(json_member(v, "msg")), msg);
	assert_string_equal(json_string(json_member(v, "level")), "WARN");
	assert_string_equal(json_string(json_member(v, "thread")), "main");
	assert_string_equal(json_string(json_member(v, "file")), "test_log.c");
	assert_true(json_int(json_member(v, "line")) > 0);
	assert_true(json_real(json_member(v, "ts")) > 1.5e9);
}

static void overlong_and_foreign_bytes_still_make_one_json_line(void **state)
{
	char msg[10000];
	AUTO_JSON struct json *v = NULL;

	log_set_format(LOG_FORMAT_JSON);
	for (size_t i = 0; i + 1 < sizeof(msg); i++)
		msg[i] = (char)(1 + i % 255);
	msg[sizeof(msg) - 1] = '\0';
	log_info("%s", msg);
	logged();
	assert_one_line();
	assert_true(strlen(text) <= 4096); /* PIPE_BUF: a pipe takes it whole */
	v = json_parse(text, strlen(text), NULL);
	assert_non_null(v);
}

static void overlong_text_is_cut_to_one_line(void **state)
{
	char msg[10000];

	memset(msg, '\n', sizeof(msg) - 1);
	msg[sizeof(msg) - 1] = '\0';
	log_info("%s", msg);
	logged();
	assert_one_line();
	assert_true(strlen(text) <= 4096);
}

static unsigned count_lines(void)
{
	unsigned lines = 0;

	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	return lines;
}

static void full_pipe_loses_lines_without_waiting_and_says_so(void **state)
{
	char want[64];
	unsigned lines;

	for (int i = 0; i < 3000; i++)
		log_info("line %d of many, some of which nobody reads", i);
	logged();
	lines = count_lines();
	assert_in_range(lines, 100, 2999);
	assert_null(strstr(text, "were lost"));

	log_info("there is room again");
	logged();
	snprintf(want, sizeof(want), "-- %u messages were lost", 3000 - lines);
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, " WARN: log.c:"));
	assert_non_null(strstr(text, "there is room again\n"));

	log_info("quiet");
	assert_null(strstr(logged(), "were lost"));
}

static void reader_that_is_gone_does_no_harm(void **state)
{
	close(out[0]);
	log_info("to nobody");
	out[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void errno_survives_logging(void **state)
{
	errno = EXDEV;
	log_info("x");
	assert_int_equal(errno, EXDEV);
}

static void *log_one(void *arg)
{
	log_info("from a thread");
	return NULL;
}

static void lines_carry_the_name_of_their_thread(void **state)
{
	struct thread t = {0};

	assert_int_equal(thread_start(&t, "vcpu7", THREAD_VCPU, log_one, NULL), 0);
	thread_join(&t);
	assert_non_null(strstr(logged(), ": vcpu7 INFO: "));
}

static void *log_a_hundred(void *arg)
{
	for (int i = 0; i < 100; i++)
		log_info("%.*s", 50 + i, (const char *)arg);
	return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state)
{
	char fill[2][200];
	struct thread t[2] = {0};
	unsigned lines = 0;
	char *save = NULL;

	for (int i = 0; i < 2; i++) {
		memset(fill[i], 'a' + i, sizeof(fill[i]));
		assert_int_equal(thread_start(&t[i], "x", THREAD_NET, log_a_hundred, fill[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		thread_join(&t[i]);
	logged();
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *msg = strstr(line, "-- a");

		if (!msg)
			msg = strstr(line, "-- b");
		if (!msg)
			continue; /* "messages were lost", of the test with a closed reader */
		msg += 3;
		assert_int_equal(strspn(msg, msg[0] == 'a' ? "a" : "b"), strlen(msg));
		lines++;
	}
	assert_int_equal(lines, 200);
}

static void limit_passes_a_burst_then_one_a_second_with_the_count(void **state)
{
	struct log_limit limit = {.burst = 3};
	uint64_t held = 99;

	for (int i = 0; i < 3; i++) {
		assert_true(log_limit_pass(&limit, &held));
		assert_int_equal(held, 0);
	}
	for (int i = 0; i < 10; i++)
		assert_false(log_limit_pass(&limit, &held));
	limit.last_ns = loop_now_ns() - 1000000001;
	assert_true(log_limit_pass(&limit, &held));
	assert_int_equal(held, 10);
	assert_false(log_limit_pass(&limit, &held));
}

static void limited_warning_is_written_a_few_times_only(void **state)
{
	for (int i = 0; i < 1000; i++)
		log_warn_limited("guest says %d", i);
	logged();
	assert_in_range(count_lines(), 5, 8);
}

int main(void)
{
#define WITH_PIPE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_PIPE(text_line_has_the_documented_form),
		WITH_PIPE(level_words_are_those_that_clients_sort_by),
		WITH_PIPE(messages_above_the_level_are_not_written),
		WITH_PIPE(control_characters_cannot_forge_lines),
		WITH_PIPE(json_line_parses_and_holds_the_message),
		WITH_PIPE(overlong_and_foreign_bytes_still_make_one_json_line),
		WITH_PIPE(overlong_text_is_cut_to_one_line),
		WITH_PIPE(full_pipe_loses_lines_without_waiting_and_says_so),
		WITH_PIPE(reader_that_is_gone_does_no_harm),
		WITH_PIPE(errno_survives_logging),
		WITH_PIPE(lines_carry_the_name_of_their_thread),
		WITH_PIPE(lines_of_several_threads_do_not_mix),
		WITH_PIPE(limit_passes_a_burst_then_one_a_second_with_the_count),
		WITH_PIPE(limited_warning_is_written_a_few_times_only),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
