/*
 * Allocates known blocks at known lines and stops in checkpoint(): what the
 * reports must say of it is written in test_reports.py.
 */
#include <stdlib.h>

#define LEAKS 40

void *leaks[LEAKS];
void *table;
char *text;

__attribute__((noinline)) static void checkpoint(void)
{
	__asm__ volatile("" ::: "memory");
}

static inline void *wrapper(size_t size)
{
	return malloc(size); /* inlined */
}

__attribute__((noinline)) static void leak(int from, int to)
{
	for (int i = from; i < to; i++)
		leaks[i] = wrapper(1000); /* leak */
}

int main(void)
{
	checkpoint();
	leak(0, LEAKS / 2);
	table = calloc(10, 100); /* table */
	checkpoint();
	leak(LEAKS / 2, LEAKS);
	free(table);
	text = realloc(NULL, 77); /* text */
	checkpoint();
	return 0;
}
