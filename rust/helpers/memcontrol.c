// SPDX-License-Identifier: GPL-2.0

#include <linux/memcontrol.h>

#include "helpers.h"

bool dmacoh_memcg_disabled(void)
{
	return mem_cgroup_disabled();
}

#ifdef CONFIG_MEMCG
/*
 * Returns the memory cgroup of the current task. The caller must hold the RCU
 * read lock. The task may be moved to another cgroup at any time, and the
 * cgroup may be removed.
 */
static struct mem_cgroup *current_memcg_rcu(void)
{
	return dmacoh_memcg_disabled() ? NULL : mem_cgroup_from_task(current);
}

struct mem_cgroup *dmacoh_current_memcg(void)
{
	struct mem_cgroup *memcg;

	rcu_read_lock();
	do {
		memcg = current_memcg_rcu();
	} while (memcg && !css_tryget(&memcg->css));
	rcu_read_unlock();
	return memcg;
}

void dmacoh_memcg_put(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}

/*
 * Returns an ID of @memcg that no other cgroup ever gets. The ID changes if the
 * memory controller of the cgroup is disabled and enabled again. The ID is 0
 * for NULL and for the root cgroup, which is never charged.
 */
u64 dmacoh_memcg_id(struct mem_cgroup *memcg)
{
	return memcg && !mem_cgroup_is_root(memcg) ?
	       memcg->css.serial_nr : 0;
}

u64 dmacoh_current_memcg_id(void)
{
	u64 id;

	rcu_read_lock();
	id = dmacoh_memcg_id(current_memcg_rcu());
	rcu_read_unlock();
	return id;
}

/*
 * Returns the ID of the cgroup that @page is charged to. While that cgroup is
 * being removed, returns U64_MAX, an ID that no cgroup has. Afterwards, the
 * page is charged to the parent.
 */
u64 dmacoh_page_memcg_id(struct page *page)
{
	struct mem_cgroup *memcg;
	u64 id;

	rcu_read_lock();
	memcg = folio_memcg_check(page_folio(page));
	id = memcg && css_is_dying(&memcg->css) ? U64_MAX :
						  dmacoh_memcg_id(memcg);
	rcu_read_unlock();
	return id;
}
#else
struct mem_cgroup *dmacoh_current_memcg(void)
{
	return NULL;
}

void dmacoh_memcg_put(struct mem_cgroup *memcg)
{
}

u64 dmacoh_memcg_id(struct mem_cgroup *memcg)
{
	return 0;
}

u64 dmacoh_current_memcg_id(void)
{
	return 0;
}

u64 dmacoh_page_memcg_id(struct page *page)
{
	return 0;
}
#endif
