/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest on arm64 tells the checker of cache maintenance, by an instruction
 * that does nothing where there is no checker. Any driver can do so, in-tree or
 * not: it needs nothing but this file. See Documentation/cachecheck.rst.
 */
#ifndef _CACHECHECK_H
#define _CACHECHECK_H

#include <linux/types.h>

/* What is told, in x0; the rest is in x1 to x4. */
#define CACHECHECK_DMA		0
#define CACHECHECK_DMA_END	1
#define CACHECHECK_BUFFER	2

/* Of a device's access, in x3. */
#define CACHECHECK_WRITES	1
#define CACHECHECK_SNOOPS	2

static inline void cachecheck_call(u64 call, phys_addr_t phys, u64 len, u64 arg,
				   u64 offset)
{
#ifdef CONFIG_ARM64
	register u64 x0 asm("x0") = call;
	register u64 x1 asm("x1") = phys;
	register u64 x2 asm("x2") = len;
	register u64 x3 asm("x3") = arg;
	register u64 x4 asm("x4") = offset;

	asm volatile("hint #127"
		     : : "r" (x0), "r" (x1), "r" (x2), "r" (x3), "r" (x4)
		     : "memory");
#endif
}

/*
 * A device reads memory, or writes it. Until cachecheck_dma_end() the CPU stands in
 * for it: accesses to that memory are the device's. Nobody else may use the CPU
 * meanwhile.
 */
static inline void cachecheck_dma(phys_addr_t phys, u64 len, unsigned int flags)
{
	cachecheck_call(CACHECHECK_DMA, phys, len, flags, 0);
}

static inline void cachecheck_dma_end(void)
{
	cachecheck_call(CACHECHECK_DMA_END, 0, 0, 0, 0);
}

/* Memory is a part of a buffer, from @offset on: reports are to say so. */
static inline void cachecheck_buffer(phys_addr_t phys, u64 len, const char *name,
				     u64 offset)
{
	cachecheck_call(CACHECHECK_BUFFER, phys, len, (u64)(uintptr_t)name,
			offset);
}

#endif /* _CACHECHECK_H */
