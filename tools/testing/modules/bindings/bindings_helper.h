/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The input of the bindgen run for the test modules: the headers that the
 * abstractions need, and those that the importer needs.
 */

#include "../../../../rust/bindings/bindings_helper.h"
#include "../dmabuf_importer.h"
#include "../dmabuf_importer/helpers.h"

/* bindgen cannot evaluate these macros by itself. */
const u32 IMPORTER_SETUP = DMABUF_IMPORTER_IOC_SETUP;
const u32 IMPORTER_MASK = DMABUF_IMPORTER_IOC_MASK;
const u32 IMPORTER_ATTACH = DMABUF_IMPORTER_IOC_ATTACH;
const u32 IMPORTER_DETACH = DMABUF_IMPORTER_IOC_DETACH;
const u32 IMPORTER_MAP = DMABUF_IMPORTER_IOC_MAP;
const u32 IMPORTER_UNMAP = DMABUF_IMPORTER_IOC_UNMAP;
const u32 IMPORTER_READ = DMABUF_IMPORTER_IOC_READ;
const u32 IMPORTER_WRITE = DMABUF_IMPORTER_IOC_WRITE;
const u32 IMPORTER_VMAP = DMABUF_IMPORTER_IOC_VMAP;
const u32 IMPORTER_VUNMAP = DMABUF_IMPORTER_IOC_VUNMAP;
const u32 IMPORTER_KREAD = DMABUF_IMPORTER_IOC_KREAD;
const u32 IMPORTER_KWRITE = DMABUF_IMPORTER_IOC_KWRITE;
const u32 IMPORTER_BEGIN_CPU_ACCESS = DMABUF_IMPORTER_IOC_BEGIN_CPU_ACCESS;
const u32 IMPORTER_END_CPU_ACCESS = DMABUF_IMPORTER_IOC_END_CPU_ACCESS;
const u32 IMPORTER_QUERY = DMABUF_IMPORTER_IOC_QUERY;
