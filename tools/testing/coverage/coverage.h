/* SPDX-License-Identifier: GPL-2.0 */
/* What compilers make each basic block call; see coverage.c. */

void __sanitizer_cov_trace_pc(void);
