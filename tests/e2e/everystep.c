/*
 * Calls of allocator functions, one in each function, for a debugger that takes them step by
 * step and sends signals on the way: SIGUSR1 to a handler that only counts, SIGUSR2 to one
 * that allocates.
 */
#include <signal.h>
#include <stdlib.h>

void *kept;
int delivered;

static void count(int number)
{
	(void)number;
	delivered++;
}

static void allocate(int number)
{
	void *volatile block = malloc(24);

	free(block);
	count(number);
}

#define STEP __attribute__((noinline)) static void
#define HERE __asm__ volatile("" : : : "memory")

STEP step_malloc(void)
{
	kept = malloc(100);
	HERE;
}

STEP step_free(void)
{
	free(kept);
	HERE;
}

STEP step_calloc(void)
{
	kept = calloc(5, 40);
	HERE;
}

STEP step_realloc(void)
{
	kept = realloc(kept, 150);
	HERE;
}

STEP step_memalign(void)
{
	if (posix_memalign(&kept, 64, 128))
		abort();
	HERE;
}

/* An allocator of the program's own. */
static char pool[1 << 20] __attribute__((aligned(16)));
static size_t used;

__attribute__((noinline)) void *pool_alloc(size_t size)
{
	used += (size + 15) & ~(size_t)15;
	HERE;
	return pool + used - ((size + 15) & ~(size_t)15);
}

__attribute__((noinline)) void pool_free(void *block)
{
	used = (size_t)((char *)block - pool);
	HERE;
}

STEP step_pool_alloc(void)
{
	kept = pool_alloc(100);
	HERE;
}

STEP step_pool_free(void)
{
	pool_free(kept);
	HERE;
}

__attribute__((noinline)) void checkpoint(void)
{
	HERE;
}

int main(void)
{
	int turn;

	signal(SIGUSR1, count);
	signal(SIGUSR2, allocate);
	for (turn = 0; turn < 100; turn++) {
		step_malloc();
		step_free();
		step_calloc();
		step_realloc();
		step_free();
		step_memalign();
		step_free();
		step_pool_alloc();
		step_pool_free();
		checkpoint();
	}
	return 0;
}
