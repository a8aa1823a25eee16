// SPDX-License-Identifier: GPL-2.0
#include "buffer.h"

int main(void)
{
	static const char cursor[4096] = "cursor";
	const size_t offset = 8192, length = sizeof(cursor);
	int node = open("/dev/dmabuf_coherency", O_RDONLY | O_CLOEXEC);
	int buffer = allocate();
	char *mapping = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, buffer, 0);

	if (mapping == MAP_FAILED)
		err(1, "mapping");

	/* snippet: sync */
	return strcmp(mapping + offset, cursor);
}
