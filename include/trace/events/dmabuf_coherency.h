/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dmabuf_coherency

#if !defined(_TRACE_DMABUF_COHERENCY_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DMABUF_COHERENCY_H

#include <linux/device.h>
#include <linux/tracepoint.h>

/*
 * A device has asked to attach to a buffer of @heap. @error is the answer: 0 or
 * a negative errno. There is another event if a device is refused when it asks
 * for a mapping, after it has attached.
 */
TRACE_EVENT(dmabuf_coherency_attach,

	TP_PROTO(const char *heap, struct device *dev, bool snoops, int error),

	TP_ARGS(heap, dev, snoops, error),

	TP_STRUCT__entry(
		__string(heap, heap)
		__string(device, dev_name(dev))
		__string(driver, dev_driver_string(dev))
		__field(bool, snoops)
		__field(int, error)
	),

	TP_fast_assign(
		__assign_str(heap);
		__assign_str(device);
		__assign_str(driver);
		__entry->snoops = snoops;
		__entry->error = error;
	),

	TP_printk("heap=%s device=%s driver=%s snoops=%d error=%d",
		  __get_str(heap), __get_str(device), __get_str(driver),
		  __entry->snoops, __entry->error)
);

#endif /* _TRACE_DMABUF_COHERENCY_H */

/* This part must be outside the protection above. */
#include <trace/define_trace.h>
