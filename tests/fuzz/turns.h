/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_TURNS_H
#define TESTS_FUZZ_TURNS_H

struct loop;

/* Lets happen on the loop what is due, in a few turns of it. One loop a process. */
void run_turns(struct loop *loop);

#endif
