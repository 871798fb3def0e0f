/*
 * Keeps a hundred blocks; built dynamic, static, position dependent, stripped,
 * with glibc and with musl.  May use the C library alone.
 */
#include <stdio.h>
#include <stdlib.h>

void *kept[100];

void checkpoint(void);
__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("" ::: "memory");
}

int main(void)
{
	int i;

	checkpoint();
	for (i = 0; i < 100; i++)
		kept[i] = calloc(10, 10); /* line: kept */
	for (i = 0; i < 50; i++)
		free(kept[i]);
	checkpoint();
	puts("done");
	return 0;
}
