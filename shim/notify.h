/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager how start-up and shutdown go, as sd_notify(3) documents it: a datagram
 * to the socket that NOTIFY_SOCKET names. Without that variable nothing happens. */
#ifndef SHIM_NOTIFY_H
#define SHIM_NOTIFY_H

/* The API is served (or, without an API, the VM runs). */
void notify_ready(void);

/* The process is about to end. */
void notify_stopping(void);

#endif
