/* The traced size and its peak, without a shared cache line on the hot path. */
#ifndef TM_COUNTER_H
#define TM_COUNTER_H

#include "helper.h"

static inline void counter_raise_peak(struct tm_generation *generation, int64_t peak)
{
	int64_t seen = load_relaxed(&generation->peak);

	while (seen < peak && !__atomic_compare_exchange_n(&generation->peak, &seen, peak, false,
							   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static TM_NOINLINE __attribute__((unused)) void counter_tell(struct tm_generation *generation,
							     struct tm_counter *counter)
{
	int64_t before = add_relaxed(&generation->current, counter->delta);

	counter_raise_peak(generation, before + counter->max_delta);
	store_relaxed(&counter->delta, 0);
	store_relaxed(&counter->max_delta, 0);
}

/* Adds bytes (negative: a block went) to the calling thread's counter. */
static inline void counter_add(struct tm_generation *generation, uint32_t thread_number,
			       int64_t bytes)
{
	struct tm_counter *counter = (struct tm_counter *)generation->counters + thread_number;
	int64_t delta = counter->delta + bytes;

	store_relaxed(&counter->delta, delta);
	if (delta > counter->max_delta)
		store_relaxed(&counter->max_delta, delta);
	if (unlikely(delta > TM_COUNTER_BATCH || delta < -TM_COUNTER_BATCH))
		counter_tell(generation, counter);
}

#endif
