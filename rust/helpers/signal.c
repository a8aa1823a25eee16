// SPDX-License-Identifier: GPL-2.0

#include <linux/sched/signal.h>

#include "helpers.h"

bool dmacoh_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}
