// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int use_what_you_used_before(void)
{
	return 1;
}

int main(void)
{
	int video = open("/dev/video0", O_RDWR | O_CLOEXEC);
	int heap;

	/* snippet: links-c */
	return heap < 0;
}
