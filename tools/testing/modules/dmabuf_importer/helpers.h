/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Prototypes of the C helpers that the Rust code calls. helpers.c includes this
 * file and bindgen reads it, so both sides use the same signatures.
 */
#ifndef _DMABUF_IMPORTER_HELPERS_H
#define _DMABUF_IMPORTER_HELPERS_H

#include <linux/types.h>

struct device;
struct dma_buf;
struct iosys_map;
struct sg_table;

void importer_assign_dma_coherent(struct device *dev, bool snoops);
int importer_dma_read(struct device *dev, dma_addr_t addr, void *to,
		      size_t len);
int importer_dma_write(struct device *dev, dma_addr_t addr, const void *from,
		       size_t len);
void importer_tell(struct device *dev, const struct dma_buf *buf,
		   struct sg_table *table);
int importer_set_offset(struct device *dev, u64 offset);
void importer_measure(struct device *dev, struct sg_table *table, u32 *segments,
		      u32 *crossing, u64 *length, u64 *largest);
void importer_iosys_map_memcpy_from(void *to, const struct iosys_map *from,
				    size_t offset, size_t len);
void importer_iosys_map_memcpy_to(struct iosys_map *to, size_t offset,
				  const void *from, size_t len);
bool importer_is_dma_coherent_from_c(const struct dma_buf *buf);

#endif /* _DMABUF_IMPORTER_HELPERS_H */
