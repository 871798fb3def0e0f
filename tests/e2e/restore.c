/*
 * Allocates and frees in pairs, round by round.  Without an argument 20 rounds;
 * with one, that many rounds between counting_begins and counting_ends for each
 * byte on standard input.  May use libc.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

void counting_begins(void);
__attribute__((noinline)) void counting_begins(void)
{
	__asm__ volatile("" ::: "memory");
}

void counting_ends(void);
__attribute__((noinline)) void counting_ends(void)
{
	__asm__ volatile("nop" ::: "memory");
}

int main(int argc, char **argv)
{
	int i, rounds = argc > 1 ? atoi(argv[1]) : 20;
	char byte;

	do {
		if (argc > 1 && read(0, &byte, 1) != 1)
			break;
		counting_begins();
		for (i = 0; i < rounds; i++)
			round_of_pairs();
		counting_ends();
		if (argc > 1)
			write(1, "rounds\n", 7);
	} while (argc > 1);
	printf("sum %lu\n", sum);
	return 0;
}
