/*
 * Counts the bytes that it asks for, and the most it ever held: what
 * get_traced_memory() must say, to the byte.  Stops in checkpoint() between its
 * acts; test_tracemalloc.py tells what is looked at in each.
 */
#include <stdlib.h>
#include <string.h>

#define BLOCKS 250
#define MANY 200000

struct block {
	char *address;
	size_t size;
};

struct block blocks[BLOCKS];
struct block many[MANY];
size_t held, peak; /* bytes */

__attribute__((noinline)) static void checkpoint(void)
{
	__asm__ volatile("" ::: "memory");
}

static void count(size_t less, size_t more)
{
	held = held - less + more;
	if (held > peak)
		peak = held;
}

__attribute__((noinline)) static void allocate(struct block *block, size_t size)
{
	block->address = malloc(size);
	block->size = size;
	count(0, size);
}

__attribute__((noinline)) static void release(struct block *block)
{
	free(block->address);
	count(block->size, 0);
	*block = (struct block){NULL, 0};
}

__attribute__((noinline)) static void resize(struct block *block, size_t size)
{
	block->address = realloc(block->address, size);
	count(block->size, size);
	block->size = size;
}

/* Allocates `depth` calls further down. */
__attribute__((noinline)) static void descend(int depth, struct block *block, size_t size)
{
	if (depth)
		descend(depth - 1, block, size);
	else
		allocate(block, size);
	__asm__ volatile("" ::: "memory"); /* no jump instead of a call */
}

__attribute__((noinline)) static void other_ways(struct block *block)
{
	void *aligned = NULL;

	release(&block[0]);
	block[0] = (struct block){calloc(7, 33), 7 * 33};
	count(0, block[0].size);
	release(&block[1]);
	if (posix_memalign(&aligned, 256, 1001))
		abort();
	block[1] = (struct block){aligned, 1001};
	count(0, block[1].size);
	release(&block[2]);
	allocate(&block[2], 0);
	resize(&block[3], 70000);
	resize(&block[3], 3);
	resize(&block[4], 4 << 20);
}

static void for_a_while(size_t size)
{
	struct block block;

	allocate(&block, size);
	release(&block);
}

int main(void)
{
	checkpoint(); /* nothing yet */
	for (int i = 0; i < BLOCKS; i++)
		descend(i, &blocks[i], 100 + 7 * (size_t)i);
	for_a_while(1 << 20);
	other_ways(blocks);
	for_a_while(12345);
	checkpoint(); /* held and peak are known */
	for_a_while(54321);
	release(&blocks[4]);
	checkpoint(); /* the peak was reset before */
	for (int i = 5; i < 100; i++)
		free(blocks[i].address); /* forgotten: not counted */
	for (int i = 5; i < 100; i++)
		descend(i, &blocks[i], 30);
	checkpoint(); /* the traces were cleared before */
	for (int i = 0; i < MANY; i++)
		allocate(&many[i], 1 + i % 50);
	checkpoint(); /* many blocks */
	for (int i = 0; i < MANY; i++)
		release(&many[i]);
	checkpoint(); /* few blocks again */
	return 0;
}
