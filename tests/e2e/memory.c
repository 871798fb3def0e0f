/*
 * Allocates until the helper's memory is used up but not its own: blocks come
 * from an arena that was mapped at the start, the limit comes later.
 *
 * Prints what it computed from its blocks, which no lost record may change.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 200000

static unsigned char *kept[BLOCKS];

__attribute__((noinline)) static void fill(int from, int to)
{
	int i;

	for (i = from; i < to; i++) {
		kept[i] = malloc(16 + (size_t)i % 64); /* line: fill */
		if (!kept[i])
			abort();
		kept[i][0] = (unsigned char)i;
	}
}

__attribute__((noinline)) static void empty(int from, int to)
{
	int i;

	for (i = from; i < to; i++) {
		free(kept[i]);
		kept[i] = NULL;
	}
}

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("" : : : "memory");
}

int main(void)
{
	unsigned long sum = 0;
	int i;

	fill(0, BLOCKS); /* malloc has all its memory, and keeps it: free() trims only the top */
	kept[0] = malloc(16);
	empty(0, BLOCKS - 1);
	checkpoint();
	fill(0, BLOCKS / 100);
	checkpoint(); /* here the limit comes */
	fill(BLOCKS / 100, BLOCKS - 1);
	checkpoint();
	for (i = 0; i < BLOCKS; i++)
		sum += kept[i][0];
	empty(0, BLOCKS);
	checkpoint(); /* here it goes */
	fill(0, 1000);
	checkpoint();
	printf("sum %lu\n", sum);
	return 3;
}
