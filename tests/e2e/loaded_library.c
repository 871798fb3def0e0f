/* An object with an allocator, under a name that tm knows, and a user of malloc. */
#include <stdlib.h>

static char room[1 << 20];
static size_t used;

__attribute__((noinline)) void *mallocx(size_t size, int flags)
{
	used += (size + 15) & ~(size_t)15;
	return room + used - ((size + 15) & ~(size_t)15) + (flags & 0);
}

void *aligned_alloc_of_its_own(size_t size)
{
	void *block = malloc(size); /* line: malloc */

	__asm__ volatile("" : : "r"(block));
	return block;
}
