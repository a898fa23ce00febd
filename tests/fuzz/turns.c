/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/turns.h"

#include "base/loop.h"

#define TURNS 4

static unsigned left;

static void on_turn(struct loop_task *task)
{
	/* Once a stop is asked for, the loop looks at nothing more. */
	if (left--)
		loop_post(task->arg, task);
	else
		loop_stop(task->arg);
}

void run_turns(struct loop *loop)
{
	static struct loop_task task;

	task.fn = on_turn;
	task.arg = loop;
	left = TURNS;
	loop_post(loop, &task);
	loop_run(loop);
}
