/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The input of the module's own bindgen run. bindgen.mk lists the items that it
 * generates bindings for.
 */

#include <linux/dma-heap.h>
#include <linux/dmabuf_coherency.h>
#include <linux/gfp.h>
#include <linux/pgtable.h>
#include <linux/shrinker.h>
#include <linux/syscore_ops.h>
#include <linux/vmalloc.h>
#include <uapi/linux/dma-buf.h>
#include <uapi/linux/dmabuf_coherency.h>

#include "../helpers/helpers.h"

/* bindgen cannot evaluate these macros by itself. */
const gfp_t DMACOH_GFP_USER = GFP_USER;
const gfp_t DMACOH___GFP_ACCOUNT = __GFP_ACCOUNT;
const gfp_t DMACOH___GFP_COMP = __GFP_COMP;
const gfp_t DMACOH___GFP_DMA32 = __GFP_DMA32;
const gfp_t DMACOH___GFP_HARDWALL = __GFP_HARDWALL;
const gfp_t DMACOH___GFP_NORETRY = __GFP_NORETRY;
const gfp_t DMACOH___GFP_RECLAIM = __GFP_RECLAIM;
const gfp_t DMACOH___GFP_RETRY_MAYFAIL = __GFP_RETRY_MAYFAIL;
const unsigned int DMACOH_SHRINKER_FLAGS = SHRINKER_MEMCG_AWARE;
const __u64 DMACOH_EXPORTED_HERE = DMABUF_COHERENCY_EXPORTED_HERE;
const __u64 DMACOH_DMA_COHERENT = DMABUF_COHERENCY_DMA_COHERENT;
const __u64 DMACOH_CONTIGUOUS = DMABUF_COHERENCY_CONTIGUOUS;
const __u32 DMACOH_IOCTL_QUERY = DMABUF_COHERENCY_IOCTL_QUERY;
const __u32 DMACOH_IOCTL_SYNC = DMABUF_COHERENCY_IOCTL_SYNC;
const size_t DMACOH_PMD_SIZE = PMD_SIZE;
const size_t DMACOH_PMD_TABLE_SIZE = PTRS_PER_PMD * PMD_SIZE;
