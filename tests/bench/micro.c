/*
 * The micro-benchmark: pairs of free and malloc in a random order over a live
 * set, sizes 16 to 215, 25 calls deep, from four places.
 *
 *	micro THREADS LIVE PAIRS DEPTH [pauses]
 *
 * Prints one line of JSON: nanoseconds a pair of each of five runs, by the clock
 * on the wall and by the processor time of the thread, the
 * resident memory before and after the live set was made; with `pauses` also
 * a histogram of how long single allocations took.  Uses pthreads alone; must
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
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <mcheck.h>
#endif

#define RUNS 5
#define CLASSES 40 /* of the histogram: powers of two of nanoseconds */
#define MAX_THREADS 256

struct work {
	pthread_t thread;
	void **live;
	long count;
	uint64_t random;
	double wall[RUNS], processor[RUNS]; /* nanoseconds a pair */
	uint64_t quiet[CLASSES];            /* allocations by duration … */
	uint64_t preempted[CLASSES]; /* … and those during which the thread lost its processor */
	uint64_t longest;            /* of the quiet ones */
};

static long live_count, pairs, depth, threads;
static int pauses;
static long resident_after;
static pthread_barrier_t barrier;
static struct work works[MAX_THREADS];

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

static long switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw + usage.ru_nivcsw;
}

static void note_pause(struct work *work, uint64_t nanoseconds, long *known_switches)
{
	int class = 63 - __builtin_clzll(nanoseconds | 1);
	int lost = 0;

	if (nanoseconds > 20000) {
		long seen = switches();

		lost = seen != *known_switches;
		*known_switches = seen;
	}
	if (class >= CLASSES)
		class = CLASSES - 1;
	if (lost) {
		work->preempted[class]++;
	} else {
		work->quiet[class]++;
		if (nanoseconds > work->longest)
			work->longest = nanoseconds;
	}
}

static void timed_allocation(struct work *work, void **place, long *known_switches)
{
	double began = now(CLOCK_MONOTONIC);

	*place = allocate(next_random(work));
	note_pause(work, (uint64_t)(now(CLOCK_MONOTONIC) - began), known_switches);
}

static __attribute__((noinline)) void timed_pairs(struct work *work, long number)
{
	long known = switches(), i;

	for (i = 0; i < work->count; i++)
		timed_allocation(work, &work->live[i], &known);
	for (; number; number--) {
		void **place = &work->live[next_random(work) % (uint64_t)work->count];

		free(*place);
		timed_allocation(work, place, &known);
	}
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

static void print_histogram(const char *name, size_t offset)
{
	printf(", \"%s\": [", name);
	for (int class = 0; class < CLASSES; class ++) {
		uint64_t sum = 0;

		for (long i = 0; i < threads; i++)
			sum += ((const uint64_t *)((const char *)&works[i] + offset))[class];
		printf("%s%lu", class ? ", " : "", (unsigned long)sum);
	}
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
	uint64_t longest = 0;

	printf("{\"before\": %ld, \"after\": %ld", before, resident_after);
	print_runs("wall", offsetof(struct work, wall));
	print_runs("processor", offsetof(struct work, processor));
	for (long t = 0; t < threads; t++)
		if (works[t].longest > longest)
			longest = works[t].longest;
	print_histogram("quiet", offsetof(struct work, quiet));
	print_histogram("preempted", offsetof(struct work, preempted));
	printf(", \"longest\": %lu}\n", (unsigned long)longest);
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
	if (threads < 1 || threads > MAX_THREADS)
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
	return 0;
}
