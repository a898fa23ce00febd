/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_TURNS_H
#define TESTS_FUZZ_TURNS_H

struct loop;

/* Lets happen on the loop what is due, in one turn of it, or in a few: what one brings forth has
 * the next. Not from inside one. */
void run_turn(struct loop *loop);
void run_turns(struct loop *loop);

#endif
