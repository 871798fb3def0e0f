/*
 * links: helper/sample.c helper/arena.c helper/thread.c helper/segment.c
 *
 * Sampling: the gaps are exponential, a block is recorded with its chance, and
 * what it stands for is right, beside the C library's logarithm and exponential.
 * All seeds are fixed, so that what holds once holds always.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "helper_stubs.h"
#include "route.h"
#include "sample.h"

uint32_t tm_routed;

void tm_route_all(void)
{
}

static const uint64_t periods[] = {TM_SAMPLE_MIN, 4096, 524288, 1000003, TM_SAMPLE_MAX};

static double chance(double size, double period)
{
	return -expm1(-size / period);
}

/* ---- what a block stands for ------------------------------------------------ */

static void test_a_block_stands_for_its_size_divided_by_its_chance(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(periods) / sizeof(*periods); i++) {
		uint64_t period = periods[i], size = 1;

		while (size < 64 * period) {
			double wanted = (double)size / chance((double)size, (double)period);
			double found = (double)tm_sample_bytes(size, period);

			if (fabs(found - wanted) > 1 + wanted * 1e-9)
				fail_msg("%llu of %llu: %.3f, not %.3f", (unsigned long long)size,
					 (unsigned long long)period, found, wanted);
			size += size / 37 + 1;
		}
	}
}

static void test_the_two_ways_to_reckon_it_meet(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(periods) / sizeof(*periods); i++) {
		uint64_t period = periods[i];

		for (uint64_t size = period / 16 - 2; size < period / 16 + 2; size++) {
			double step = (double)tm_sample_bytes(size + 1, period) -
				      (double)tm_sample_bytes(size, period);

			/* half a byte, rounded, and the fifth term of the series */
			assert_true(step >= -1e-11 * (double)period);
			assert_true(step <= 1 + 1e-11 * (double)period);
		}
	}
}

static void test_without_a_period_a_block_is_what_it_is(void **state)
{
	(void)state;
	assert_int_equal(tm_sample_bytes(123, 0), 123);
	assert_int_equal(tm_sample_bytes(0, 4096), 0);
	assert_int_equal(tm_sample_bytes(TM_MAX_SIZE, 4096), TM_MAX_SIZE);
	assert_int_equal(tm_sample_bytes(TM_MAX_SIZE, TM_SAMPLE_MAX), TM_MAX_SIZE);
}

static void test_division_is_the_compilers(void **state)
{
	uint64_t random = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t divisor = (sample_random(&random) >> (sample_random(&random) & 63)) | 1;
		unsigned __int128 dividend =
			(unsigned __int128)(sample_random(&random) % divisor) * divisor;

		dividend += sample_random(&random) % divisor;
		assert_true(tm_sample_divide(dividend, divisor) ==
			    (uint64_t)((dividend + divisor / 2) / divisor));
	}
}

/* ---- the gaps --------------------------------------------------------------- */

static void test_a_gap_is_the_logarithm(void **state)
{
	uint64_t random = 7;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		/* small numbers too: of them come the long gaps */
		uint64_t number = sample_random(&random) >> (i % 64);
		uint64_t period = periods[i % 5];
		double u = ldexp((double)number + 1, -64);
		double wanted = -log(u) * (double)period;
		double found = (double)sample_gap(number, period);

		assert_true(fabs(found - wanted) <= 1 + (double)period * ldexp(1, -38));
	}
	assert_int_equal(sample_gap(UINT64_MAX, TM_SAMPLE_MAX), 0);
	assert_true(sample_gap(0, TM_SAMPLE_MAX) < 45 * TM_SAMPLE_MAX);
}

#define GAPS 200000

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

/* Mean, variance, and the largest distance from the distribution (Kolmogorov and Smirnov). */
static void test_gaps_are_exponential(void **state)
{
	double *gaps = malloc(GAPS * sizeof(*gaps));

	(void)state;
	for (uint64_t seed = 1; seed <= 5; seed++) {
		double sum = 0, squares = 0, distance = 0, mean, variance;
		uint64_t random = seed;

		for (int i = 0; i < GAPS; i++) {
			/* in periods, in the middle of what was rounded down */
			gaps[i] =
				((double)sample_gap(sample_random(&random), 524288) + 0.5) / 524288;
			sum += gaps[i];
			squares += gaps[i] * gaps[i];
		}
		mean = sum / GAPS;
		variance = squares / GAPS - mean * mean;
		/* Standard deviations: of the mean 1, of the variance sqrt(8), over sqrt(n). */
		assert_true(fabs(mean - 1) < 3.3 / sqrt(GAPS));
		assert_true(fabs(variance - 1) < 3.3 * sqrt(8) / sqrt(GAPS));
		qsort(gaps, GAPS, sizeof(*gaps), compare);
		for (int i = 0; i < GAPS; i++) {
			double expected = chance(gaps[i], 1);

			distance = fmax(distance, fabs(expected - (double)i / GAPS));
			distance = fmax(distance, fabs(expected - (i + 1.0) / GAPS));
		}
		assert_true(distance * sqrt(GAPS) < 1.95); /* once in a thousand */
	}
	free(gaps);
}

static void test_neighbouring_gaps_have_nothing_in_common(void **state)
{
	double sum = 0, before = 0;
	uint64_t random = 11;

	(void)state;
	for (int i = 0; i < GAPS; i++) {
		double gap = (double)sample_gap(sample_random(&random), 524288) / 524288 - 1;

		sum += gap * before;
		before = gap;
	}
	assert_true(fabs(sum / GAPS) < 3.3 / sqrt(GAPS));
}

/* ---- which blocks ------------------------------------------------------------- */

static struct tm_thread thread;

static void begin(uint64_t seed)
{
	tm_header.sample_seed = seed;
	tm_header.pid = (uint32_t)getpid();
	assert_true(sample_reserve());
	sample_end();
	thread.sample_random = 0;
}

static void test_a_block_has_its_chance(void **state)
{
	const struct tm_generation generation = {.sample_period = 65536};
	const int blocks = 400000;

	(void)state;
	begin(3);
	for (uint64_t size = 16; size <= 16 << 20; size *= 4) {
		double p = chance((double)size, 65536);
		double deviation = sqrt(p * (1 - p) / blocks);
		int taken = 0;

		for (int i = 0; i < blocks; i++)
			taken += sample_takes(&generation, &thread, size);
		if (fabs((double)taken / blocks - p) > 3.3 * deviation)
			fail_msg("of %llu bytes %d blocks, not %.1f", (unsigned long long)size,
				 taken, p * blocks);
	}
}

/* Among others of every size, as a program has them. */
static void test_chances_do_not_depend_on_the_neighbours(void **state)
{
	const struct tm_generation generation = {.sample_period = 8192};
	int taken[16] = {0}, seen[16] = {0};
	uint64_t random = 5;

	(void)state;
	begin(4);
	for (int i = 0; i < 1000000; i++) {
		int class = (int)(sample_random(&random) % 16);

		seen[class]++;
		taken[class] += sample_takes(&generation, &thread, UINT64_C(8) << class);
	}
	for (int class = 0; class < 16; class ++) {
		double p = chance((double)(8 << class), 8192);

		assert_true(fabs(taken[class] - p * seen[class]) <=
			    3.3 * sqrt(p * (1 - p) * seen[class]) + 1e-9);
	}
}

static void test_a_block_of_no_bytes_has_the_chance_of_one_byte(void **state)
{
	const struct tm_generation generation = {.sample_period = TM_SAMPLE_MIN};
	int taken = 0;

	(void)state;
	begin(6);
	for (int i = 0; i < 1000000; i++)
		taken += sample_takes(&generation, &thread, 0);
	assert_true(abs(taken - 976) < 103);
}

static void test_an_enormous_block_is_no_trouble(void **state)
{
	const struct tm_generation generation = {.sample_period = TM_SAMPLE_MIN};

	(void)state;
	begin(6);
	assert_true(sample_takes(&generation, &thread, UINT64_MAX));
	assert_true(sample_takes(&generation, &thread, UINT64_MAX - 4096));
	assert_in_range(*sample_left(tm_thread_pointer()), 1, 64 * TM_SAMPLE_MIN);
}

/* A call that interrupted a stub between its subtraction and where that is undone. */
static void test_less_than_nothing_left_is_drawn_anew(void **state)
{
	const struct tm_generation generation = {.sample_period = TM_SAMPLE_MIN};

	(void)state;
	begin(6);
	sample_takes(&generation, &thread, 1);
	*sample_left(tm_thread_pointer()) = (uint64_t)-14;
	sample_takes(&generation, &thread, 1);
	assert_in_range(*sample_left(tm_thread_pointer()), 1, 64 * TM_SAMPLE_MIN);
}

static void test_small_blocks_are_left_out(void **state)
{
	const struct tm_generation exact = {.min_size = 100};
	const struct tm_generation both = {.min_size = 100, .sample_period = TM_SAMPLE_MIN};
	int taken = 0;

	(void)state;
	begin(8);
	assert_false(sample_takes(&exact, &thread, 99));
	assert_true(sample_takes(&exact, &thread, 100));
	for (int i = 0; i < 100000; i++)
		taken += sample_takes(&both, &thread, 99);
	assert_int_equal(taken, 0);
	for (int i = 0; i < 100000; i++)
		taken += sample_takes(&both, &thread, 100);
	assert_true(abs(taken - 9304) < 303);
}

static void test_what_shrinks_keeps_the_chance_of_its_size(void **state)
{
	const struct tm_generation generation = {.sample_period = 65536};
	const int blocks = 200000;

	(void)state;
	begin(9);
	for (uint64_t size = 4096; size <= 262144; size *= 4) {
		double p = chance((double)size, 65536);
		int kept = 0;

		for (int i = 0; i < blocks; i++)
			kept += sample_takes(&generation, &thread, 524288) &&
				sample_keeps(&generation, &thread, 524288, size);
		assert_true(fabs(kept - p * blocks) < 3.3 * sqrt(p * (1 - p) * blocks));
	}
}

static void test_a_seed_gives_the_same_blocks_again(void **state)
{
	const struct tm_generation generation = {.sample_period = 4096};
	uint8_t first[1000];

	(void)state;
	begin(10);
	for (int i = 0; i < 1000; i++)
		first[i] = sample_takes(&generation, &thread, 1000);
	begin(10);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(first[i], sample_takes(&generation, &thread, 1000));
	begin(11);
	for (int i = 0; i < 1000; i++)
		first[i] ^= sample_takes(&generation, &thread, 1000);
	assert_non_null(memchr(first, 1, sizeof(first)));
}

/* ---- places of threads ---------------------------------------------------------- */

/* Another thread's place is its own while it lives; without one a thread counts in its record. */
static void test_a_place_that_is_taken(void **state)
{
	const struct tm_generation generation = {.sample_period = 65536};
	uint64_t pointer = tm_thread_pointer(), other = pointer ^ UINT64_C(1) << 40;
	struct tm_thread_entry *entry = &tm_wiped_memory.threads[thread_hash(other)];
	uint64_t *owner = &tm_sample_slots->owner[sample_index(pointer)];
	int taken = 0;

	(void)state;
	begin(12);
	*owner = other;
	*entry = (struct tm_thread_entry){other, 1};
	for (int i = 0; i < 100000; i++)
		taken += sample_takes(&generation, &thread, 4096);
	assert_true(abs(taken - 6059) < 250);
	assert_int_equal(*owner, other);
	assert_null(sample_left(pointer));
	*entry = (struct tm_thread_entry){0, 0};
	(void)sample_takes(&generation, &thread, 4096);
	assert_int_equal(*owner, pointer);
}

/* Chances that are thrown away change nobody else's. */
static void test_nested_blocks_leave_no_trace(void **state)
{
	const struct tm_generation generation = {.sample_period = 8192};
	int taken = 0;

	(void)state;
	begin(13);
	for (int i = 0; i < 200000; i++) {
		taken += sample_takes(&generation, &thread, 100);
		if (sample_takes(&generation, &thread, (uint64_t)(i % 7) * 1000))
			sample_renew();
	}
	assert_true(abs(taken - 2427) < 163);
}

/* ---- the filter --------------------------------------------------------------- */

static void test_the_filter_never_denies_a_block(void **state)
{
	uint64_t filter = (uint64_t)calloc(1, SAMPLE_FILTER_BYTES);
	const uint64_t base = 0x7f0000000000;
	int denied = 0;

	(void)state;
	for (uint64_t i = 0; i < 3000; i++)
		sample_count(filter, base + i * 48, +1);
	for (uint64_t i = 0; i < 3000; i += 2)
		sample_count(filter, base + i * 48, -1);
	for (uint64_t i = 0; i < 3000; i++) {
		if (i % 2)
			assert_true(sample_may_hold(filter, base + i * 48));
		denied += !sample_may_hold(filter, base + (3 << 22) + i * 48);
	}
	assert_true(denied > 2500);
	for (uint64_t i = 1; i < 3000; i += 2)
		sample_count(filter, base + i * 48, -1);
	for (uint64_t i = 0; i < SAMPLE_FILTER_BYTES; i++)
		assert_int_equal(((uint8_t *)filter)[i], 0);
	free((void *)filter);
}

static void test_a_full_counter_stays(void **state)
{
	uint64_t filter = (uint64_t)calloc(1, SAMPLE_FILTER_BYTES);

	(void)state;
	for (int i = 0; i < 300; i++)
		sample_count(filter, 0x1000, +1);
	for (int i = 0; i < 299; i++)
		sample_count(filter, 0x1000, -1);
	assert_true(sample_may_hold(filter, 0x1000));
	free((void *)filter);
}

/* What a hook of before `clear` takes from a counter is not the new block's. */
static void test_a_hook_in_the_middle_keeps_the_filter(void **state)
{
	struct tm_generation generation = {0};
	struct tm_thread thread = {.state = THREAD_IN_HELPER, .sample_random = 5};

	(void)state;
	assert_true(sample_reserve());
	generation.filter = (uint64_t)tm_sample_filter;
	tm_wiped_memory.thread_count = 1;
	tm_wiped_memory.threads[9] = (struct tm_thread_entry){2, (uint64_t)&thread};
	sample_count(generation.filter, 0x1000, +1);
	sample_begin(&generation);
	assert_int_equal(thread.sample_random, 0);
	sample_count(generation.filter, 0x1000, +1);
	sample_count(generation.filter, 0x1000, -1);
	assert_true(sample_may_hold(generation.filter, 0x1000));
	thread.state = THREAD_IN_ORIGINAL;
	sample_begin(&generation);
	assert_false(sample_may_hold(generation.filter, 0x1000));
	sample_end();
	tm_wiped_memory.threads[9] = (struct tm_thread_entry){0, 0};
	tm_wiped_memory.thread_count = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_block_stands_for_its_size_divided_by_its_chance),
		cmocka_unit_test(test_the_two_ways_to_reckon_it_meet),
		cmocka_unit_test(test_without_a_period_a_block_is_what_it_is),
		cmocka_unit_test(test_division_is_the_compilers),
		cmocka_unit_test(test_a_gap_is_the_logarithm),
		cmocka_unit_test(test_gaps_are_exponential),
		cmocka_unit_test(test_neighbouring_gaps_have_nothing_in_common),
		cmocka_unit_test(test_a_block_has_its_chance),
		cmocka_unit_test(test_chances_do_not_depend_on_the_neighbours),
		cmocka_unit_test(test_a_block_of_no_bytes_has_the_chance_of_one_byte),
		cmocka_unit_test(test_an_enormous_block_is_no_trouble),
		cmocka_unit_test(test_less_than_nothing_left_is_drawn_anew),
		cmocka_unit_test(test_small_blocks_are_left_out),
		cmocka_unit_test(test_what_shrinks_keeps_the_chance_of_its_size),
		cmocka_unit_test(test_a_seed_gives_the_same_blocks_again),
		cmocka_unit_test(test_a_place_that_is_taken),
		cmocka_unit_test(test_nested_blocks_leave_no_trace),
		cmocka_unit_test(test_the_filter_never_denies_a_block),
		cmocka_unit_test(test_a_full_counter_stays),
		cmocka_unit_test(test_a_hook_in_the_middle_keeps_the_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
