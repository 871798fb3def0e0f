/*
 * Allocators of the program's own: a static pool that takes its chunks from
 * malloc, one that stores the block through a pointer, one that counts
 * elements, one that reallocates; and mappings that are cut.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct pool {
	char *next, *end;
};

static void *volatile kept[64];

/* The pool is the first argument, the size the second. */
__attribute__((noinline)) static void *pool_alloc(struct pool *pool, size_t size)
{
	size = (size + 15) & ~(size_t)15;
	if ((size_t)(pool->end - pool->next) < size) {
		pool->next = malloc(4096); /* line: chunk */
		pool->end = pool->next + 4096;
	}
	pool->next += size;
	return pool->next - size;
}

__attribute__((noinline)) static void pool_free(struct pool *pool, void *block)
{
	if (block && (char *)block < pool->next)
		memset(block, 0, 1);
}

__attribute__((noinline)) static int store_block(void **place, int unused, size_t size)
{
	*place = malloc(size + (size_t)unused);
	return *place ? 0 : 12;
}

__attribute__((noinline)) static void *count_blocks(size_t count, size_t size)
{
	return calloc(count, size);
}

__attribute__((noinline)) static void *resize_block(void *block, size_t size)
{
	return realloc(block, size);
}

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("" : : : "memory");
}

int main(void)
{
	struct pool pool = {NULL, NULL};
	void *block;
	char *pages;
	int i;

	checkpoint();
	for (i = 0; i < 20; i++)
		kept[i] = pool_alloc(&pool, 100); /* line: pool */
	for (i = 0; i < 5; i++)
		pool_free(&pool, kept[i]);
	if (store_block(&block, 0, 777)) /* line: store */
		return 1;
	kept[20] = block;
	kept[21] = count_blocks(3, 50);                                           /* line: count */
	kept[21] = resize_block(kept[21], 1000);                                  /* line: resize */
	pages = mmap(NULL, 40960, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* line: map */
	munmap(pages + 2 * 4096, 3 * 4096); /* the middle goes: 2 and 5 pages stay */
	checkpoint();
	munmap(pages, 3 * 4096); /* with a page that is no more */
	pages = mremap(pages + 5 * 4096, 5 * 4096, 8 * 4096, MREMAP_MAYMOVE); /* line: remap */
	pool_free(&pool, kept[5]);
	free(kept[21]);
	checkpoint();
	puts(pages == MAP_FAILED ? "failed" : "done");
	return 0;
}
