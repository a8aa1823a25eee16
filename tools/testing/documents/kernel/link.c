// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>
#include <linux/platform_device.h>

/* snippet: link-functions */

int snippet_link(struct platform_device *pdev);
int snippet_link(struct platform_device *pdev)
{
	int ret;

	/* snippet: link-use */
	return 0;
}

MODULE_DESCRIPTION("What the driver guide shows");
MODULE_LICENSE("GPL");
