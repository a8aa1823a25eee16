// SPDX-License-Identifier: GPL-2.0
#include <linux/platform_device.h>

/* snippet: pieces-function */

int snippet_pieces(struct platform_device *pdev);
int snippet_pieces(struct platform_device *pdev)
{
	int ret;

	/* snippet: pieces-use */
	return 0;
}
