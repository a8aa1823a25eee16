// SPDX-License-Identifier: GPL-2.0
#include "buffer.h"

int main(void)
{
	int buffer = allocate();

	/* snippet: query */
	return strcmp(query.heap, "system-noncoherent");
}
