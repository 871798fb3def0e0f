/* The traced size and its peak, without a shared cache line on the hot path. */
#ifndef TM_COUNTER_H
#define TM_COUNTER_H

#include "helper.h"

static inline struct tm_counter *counter_of(const struct tm_generation *generation,
					    uint32_t thread_number)
{
	return (struct tm_counter *)generation->counters + thread_number;
}

static inline void counter_raise_peak(struct tm_generation *generation, int64_t peak)
{
	int64_t seen = load_relaxed(&generation->peak);

	while (seen < peak && !__atomic_compare_exchange_n(&generation->peak, &seen, peak, false,
							   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* One store: whenever the process stops, the sum is right. */
static inline void counter_set(struct tm_counter *counter, int64_t highest, int64_t delta)
{
	typedef uint64_t __attribute__((may_alias)) both;

	store_relaxed((both *)&counter->room,
		      (uint64_t)highest << 32 | (uint32_t)(highest - delta));
}

/* Adds bytes (negative: a block went) to the calling thread's counter. */
static TM_NOINLINE __attribute__((unused)) void counter_add(struct tm_generation *generation,
							    uint32_t thread_number, int64_t bytes)
{
	struct tm_counter *counter = counter_of(generation, thread_number);
	int64_t delta = tm_counter_delta(counter) + bytes;
	int64_t highest = tm_counter_highest(counter);

	if (delta > highest)
		highest = delta;
	if (unlikely(delta > TM_COUNTER_BATCH || delta < highest - TM_COUNTER_BATCH)) {
		int64_t before = add_relaxed(&generation->current, delta);

		counter_raise_peak(generation, before + highest);
		highest = delta = 0;
	}
	counter_set(counter, highest, delta);
}

/*
 * A block of less than 32 KiB came, or went.  True when it is time for counter_add,
 * with 0 bytes, which tells what has come together.
 */
static TM_INLINE bool counter_fills(struct tm_counter *counter, uint64_t size)
{
	counter->room -= (int32_t)size;
	return unlikely(counter->room < 0);
}

/*
 * The same where counter_fills() has said that it is time: in a program that only grows it
 * says so each time, and most often the highest need only be a higher one.
 */
static inline bool counter_overflows(struct tm_counter *counter)
{
	int32_t highest = counter->highest - counter->room;

	if (highest > TM_COUNTER_BATCH)
		return true;
	counter_set(counter, highest, highest);
	return false;
}

static TM_INLINE bool counter_empties(struct tm_counter *counter, uint64_t size)
{
	counter->room += (int32_t)size;
	return unlikely(counter->room > TM_COUNTER_BATCH);
}

#endif
