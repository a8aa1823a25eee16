// SPDX-License-Identifier: GPL-2.0
#include "cachecheck.h"

void snippet_checked(phys_addr_t phys, u64 len);
void snippet_checked(phys_addr_t phys, u64 len)
{
	/* snippet: checked */
}
