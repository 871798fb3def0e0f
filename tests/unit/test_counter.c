/*
 * The counters of traced bytes against plain sums: exact for one thread at every
 * moment, and for several to what tm_layout.h allows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "counter.h"

struct tm_header tm_header;

#define THREADS 3u

static struct tm_counter counters[THREADS];

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static int64_t sum_of(const struct tm_generation *generation)
{
	int64_t sum = generation->current;
	uint32_t i;

	for (i = 0; i < THREADS; i++)
		sum += tm_counter_delta(&counters[i]);
	return sum;
}

/* A step of some size, up or down; most are small ones. */
static int64_t step(struct tm_generation *generation, uint32_t thread, bool up)
{
	uint64_t random = next_random();
	int64_t size = (int64_t)(random >> 40) % (random & 31 ? 300 : 32767);

	if (random % 509 == 0)
		size <<= 20;
	if (size > 32766)
		counter_add(generation, thread, up ? size : -size);
	else if (up ? counter_fills(&counters[thread], (uint64_t)size) &&
				 counter_overflows(&counters[thread])
		    : counter_empties(&counters[thread], (uint64_t)size))
		counter_add(generation, thread, 0);
	return up ? size : -size;
}

static struct tm_generation begin(void)
{
	uint32_t i;

	for (i = 0; i < THREADS; i++)
		counters[i] = (struct tm_counter){0};
	return (struct tm_generation){.counters = (uint64_t)counters};
}

/* Long ways up, long ways down, and to and fro. */
static bool goes_up(uint32_t turn)
{
	uint32_t part = turn / 5000 % 3;

	return next_random() % 8 < (part == 0 ? 7u : part == 1 ? 1u : 4u);
}

static void is_exact_for_one_thread(void **state)
{
	struct tm_generation generation = begin();
	int64_t current = 0, peak = 0;
	uint32_t turn;

	(void)state;
	for (turn = 0; turn < 300000; turn++) {
		int64_t told;

		current += step(&generation, 1, goes_up(turn));
		if (current > peak)
			peak = current;
		told = generation.current + tm_counter_highest(&counters[1]);
		if (generation.peak > told)
			told = generation.peak;
		assert_int_equal(sum_of(&generation), current);
		assert_int_equal(told, peak);
	}
}

static void peak_of_many_threads_is_near(void **state)
{
	const int64_t error = (int64_t)THREADS * (TM_COUNTER_BATCH + 32768);
	struct tm_generation generation = begin();
	int64_t current = 0, peak = 0;
	uint32_t turn;

	(void)state;
	for (turn = 0; turn < 300000; turn++) {
		current += step(&generation, (uint32_t)next_random() % THREADS, goes_up(turn));
		if (current > peak)
			peak = current;
		assert_int_equal(sum_of(&generation), current);
		assert_in_range(generation.peak - peak + error, 0, 2 * error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_exact_for_one_thread),
		cmocka_unit_test(peak_of_many_threads_is_near),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
