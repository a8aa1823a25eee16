/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Prototypes of the C helpers that the Rust code calls. The helpers include
 * this file and bindgen reads it, so both sides use the same signatures.
 */
#ifndef _DMABUF_COHERENCY_HELPERS_H
#define _DMABUF_COHERENCY_HELPERS_H

#include <linux/dma-direction.h>
#include <linux/mm_types.h>
#include <linux/pgtable.h>
#include <linux/types.h>

struct attribute;
struct cma;
struct device;
struct dma_buf;
struct iosys_map;
struct kmem_cache;
struct kobject;
struct list_lru;
struct mem_cgroup;
struct module;
struct page;
struct scatterlist;
struct sg_table;
struct shrinker;
struct task_struct;
struct vm_area_struct;
struct vm_fault;
struct vm_operations_struct;

/*
 * The physical addresses of the first and the last byte of some memory, and its
 * size in bytes. There may be other memory in between. All 0 if it is empty.
 */
struct dmacoh_extent {
	u64 first;
	u64 last;
	u64 size;
};

/*
 * What a device node tells about the way in which its driver imports buffers:
 * the parent of its DRM device, the device that does the DMA, and pointers by
 * which the Rust code recognises the helpers that the driver uses. NULL for
 * what the node does not tell.
 */
struct dmacoh_node {
	struct device *dev;
	struct device *dma_dev;
	const struct module *owner;
	const char *driver;
	const void *import;
	const void *import_table;
	const void *mem_ops;
};

bool dmacoh_dev_dma_coherent(const struct device *dev);
bool dmacoh_dev_has_iommu(const struct device *dev);
bool dmacoh_dev_can_bounce(struct device *dev);
bool dmacoh_dev_reaches_all(struct device *dev);
bool dmacoh_dev_reaches(struct device *dev, u64 first, u64 last);
unsigned int dmacoh_address_bits(const struct device *dev);
int dmacoh_fatal_signal_pending(struct task_struct *task);
void *dmacoh_page_address(const struct page *page);
unsigned long dmacoh_page_to_pfn(const struct page *page);
struct page *dmacoh_virt_to_page(const void *addr);
void dmacoh_iosys_map_set_vaddr(struct iosys_map *map, void *vaddr);
int dmacoh_sg_make(struct sg_table *table, struct scatterlist *own,
		   const void *block, size_t stride, unsigned int count);
int dmacoh_dma_buf_wait_fences(struct dma_buf *buf, bool write);
bool dmacoh_sysfs_has(struct kobject *kobj, const char *name);
void dmacoh_sysfs_attr_init(struct attribute *attr);
void dmacoh_kmemleak_not_leak(const void *ptr);
bool dmacoh_drm_node(const struct device *node, struct dmacoh_node *found);
bool dmacoh_video_node(struct device *node, struct dmacoh_node *found);
void dmacoh___module_get(struct module *module);
void dmacoh_module_put(struct module *module);
bool dmacoh_module_uses(const struct module *user, const char *used);
bool dmacoh_module_exists(const char *name);
bool dmacoh_is_function(const void *function, const char *name);
bool dmacoh_within_module(unsigned long addr, const struct module *mod);
void *dmacoh_vmap_pages(struct page **pages, unsigned int count,
			bool write_combining);
pgprot_t dmacoh_pgprot_writecombine(pgprot_t prot);
bool dmacoh_vma_is_private(const struct vm_area_struct *vma);
void dmacoh_vma_set_pfnmap(struct vm_area_struct *vma,
			   const struct vm_operations_struct *ops,
			   const void *data);
vm_fault_t dmacoh_insert_pfn_pmd(const struct vm_fault *vmf, unsigned long addr,
				 unsigned long pfn);
int dmacoh_set_memory_wc(unsigned long addr, int nr_pages);
int dmacoh_set_memory_wb(unsigned long addr, int nr_pages);
struct cma *dmacoh_cma_area(unsigned int index);
struct cma *dmacoh_dev_cma(const struct device *dev);
const char *dmacoh_cma_name(const struct cma *cma);
struct dmacoh_extent dmacoh_cma_extent(struct cma *cma);
struct dmacoh_extent dmacoh_dma32_extent(void);
void *dmacoh_dmem_register(u64 size, const char *name);
void dmacoh_dmem_unregister(void *region);
int dmacoh_dmem_charge(void *region, u64 size, void **pool);
void dmacoh_dmem_uncharge(void *pool, u64 size);
struct page *dmacoh_cma_alloc_pages(struct cma *cma, unsigned long nr_pages);
void dmacoh_cma_release_pages(struct cma *cma, const struct page *page,
			      unsigned long nr_pages);
bool dmacoh_dma_dev_need_sync(const struct device *dev);
unsigned long dmacoh_longest_segment(struct device *dev, size_t size);
unsigned long dmacoh_segment_boundary(struct device *dev);
int dmacoh_clear_coherent(struct device *dev);
int dmacoh_clean(struct device *dev, struct page *page, size_t offset,
		 size_t size);
void dmacoh_clear_pages(void *addr, unsigned int nr_pages);
void dmacoh_page_set_link(struct page *page, struct page *next,
			  unsigned long nr_pages);
struct page *dmacoh_page_take_link(struct page *page, unsigned long *nr_pages);
void dmacoh_mod_reclaimable(struct page *page, long nr_pages);
long dmacoh_available_pages(void);
long dmacoh_available_dma32_pages(void);
unsigned long dmacoh_totalram_pages(void);
struct page *dmacoh_reserved_pages(const char *name, unsigned long *nr_pages);
bool dmacoh_memcg_disabled(void);
struct mem_cgroup *dmacoh_current_memcg(void);
void dmacoh_memcg_put(struct mem_cgroup *memcg);
u64 dmacoh_memcg_id(struct mem_cgroup *memcg);
u64 dmacoh_current_memcg_id(void);
u64 dmacoh_page_memcg_id(struct page *page);
struct kmem_cache *dmacoh_cache_create(const char *name, unsigned int size,
				       unsigned int align);
void *dmacoh_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			     struct mem_cgroup *memcg);
int dmacoh_list_lru_init(struct list_lru *lru, struct shrinker *shrinker);
void dmacoh_account_reclaimed_pages(unsigned long nr_pages);
int dmacoh_next_node(int node);
struct task_struct *dmacoh_kthread(int (*run)(void *data), void *data,
				   const char *name);
void dmacoh_set_freezable(void);
void dmacoh_try_to_freeze(void);
void dmacoh_trace_attach(const char *heap, struct device *dev, bool snoops,
			 int error);

/* Parameters that can be set only when the module is loaded. */
extern bool dmacoh_accounting;
extern u8 dmacoh_pool_percent;

/*
 * Applies the value that the parameter "links" got when the module was loaded.
 */
void dmacoh_apply_links(void);

/* Defined in exports.rs. */
int dmacoh_set_links(const char *text);

#endif /* _DMABUF_COHERENCY_HELPERS_H */
