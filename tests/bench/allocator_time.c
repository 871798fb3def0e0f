/*
 * Preloaded behind a tracer: the allocator's own time in one thread, which tells
 * what of a pause is the tracer's.  Calls glibc's functions; must not allocate.
 */
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* glibc exports what stands behind its malloc and free. */
void *__libc_malloc(size_t size);
void __libc_free(void *block);

uint64_t allocator_nanoseconds;

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void *malloc(size_t size)
{
	uint64_t began = now();
	void *block = __libc_malloc(size);

	allocator_nanoseconds += now() - began;
	return block;
}

void free(void *block)
{
	uint64_t began = now();

	__libc_free(block);
	allocator_nanoseconds += now() - began;
}
