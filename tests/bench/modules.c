/*
 * Pairs of malloc and free whose stacks pass through many shared objects:
 *
 *	modules FOLDER COUNT PAIRS DEPTH [first]
 *
 * Loads FOLDER/0.so to FOLDER/COUNT-1.so, all built of module.c, and calls
 * through DEPTH of them, beginning with another one for each pair, before it
 * allocates.  1,000 live blocks.  Prints the same JSON as the micro-benchmark,
 * as far as it goes; with `first` the nanoseconds of processor time that the
 * first pair through each object took, made as soon as that was loaded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RUNS 5
#define LIVE 1000
#define MAX_MODULES 4096

typedef void pass_on_function(void *const *next, long calls);

static void *passes[MAX_MODULES * 2]; /* twice over, so that a chain never ends */
static void *live[LIVE];
static double first_pairs[MAX_MODULES];
static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* The end of a chain, called by the last module. */
__attribute__((noinline)) void one_pair(void)
{
	uint64_t random = next_random();
	void **place = &live[random % LIVE];

	free(*place);
	*place = malloc(16 + (random >> 32) % 200);
	__asm__ volatile("");
}

static double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void some_pairs(long count, long pairs, long depth)
{
	for (; pairs; pairs--) {
		void *const *first = &passes[next_random() % (uint64_t)count];

		((pass_on_function *)first[0])(first, depth);
	}
}

int main(int argument_count, char **arguments)
{
	double wall[RUNS], processor[RUNS];
	bool first = argument_count == 6;
	long count, pairs, depth, i;

	if (argument_count != 5 && !first)
		return 2;
	count = atol(arguments[2]);
	pairs = atol(arguments[3]);
	depth = atol(arguments[4]);
	if (count < 1 || count > MAX_MODULES || depth > MAX_MODULES)
		return 2;
	for (i = 0; i < count; i++) {
		char path[4096];
		void (**end)(void);
		void *module;

		snprintf(path, sizeof(path), "%s/%ld.so", arguments[1], i);
		module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		end = module ? (void (**)(void))dlsym(module, "chain_end") : NULL;
		if (!end) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		*end = one_pair;
		passes[i] = dlsym(module, "pass_on");
		if (first) {
			first_pairs[i] = now(CLOCK_THREAD_CPUTIME_ID);
			((pass_on_function *)passes[i])(NULL, 1);
			first_pairs[i] = now(CLOCK_THREAD_CPUTIME_ID) - first_pairs[i];
		}
	}
	if (first) {
		for (i = 0; i < count; i++)
			printf("%s%.0f", i ? ", " : "{\"first\": [", first_pairs[i]);
		printf("]}\n");
		return 0;
	}
	for (; i < MAX_MODULES * 2; i++)
		passes[i] = passes[i - count];
	some_pairs(count, pairs / 4, depth);
	for (i = 0; i < RUNS; i++) {
		wall[i] = now(CLOCK_MONOTONIC);
		processor[i] = now(CLOCK_THREAD_CPUTIME_ID);
		some_pairs(count, pairs / RUNS, depth);
		processor[i] =
			(now(CLOCK_THREAD_CPUTIME_ID) - processor[i]) / (double)(pairs / RUNS);
		wall[i] = (now(CLOCK_MONOTONIC) - wall[i]) / (double)(pairs / RUNS);
	}
	printf("{\"wall\": [%f, %f, %f, %f, %f], ", wall[0], wall[1], wall[2], wall[3], wall[4]);
	printf("\"processor\": [%f, %f, %f, %f, %f]}\n", processor[0], processor[1], processor[2],
	       processor[3], processor[4]);
	return 0;
}
