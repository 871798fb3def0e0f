/*
 * The micro-benchmark: pairs of free and malloc in a random order over a live
 * set, sizes 16 to 215, 25 calls deep, from four places.
 *
 *	micro THREADS LIVE PAIRS DEPTH [pauses]
 *
 * Prints one line of JSON: nanoseconds a pair of each of five runs, by the clock
 * on the wall and by the processor time of the thread, the
 * resident memory before and after the live set was made.  With `pauses`, for one
 * thread: how long single pairs took from the first on, as a histogram by powers
 * of two of nanoseconds, and each long one with its number.  Uses pthreads alone; must
 * never print before the end, as that allocates.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <mcheck.h>
#endif

#define RUNS 5
#define CLASSES 40 /* of the histogram: powers of two of nanoseconds */
#define MAX_THREADS 256
#define LONG (1u << 15)  /* nanoseconds; such pairs are told one by one … */
#define MAX_LONG 1000000 /* … or it is a failure that there are more */

struct work {
	pthread_t thread;
	void **live;
	long count;
	uint64_t random;
	double wall[RUNS], processor[RUNS]; /* nanoseconds a pair */
	uint64_t histogram[CLASSES];        /* of timed pairs */
	uint64_t timed;
};

/* A timed pair that took long, by its place in the order of all. */
struct long_one {
	uint64_t number, nanoseconds;
};

static long live_count, pairs, depth, threads;
static int pauses;
static long resident_after;
static pthread_barrier_t barrier;
static struct work works[MAX_THREADS];
static struct long_one long_ones[MAX_LONG];
static long long_count;

/* allocator_time.c: nanoseconds so far, where it is preloaded. */
extern uint64_t allocator_nanoseconds __attribute__((weak));

static uint64_t allocator_time(void)
{
	return &allocator_nanoseconds ? allocator_nanoseconds : 0;
}

static uint64_t next_random(struct work *work)
{
	work->random ^= work->random << 13;
	work->random ^= work->random >> 7;
	work->random ^= work->random << 17;
	return work->random;
}

static double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* Read without the C library's streams, which allocate. */
static long resident_bytes(void)
{
	char text[128] = "";
	int file = open("/proc/self/statm", O_RDONLY);
	long pages = 0;
	ssize_t length = read(file, text, sizeof(text) - 1);

	close(file);
	if (length > 0)
		sscanf(text, "%*d %ld", &pages);
	return pages * sysconf(_SC_PAGESIZE);
}

#define PLACE(name)                                              \
	static __attribute__((noinline)) void *name(size_t size) \
	{                                                        \
		void *block = malloc(size);                      \
		__asm__ volatile("" : "+r"(block));              \
		return block;                                    \
	}
PLACE(first_place)
PLACE(second_place)
PLACE(third_place)
PLACE(fourth_place)

static __attribute__((noinline)) void *allocate(uint64_t random)
{
	size_t size = 16 + (random >> 32) % 200;
	void *block;

	switch (random & 3) {
	case 0:
		block = first_place(size);
		break;
	case 1:
		block = second_place(size);
		break;
	case 2:
		block = third_place(size);
		break;
	default:
		block = fourth_place(size);
	}
	__asm__ volatile("" : "+r"(block));
	return block;
}

/* For those who count instructions: always the same work … */
__attribute__((noinline)) void one_pair(void)
{
	void *block = first_place(100);

	free(block);
	__asm__ volatile("");
}

/* … from another place … */
__attribute__((noinline)) void other_pair(void)
{
	void *block = second_place(100);

	free(block);
	__asm__ volatile("");
}

/* … and from one that allocates once. */
__attribute__((noinline)) void fresh_pair(void)
{
	void *block = third_place(100);

	free(block);
	__asm__ volatile("");
}

/* In the order in which steps.py counts them. */
static __attribute__((noinline)) void single_pairs(long calls)
{
	int i;

	if (calls > 0) {
		single_pairs(calls - 1);
	} else {
		/* Not unrolled: another call would be another stack. */
#pragma GCC unroll 1
		for (i = 0; i < 8; i++)
			one_pair();
#pragma GCC unroll 1
		for (i = 0; i < 4; i++) {
			other_pair();
			one_pair();
		}
		fresh_pair();
		one_pair();
	}
	__asm__ volatile("" ::"r"(calls));
}

static __attribute__((noinline)) void some_pairs(struct work *work, long number)
{
	for (; number; number--) {
		uint64_t random = next_random(work);
		void **place = &work->live[random % (uint64_t)work->count];

		free(*place);
		*place = allocate(next_random(work));
	}
}

/* A free and an allocation, less what the allocator itself took of them. */
static void timed_pair(struct work *work, void **place)
{
	uint64_t allocator = allocator_time(), nanoseconds;
	double began = now(CLOCK_MONOTONIC);
	int class;

	free(*place);
	*place = allocate(next_random(work));
	nanoseconds = (uint64_t)(now(CLOCK_MONOTONIC) - began);
	allocator = allocator_time() - allocator;
	nanoseconds -= allocator < nanoseconds ? allocator : nanoseconds;
	class = 63 - __builtin_clzll(nanoseconds | 1);
	work->histogram[class < CLASSES ? class : CLASSES - 1]++;
	if (nanoseconds >= LONG && long_count < MAX_LONG)
		long_ones[long_count++] = (struct long_one){work->timed, nanoseconds};
	work->timed++;
}

static __attribute__((noinline)) void timed_pairs(struct work *work, long number)
{
	long i;

	for (i = 0; i < work->count; i++)
		timed_pair(work, &work->live[i]);
	for (; number; number--)
		timed_pair(work, &work->live[next_random(work) % (uint64_t)work->count]);
}

static __attribute__((noinline)) void deep(struct work *work, long calls, long number)
{
	if (calls > 0)
		deep(work, calls - 1, number);
	else if (pauses)
		timed_pairs(work, number);
	else
		some_pairs(work, number);
	__asm__ volatile("" ::"r"(work), "r"(calls));
}

static __attribute__((noinline)) void fill(struct work *work, long calls)
{
	if (calls > 0)
		fill(work, calls - 1);
	else
		for (long i = 0; i < work->count; i++) {
			work->live[i] = allocate(next_random(work));
			*(volatile char *)work->live[i] = 1; /* as programs do with theirs */
		}
	__asm__ volatile("" ::"r"(work), "r"(calls));
}

/* Where a debugger stops to look at the full live set. */
__attribute__((noinline)) void filled(void)
{
	__asm__ volatile("");
}

static void *run(void *argument)
{
	struct work *work = argument;

	if (pauses) {
		deep(work, depth, pairs);
		return NULL;
	}
	fill(work, depth);
	pthread_barrier_wait(&barrier);
	if (work == works) {
		resident_after = resident_bytes();
		filled();
	}
	pthread_barrier_wait(&barrier);
	deep(work, depth, pairs / 4);
	for (int i = 0; i < RUNS; i++) {
		double wall, processor;

		pthread_barrier_wait(&barrier);
		wall = now(CLOCK_MONOTONIC);
		processor = now(CLOCK_THREAD_CPUTIME_ID);
		deep(work, depth, pairs / RUNS);
		processor = now(CLOCK_THREAD_CPUTIME_ID) - processor;
		wall = now(CLOCK_MONOTONIC) - wall;
		work->processor[i] = processor / (double)(pairs / RUNS);
		work->wall[i] = wall / (double)(pairs / RUNS);
	}
	return NULL;
}

static void print_pauses(void)
{
	long i;

	printf(", \"histogram\": [");
	for (i = 0; i < CLASSES; i++)
		printf("%s%lu", i ? ", " : "", (unsigned long)works[0].histogram[i]);
	printf("], \"threshold\": %u, \"long\": [", LONG);
	for (i = 0; i < long_count; i++)
		printf("%s[%lu, %lu]", i ? ", " : "", (unsigned long)long_ones[i].number,
		       (unsigned long)long_ones[i].nanoseconds);
	printf("]");
}

/* The mean of the threads, for each run. */
static void print_runs(const char *name, size_t offset)
{
	printf(", \"%s\": [", name);
	for (int i = 0; i < RUNS; i++) {
		double sum = 0;

		for (long t = 0; t < threads; t++)
			sum += ((const double *)((const char *)&works[t] + offset))[i];
		printf("%s%.2f", i ? ", " : "", sum / (double)threads);
	}
	printf("]");
}

static void print_results(long before)
{
	printf("{\"before\": %ld, \"after\": %ld", before, resident_after);
	print_runs("wall", offsetof(struct work, wall));
	print_runs("processor", offsetof(struct work, processor));
	if (pauses)
		print_pauses();
	printf("}\n");
}

int main(int count, char **arguments)
{
	long before, i;

	if (count < 5)
		return 2;
	threads = atol(arguments[1]);
	live_count = atol(arguments[2]);
	pairs = atol(arguments[3]);
	depth = atol(arguments[4]);
	pauses = count > 5;
	if (threads < 1 || threads > MAX_THREADS || (pauses && threads > 1))
		return 2;
#ifdef __GLIBC__
	if (getenv("MALLOC_TRACE"))
		mtrace();
#endif
	pthread_barrier_init(&barrier, NULL, (unsigned int)threads);
	for (i = 0; i < threads; i++) {
		size_t size = ((size_t)live_count + 1) * sizeof(void *);

		works[i].count = live_count ? live_count : 1;
		works[i].random = 88172645463325252u + (uint64_t)i * 7919;
		works[i].live = mmap(NULL, size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		memset(works[i].live, 0, size);
	}
	single_pairs(depth);
	before = resident_bytes();
	resident_after = before;
	if (live_count) {
		for (i = 1; i < threads; i++)
			pthread_create(&works[i].thread, NULL, run, &works[i]);
		run(&works[0]);
		for (i = 1; i < threads; i++)
			pthread_join(works[i].thread, NULL);
	}
	print_results(before);
	return long_count == MAX_LONG;
}
