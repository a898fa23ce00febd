/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event monitor: every event of the log written to a file, FIFO or socket as indented JSON with
 * an empty line behind it (the format of `--event-monitor`).
 *
 * Theory of operation
 *
 * The monitor is a reader of the event log with a cursor of its own. Each event is one write(2).
 * When the other end is full, the monitor waits for it to become writable while the log goes on;
 * what then has left the ring is lost in whole events, counted and logged. An event that was
 * written in part (a socket, a full disk) is finished before the next one starts, so the framing
 * never tears. When nobody has the FIFO open for reading, events are dropped; whoever opens it
 * later gets the following ones. The descriptor stays open until event_monitor_free(): some readers
 * take the hang-up as the end of the VMM.
 *
 * Main thread only. The process must ignore SIGPIPE.
 */
#ifndef SHIM_EVENT_MONITOR_H
#define SHIM_EVENT_MONITOR_H

#include "base/err.h"

struct event_log;
struct event_monitor;
struct loop;

/*
 * Opens `path` for writing, created (0600) or truncated. A FIFO is waited for until somebody reads
 * it: call this before the API serves. Returns the fd, owned by the caller, or negative errno with
 * err.
 */
int event_monitor_open(const char *path, struct err *err);

/*
 * Starts writing all events of `log`, those already in it included, to `fd` (taken over, also on
 * failure; made non-blocking). `loop` and `log` must outlive the monitor. Returns 0 or negative
 * errno with err.
 */
int event_monitor_new(struct loop *loop, struct event_log *log, int fd,
		      struct event_monitor **ret_monitor, struct err *err);

/* Makes a last attempt, without waiting, to write what is due, and closes. NULL is fine. */
void event_monitor_free(struct event_monitor *monitor);

#endif
