/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/turns.h"

#include "base/loop.h"

#define TURNS 5

static unsigned left;

static void on_turn(struct loop_task *task)
{
	/* Once a stop is asked for, the loop looks at nothing more. */
	if (left--)
		loop_post(task->arg, task);
	else
		loop_stop(task->arg);
}

static void run(struct loop *loop, unsigned turns)
{
	static struct loop_task task;

	task.fn = on_turn;
	task.arg = loop;
	left = turns - 1;
	loop_post(loop, &task);
	loop_run(loop);
}

void run_turn(struct loop *loop)
{
	/* Another, for the descriptors that come after the task in the first. */
	run(loop, 2);
}

void run_turns(struct loop *loop)
{
	run(loop, TURNS);
}
