// SPDX-License-Identifier: GPL-2.0

#include <linux/cgroup_dmem.h>

#include "helpers.h"

/*
 * The pointers are void, because the Rust bindings of some kernels lack the
 * types of linux/cgroup_dmem.h.
 */
void *dmacoh_dmem_register(u64 size, const char *name)
{
#ifdef DMACOH_LINUX_7_2
	return dmem_cgroup_register_region(size, "%s", name);
#else
	struct dmem_cgroup_init init = { .size = size };

	return dmem_cgroup_register_region(&init, "%s", name);
#endif
}

void dmacoh_dmem_unregister(void *region)
{
	dmem_cgroup_unregister_region(region);
}

int dmacoh_dmem_charge(void *region, u64 size, void **pool)
{
	struct dmem_cgroup_pool_state *charged;
	int ret = dmem_cgroup_try_charge(region, size, &charged, NULL);

	*pool = charged;
	return ret;
}

void dmacoh_dmem_uncharge(void *pool, u64 size)
{
	dmem_cgroup_uncharge(pool, size);
}
