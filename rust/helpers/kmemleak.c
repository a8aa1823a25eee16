// SPDX-License-Identifier: GPL-2.0

#include <linux/kmemleak.h>

#include "helpers.h"

void dmacoh_kmemleak_not_leak(const void *ptr)
{
	kmemleak_not_leak(ptr);
}
