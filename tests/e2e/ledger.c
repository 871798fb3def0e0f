/*
 * Keeps its own list of live blocks over many threads and random operations, so
 * that a debugger can compare it with the trace table at any instant.
 *
 * Before an operation its thread writes what it is about to do into its
 * `flight`, and clears it after the list is up to date.  A block that no flight
 * names is certain: the table must hold it exactly.  May use libc and pthread;
 * must never allocate between `ready` and the end but through SITE().
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 8
#define PARTITIONS 16
#define RECORDS 2048 /* in each partition */
#define DEEPEST 30

struct record {
	uint64_t address; /* 0: no block; written by the holder of the partition */
	uint64_t size;
	uint32_t line;  /* of the call */
	uint32_t depth; /* calls of descend_* above it */
};

struct flight {
	uint64_t active;   /* 1 between `began` and `landed` */
	uint64_t record;   /* index into records of the block concerned */
	uint64_t releases; /* 1: the old block may go; 0: only a new one may come */
	struct record before;
	struct record after; /* address unknown: 0 */
};

struct record records[PARTITIONS * RECORDS];
struct flight flights[THREADS];
uint64_t operations[THREADS];
uint64_t wanted;     /* operations of each thread, at least */
volatile int go;     /* set by the debugger: begin */
volatile int leave;  /* set by the debugger: finish when `wanted` are done */
volatile int paused; /* threads that finished */
static int partition_locks[PARTITIONS];
static pthread_barrier_t gate;
static int failures;

static inline void barrier(void)
{
	__asm__ volatile("" ::: "memory");
}

static inline void began(struct flight *f)
{
	barrier();
	f->active = 1;
	barrier();
}

static inline void landed(struct flight *f)
{
	barrier();
	f->active = 0;
	barrier();
}

/* The line of the call, the flight and the call itself stand on one line. */
#define SITE(f, call) ((f)->after.line = __LINE__, began(f), call)

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void mark(void *block, size_t size)
{
	if (size >= 1) {
		((unsigned char *)block)[0] = (unsigned char)((uintptr_t)block >> 4);
		((unsigned char *)block)[size - 1] = (unsigned char)((uintptr_t)block >> 4);
	}
}

static void check(const void *block, uintptr_t was, size_t size, int whole)
{
	const unsigned char *bytes = block;

	if (size >= 1 && (bytes[0] != (unsigned char)(was >> 4) ||
			  (whole && bytes[size - 1] != (unsigned char)(was >> 4))))
		__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
}

static size_t random_size(uint64_t *random)
{
	uint64_t kind = next_random(random) % 100;

	if (kind < 2)
		return 0;
	if (kind < 80)
		return next_random(random) % 256;
	if (kind < 97)
		return next_random(random) % 4096;
	return next_random(random) % 200000;
}

static void *allocate(struct flight *f, size_t size, uint64_t *random)
{
	size_t alignment = (size_t)16 << next_random(random) % 6;
	void *block = NULL;

	f->after.size = size;
	switch (next_random(random) % 10) {
	case 0:
		return SITE(f, calloc(1, size));
	case 1:
		f->after.size = size / 8 * 8;
		return SITE(f, calloc(size / 8, 8));
	case 2:
		if (SITE(f, posix_memalign(&block, alignment, size)))
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		return block;
	case 3:
		return SITE(f, aligned_alloc(alignment, size));
	case 4:
		return SITE(f, memalign(alignment, size));
	case 5:
		return SITE(f, realloc(NULL, size));
	case 6:
		f->after.size = size / 4 * 4;
		return SITE(f, reallocarray(NULL, size / 4, 4));
	default:
		return SITE(f, malloc(size));
	}
}

static void resize(struct flight *f, struct record *r, size_t size, uint64_t *random)
{
	uintptr_t old = r->address;
	size_t common;
	void *block;

	switch (next_random(random) % 8) {
	case 0: /* fails and keeps the old block */
		f->after = *r;
		began(f);
		block = realloc((void *)old, (size_t)PTRDIFF_MAX + size);
		if (block)
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		return;
	case 1: /* realloc(p, 0) is glibc's free */
		f->after.size = 0;
		f->after.line = 0;
		began(f);
		block = realloc((void *)old, 0);
		if (block)
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		r->address = 0;
		return;
	case 2:
		size = size / 16 * 16 + 16;
		f->after.size = size;
		block = SITE(f, reallocarray((void *)old, size / 16, 16));
		break;
	default:
		size += 1;
		f->after.size = size;
		block = SITE(f, realloc((void *)old, size));
		break;
	}
	common = r->size < size ? r->size : size;
	check(block, old, common, 0);
	mark(block, size);
	r->address = (uintptr_t)block;
	r->size = size;
	r->line = f->after.line;
	r->depth = f->after.depth;
}

__attribute__((noinline)) static void operate(struct flight *f, uint64_t *random, uint32_t depth)
{
	uint32_t partition = next_random(random) % PARTITIONS;
	struct record *r;
	void *block;
	int i;

	while (__atomic_exchange_n(&partition_locks[partition], 1, __ATOMIC_ACQUIRE))
		partition = (partition + 1) % PARTITIONS;
	for (i = 0; i < 4; i++) {
		r = &records[partition * RECORDS + next_random(random) % RECORDS];
		f->record = r - records;
		f->before = *r;
		f->after.depth = depth;
		f->releases = r->address != 0;
		if (!r->address) {
			block = allocate(f, random_size(random), random);
			mark(block, f->after.size);
			r->size = f->after.size;
			r->line = f->after.line;
			r->depth = depth;
			barrier();
			r->address = (uintptr_t)block;
		} else if (next_random(random) % 4 == 0) {
			resize(f, r, random_size(random), random);
		} else {
			check((void *)r->address, r->address, r->size, 1);
			f->after.line = 0;
			began(f);
			free((void *)r->address);
			r->address = 0;
		}
		landed(f);
	}
	__atomic_store_n(&partition_locks[partition], 0, __ATOMIC_RELEASE);
}

static void descend_even(struct flight *f, uint64_t *random, uint32_t depth, uint32_t left);

__attribute__((noinline)) static void descend_odd(struct flight *f, uint64_t *random,
						  uint32_t depth, uint32_t left)
{
	if (left)
		descend_even(f, random, depth, left - 1); /* line: descend_odd */
	else
		operate(f, random, depth); /* line: operate_odd */
	barrier();
}

__attribute__((noinline)) static void descend_even(struct flight *f, uint64_t *random,
						   uint32_t depth, uint32_t left)
{
	char room[depth % 3 * 48 + 16]; /* frames of varying size */

	__asm__ volatile("" : : "r"(room) : "memory");
	if (left)
		descend_odd(f, random, depth, left - 1); /* line: descend_even */
	else
		operate(f, random, depth); /* line: operate_even */
	barrier();
}

__attribute__((noinline)) static void *work(void *argument)
{
	uint64_t index = (uint64_t)(uintptr_t)argument;
	uint64_t random = 88172645463325252ull + index * 7919;
	struct flight *f = &flights[index];
	uint32_t depth;

	pthread_barrier_wait(&gate);
	while (!go)
		usleep(1000);
	while (!leave || operations[index] < wanted) {
		depth = next_random(&random) % DEEPEST;
		descend_even(f, &random, depth, depth); /* line: work */
		operations[index] += 4;
	}
	__atomic_fetch_add(&paused, 1, __ATOMIC_RELEASE);
	while (leave != 2)
		usleep(1000);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	uint64_t i, total = 0;

	wanted = (argc > 1 ? strtoull(argv[1], NULL, 0) : 2000000) / THREADS;
	pthread_barrier_init(&gate, NULL, THREADS + 1);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i);
	pthread_barrier_wait(&gate);
	write(1, "ready\n", 6);
	while (paused < THREADS)
		usleep(1000);
	write(1, "paused\n", 7);
	while (leave != 2)
		usleep(1000);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < PARTITIONS * RECORDS; i++)
		free((void *)records[i].address);
	for (i = 0; i < THREADS; i++)
		total += operations[i];
	printf("%llu operations, %d failures\n", (unsigned long long)total, failures);
	return failures != 0;
}
