/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks one question of an HTTP server on a UNIX socket again and again, on N connections that each
 * wait for the answer before they ask again, and prints how long the answers took as JSON.
 *
 *   load SOCKET PATH CONNECTIONS SECONDS
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 1000
#define MAX_SAMPLES	10000000

struct client {
	int fd;
	uint64_t asked_ns;
	size_t len;
	char answer[4096];
};

static char question[512];
static uint32_t *samples; /* nanoseconds */
static size_t num_samples;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		fail(path);
	return fd;
}

static void ask(struct client *c)
{
	size_t len = strlen(question);

	c->len = 0;
	c->asked_ns = now_ns();
	if (send(c->fd, question, len, MSG_NOSIGNAL) != (ssize_t)len)
		fail("send");
}

/* Whether the whole answer is there. */
static int is_whole(const struct client *c)
{
	const char *end = memmem(c->answer, c->len, "\r\n\r\n", 4);
	const char *field = memmem(c->answer, c->len, "Content-Length: ", 16);
	size_t body = field ? strtoul(field + 16, NULL, 10) : 0;

	return end && (size_t)(end - c->answer) + 4 + body <= c->len;
}

static void receive(struct client *c)
{
	ssize_t n = recv(c->fd, c->answer + c->len, sizeof(c->answer) - c->len, 0);

	if (n <= 0)
		fail("recv");
	c->len += (size_t)n;
	if (!is_whole(c))
		return;
	if (strncmp(c->answer, "HTTP/1.1 20", 11)) {
		fprintf(stderr, "load: refused: %.60s\n", c->answer);
		_exit(1);
	}
	if (num_samples < MAX_SAMPLES)
		samples[num_samples++] = (uint32_t)(now_ns() - c->asked_ns);
	ask(c);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double percentile_us(double p)
{
	return samples[(size_t)(p / 100 * (double)(num_samples - 1))] / 1e3;
}

static void report(double seconds)
{
	if (!num_samples)
		fail("no answer");
	qsort(samples, num_samples, sizeof(*samples), compare);
	printf("{\"requests\": %zu, \"rate\": %.0f, \"p50_us\": %.1f, \"p90_us\": %.1f, "
	       "\"p99_us\": %.1f, \"p99_9_us\": %.1f, \"max_us\": %.1f}\n",
	       num_samples, (double)num_samples / seconds, percentile_us(50), percentile_us(90),
	       percentile_us(99), percentile_us(99.9), percentile_us(100));
}

static void run(struct client *clients, unsigned n, const char *path, uint64_t duration_ns)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[64];
	uint64_t end;

	for (unsigned i = 0; i < n; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};

		clients[i].fd = connect_to(path);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) < 0)
			fail("epoll");
	}
	end = now_ns() + duration_ns;
	for (unsigned i = 0; i < n; i++)
		ask(&clients[i]);
	while (now_ns() < end) {
		int ready = epoll_wait(epoll, events, 64, 100);

		for (int i = 0; i < ready; i++)
			receive(events[i].data.ptr);
	}
}

int main(int argc, char **argv)
{
	unsigned n = argc == 5 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
	double seconds = argc == 5 ? strtod(argv[4], NULL) : 0;
	struct client *clients;

	if (n < 1 || n > MAX_CONNECTIONS || seconds <= 0) {
		fprintf(stderr, "usage: load SOCKET PATH CONNECTIONS SECONDS\n");
		return 2;
	}
	snprintf(question, sizeof(question), "GET %.400s HTTP/1.1\r\nHost: localhost\r\n\r\n",
		 argv[2]);
	clients = calloc(n, sizeof(*clients));
	samples = calloc(MAX_SAMPLES, sizeof(*samples));
	if (!clients || !samples)
		fail("memory");
	run(clients, n, argv[1], (uint64_t)(seconds * 1e9));
	report(seconds);
	return 0;
}
