/*
 * Which blocks are recorded when not all are: `tm start -sample`, `-min-size`.
 *
 * A thread counts the bytes down that are left before its next sample point;
 * a block that holds the point is recorded (tm_sample.h tells what it then
 * stands for).  The gaps are exponential, so what was left over may be
 * forgotten at any time, and each block has its chance apart from all others.
 *
 * Most blocks that are freed were then never recorded: a table of counters by
 * address, small enough to stay in a cache, says so without a look into the
 * trace table.
 */
#ifndef TM_SAMPLE_HELPER_H
#define TM_SAMPLE_HELPER_H

#include "helper.h"
#include "thread.h"
#include "tm_sample.h"

/*
 * A gap between sample points: -ln(u) * period bytes, where u = (random + 1) / 2^64.
 * Rounded down, which leaves every block its exact chance, since sizes are
 * whole.  The logarithm is right to 2^-39 (not more than the last bit of it).
 */
uint64_t sample_gap(uint64_t random, uint64_t period) TM_HIDDEN;

/* The next number of a sequence (splitmix64: any state is a good one, also 0). */
uint64_t sample_random(uint64_t *state) TM_HIDDEN;

/* A sample point lies in the next `size` bytes, or none was drawn yet: which of them? */
bool sample_reached(const struct tm_generation *generation, struct tm_thread *thread,
		    uint64_t size) TM_HIDDEN;

/* Whether the next block of the thread, of `size` bytes, is to be recorded.  Ask once for each. */
static inline bool sample_takes(const struct tm_generation *generation, struct tm_thread *thread,
				uint64_t size)
{
	if (size < generation->min_size)
		return false;
	if (!generation->sample_period)
		return true;
	size = tm_sample_size(size);
	/* Not less than 0, but where sample_begin() came between what is here and the last line. */
	if (unlikely(thread->sample_left < size || (int64_t)thread->sample_left < 0))
		return sample_reached(generation, thread, size);
	thread->sample_left -= size;
	return false;
}

/*
 * What is left of a recorded block when it has shrunk: whether its record
 * stays, so that its chance is that of a block of the new size.
 */
bool sample_keeps(const struct tm_generation *generation, struct tm_thread *thread,
		  uint64_t old_size, uint64_t size) TM_HIDDEN;

/*
 * What sampled.S reads: whether it has anything to do, and which function it may
 * go on to without setting the guard.  That is the one named malloc, which then
 * calls no other allocator function: such a block would have two chances.
 */
extern uint32_t tm_sample_state TM_HIDDEN;  /* 1: not every block is recorded */
extern uint64_t tm_sample_malloc TM_HIDDEN; /* address of its struct tm_patch; 0: there is none */
extern uint64_t tm_sample_least TM_HIDDEN;  /* bytes, not 0: smaller blocks go another way */

/*
 * Begins with the generation that was just published, when it leaves blocks
 * out: threads draw anew, the filter is empty unless a thread stands in the
 * middle of the helper.  With all threads stopped.
 */
void sample_begin(const struct tm_generation *generation) TM_HIDDEN;

/* All calls go through their hooks again. */
void sample_end(void) TM_HIDDEN;

/* ---- the filter ------------------------------------------------------------ */

/*
 * Counters of a byte, by address: how many recorded blocks begin there, in 256
 * bytes of memory, so that frees of neighbours look into one cache line.  At the
 * highest value one stays.
 *
 * There is one such table, in the helper's image: a stopped thread may be
 * about to read it, so it must never go.  Counts may be too high, never too low.
 */
#define SAMPLE_FILTER_BYTES 65536u

extern uint8_t tm_sample_filter[SAMPLE_FILTER_BYTES] TM_HIDDEN;

/* sampled.S reckons the same. */
static inline uint8_t *sample_counter(uint64_t filter, uint64_t address)
{
	return (uint8_t *)filter + (address >> 8 & (SAMPLE_FILTER_BYTES - 1));
}

/* False when the block is certainly not recorded.  filter: the generation's, not 0. */
static inline bool sample_may_hold(uint64_t filter, uint64_t address)
{
	return load_relaxed(sample_counter(filter, address)) != 0;
}

/* A block was recorded (+1), or its record went (-1). */
void sample_count(uint64_t filter, uint64_t address, int change) TM_HIDDEN;

#endif
