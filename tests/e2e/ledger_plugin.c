/* What ledger.c loads and unloads: one function that allocates.  May use malloc alone. */
#include <stdlib.h>

void *allocate(size_t size);
void *allocate(size_t size)
{
	void *block = malloc(size); /* line: plugin */

	__asm__ volatile("" : : : "memory");
	return block;
}
