/* SPDX-License-Identifier: Apache-2.0 */
/* The lists behind the sandbox: which thread role may make which system call, and why. */
#ifndef SHIM_SANDBOX_RULES_H
#define SHIM_SANDBOX_RULES_H

#include "base/thread.h"

/* Sets of thread roles. */
#define ROLE(role)  (1u << (role))
#define ROLES_NONE  0u
#define ROLES_VCPU  ROLE(THREAD_VCPU)
#define ROLES_DISK  ROLE(THREAD_DISK)
#define ROLES_WORK  ROLE(THREAD_WORKER)
#define ROLES_IO    (ROLE(THREAD_DISK) | ROLE(THREAD_NET) | ROLE(THREAD_VIRTIO))
#define ROLES_GUEST (ROLES_IO | ROLES_VCPU)
#define ROLES_ALL   (ROLES_GUEST | ROLES_WORK)

/* How an argument of a system call is narrowed down; the others are free. */
enum sandbox_match {
	MATCH_ANY,  /* arguments do not matter */
	MATCH_ARG,  /* (arg & mask) == value */
	MATCH_SELF, /* arg == our pid */
};

/*
 * One permission. A call that appears with conditions is allowed when any of its rules matches.
 * Main and workers have the rules of all roles that they start, since those inherit their filters.
 */
struct sandbox_rule {
	int nr;		    /* system call, as SCMP_SYS() gives it */
	unsigned roles;	    /* ROLES_*, besides main */
	const char *reason; /* what it is for */
	enum sandbox_match match;
	uint8_t arg;
	uint64_t mask;
	uint64_t value;
};

/* An ioctl(2) permission: the request is compared as the 32 bits that the kernel looks at. */
struct sandbox_ioctl {
	uint32_t request;
	unsigned roles;
	const char *reason;
};

extern const struct sandbox_rule sandbox_rules[];
extern const size_t sandbox_num_rules;
extern const struct sandbox_ioctl sandbox_ioctls[];
extern const size_t sandbox_num_ioctls;

#endif
