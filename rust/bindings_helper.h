/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module's own bindgen run reads; see Kbuild for what it takes.
 */

#include <linux/dma-heap.h>
#include <linux/dmabuf_coherency.h>
#include <linux/gfp.h>
#include <linux/vmalloc.h>

#include "helpers.h"

/* Macros that bindgen cannot evaluate by itself. */
const gfp_t DMACOH_GFP_USER = GFP_USER;
const gfp_t DMACOH___GFP_ACCOUNT = __GFP_ACCOUNT;
const gfp_t DMACOH___GFP_COMP = __GFP_COMP;
const gfp_t DMACOH___GFP_NORETRY = __GFP_NORETRY;
const gfp_t DMACOH___GFP_RECLAIM = __GFP_RECLAIM;
const gfp_t DMACOH___GFP_RETRY_MAYFAIL = __GFP_RETRY_MAYFAIL;
