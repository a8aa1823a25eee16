// SPDX-License-Identifier: GPL-2.0
/*
 * C helpers for the Rust code, most of them wrappers of inline functions and
 * macros, which Rust cannot call. There is one file for each subsystem, as in
 * the kernel's rust/helpers. All files are compiled into one object.
 */

#include "cma.c"
#include "dma_buf.c"
#include "dma_mapping.c"
#include "dmem.c"
#include "extent.c"
#include "holders.c"
#include "kmemleak.c"
#include "kthread.c"
#include "memcontrol.c"
#include "mm.c"
#include "module.c"
#include "node.c"
#include "page.c"
#include "scatterlist.c"
#include "shrinker.c"
#include "signal.c"
#include "sysfs.c"
#include "vmalloc.c"
