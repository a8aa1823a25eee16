// SPDX-License-Identifier: GPL-2.0
/*
 * Notes which of the module's code has run, in any context. Part of the module
 * only if it is built with COVERAGE=1: the compilers then call
 * __sanitizer_cov_trace_pc() in each basic block. That is otherwise a function
 * of kcov, which knows what one task has run, and so neither work queues nor
 * what is done when the last reference to a file is dropped.
 */

#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sysfs.h>

#include "coverage.h"

/* How far from the function below the module's code can be, in bytes. */
#define REACH (1L << 20)

/* One for each address, by its distance. */
static u8 reached[2 * REACH];

notrace void __sanitizer_cov_trace_pc(void)
{
	long at = _RET_IP_ - (unsigned long)__sanitizer_cov_trace_pc + REACH;

	if (at >= 0 && at < 2 * REACH)
		WRITE_ONCE(reached[at], 1);
}

/* Which one reading begins with. */
static long next;

/* Each time it is read it goes on: an empty line is the end. */
static int reached_get(char *buffer, const struct kernel_param *param)
{
	int len = 0;

	for (; next < 2 * REACH && len < PAGE_SIZE - 16; next++) {
		if (READ_ONCE(reached[next]))
			len += sysfs_emit_at(buffer, len, "%ld\n", next - REACH);
	}
	return len ?: sysfs_emit(buffer, "\n");
}

/* Whatever is written: from the beginning. Some test may have read it before. */
static int reached_set(const char *text, const struct kernel_param *param)
{
	next = 0;
	return 0;
}

static const struct kernel_param_ops reached_ops = {
	.set = reached_set,
	.get = reached_get,
};
module_param_cb(reached, &reached_ops, NULL, 0600);
