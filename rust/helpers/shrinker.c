// SPDX-License-Identifier: GPL-2.0

#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include "helpers.h"

struct kmem_cache *dmacoh_cache_create(const char *name, unsigned int size,
				       unsigned int align)
{
	return kmem_cache_create(name, size, align, SLAB_NO_MERGE, NULL);
}

/*
 * Allocates an object and charges it to @memcg. This also prepares @lru for
 * that cgroup. If @memcg is NULL, the object is not charged.
 */
void *dmacoh_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			     struct mem_cgroup *memcg)
{
	struct mem_cgroup *old = set_active_memcg(memcg);
	gfp_t gfp = memcg ? GFP_KERNEL_ACCOUNT : GFP_KERNEL;
	void *object = kmem_cache_alloc_lru(cache, lru, gfp | __GFP_NOWARN);

	set_active_memcg(old);
	return object;
}

int dmacoh_list_lru_init(struct list_lru *lru, struct shrinker *shrinker)
{
	memset(lru, 0, sizeof(*lru));
	return list_lru_init_memcg(lru, shrinker);
}

/* Tells the kernel how many pages the current task has freed during reclaim. */
void dmacoh_account_reclaimed_pages(unsigned long nr_pages)
{
	mm_account_reclaimed_pages(nr_pages);
}

/* Returns the next possible NUMA node after @node, -1 after the last one. */
int dmacoh_next_node(int node)
{
	node = next_node(node, node_possible_map);
	return node < MAX_NUMNODES ? node : -1;
}
