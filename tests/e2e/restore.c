/*
 * Allocates and frees in pairs, round by round; the debugger counts the
 * instructions of a round.  May use libc.
 */
#include <stdio.h>
#include <stdlib.h>

static unsigned long sum;

void round_of_pairs(void);
__attribute__((noinline)) void round_of_pairs(void)
{
	size_t size;
	unsigned char *block;

	for (size = 8; size < 800; size += 160) {
		block = malloc(size);
		block[0] = (unsigned char)size;
		sum += block[0];
		free(block);
		block = calloc(1, size);
		block = realloc(block, size * 2);
		sum += block[size / 2];
		free(block);
	}
}

int main(void)
{
	int i;

	for (i = 0; i < 20; i++)
		round_of_pairs();
	printf("sum %lu\n", sum);
	return 0;
}
