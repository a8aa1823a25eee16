// SPDX-License-Identifier: GPL-2.0

#include <linux/sched/signal.h>

#include "helpers.h"

int dmacoh_fatal_signal_pending(struct task_struct *task)
{
	return fatal_signal_pending(task);
}
