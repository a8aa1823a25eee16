// SPDX-License-Identifier: GPL-2.0
#include <dmaheap.h>
#include <err.h>
#include <unistd.h>

int main(void)
{
	/* snippet: README-c */
	return lseek(fd, 0, SEEK_END) != 8 << 20;
}
