// SPDX-License-Identifier: GPL-2.0

#include <linux/freezer.h>
#include <linux/kthread.h>
#include <linux/sched.h>

#include "helpers.h"

struct task_struct *dmacoh_kthread(int (*run)(void *data), void *data,
				   const char *name)
{
	struct task_struct *task = kthread_create(run, data, "%s", name);

	if (!IS_ERR(task)) {
		set_user_nice(task, MAX_NICE);
		wake_up_process(task);
	}
	return task;
}

void dmacoh_set_freezable(void)
{
	set_freezable();
}

void dmacoh_try_to_freeze(void)
{
	cond_resched();
	try_to_freeze();
}
