/*
 * Bytes and blocks added up: exact, or estimated from the blocks that were
 * sampled, with the variance of the estimate.
 *
 * May use: tm_sample.h, the C library.  Must not use: gdb, Python.
 *
 * A sampled block of size s and chance p adds s/p bytes and 1/p blocks; of
 * blocks that are sampled independently the variance of the sum of their s/p
 * is estimated without bias by the sum of s^2 (1 - p) / p^2 over the sampled
 * ones (Horvitz and Thompson, 1952).
 */
#ifndef TM_ESTIMATE_H
#define TM_ESTIMATE_H

#include <math.h>
#include <stdint.h>

#include "tm_sample.h"

struct estimate {
	uint64_t size;  /* bytes, rounded for each block */
	uint64_t count; /* blocks, rounded down for each kind, … */
	double rest;    /* … and the sum of what that cut off; 0 when nothing is estimated */
	double size_variance;
	double count_variance;
};

/* Adds `more`.  Not 0 when the sums are more than 2^63. */
static inline int estimate_add(struct estimate *to, const struct estimate *more)
{
	to->rest += more->rest;
	to->size_variance += more->size_variance;
	to->count_variance += more->count_variance;
	return __builtin_add_overflow(to->size, more->size, &to->size) ||
	       __builtin_add_overflow(to->count, more->count, &to->count) ||
	       (to->size | to->count) >> 63;
}

/* Adds `count` recorded blocks of `size` bytes; period as in tm_sample.h.  Result likewise. */
static inline int estimate_add_blocks(struct estimate *to, uint64_t size, uint64_t count,
				      uint64_t period)
{
	struct estimate blocks = {.count = count};
	uint64_t bytes = tm_sample_bytes(size, period);

	if (__builtin_mul_overflow(bytes, count, &blocks.size))
		return 1;
	if (period) {
		double one = (double)tm_sample_size(size), recorded = (double)count;
		double weight = (double)tm_sample_bytes(tm_sample_size(size), period) / one;

		if (recorded * weight >= 0x1p63)
			return 1;
		blocks.count = (uint64_t)(recorded * weight);
		blocks.rest = recorded * weight - (double)blocks.count;
		blocks.size_variance = recorded * (double)bytes * (double)(bytes - size);
		blocks.count_variance = recorded * weight * (weight - 1);
	}
	return estimate_add(to, &blocks);
}

static inline uint64_t estimate_count(const struct estimate *estimate)
{
	return estimate->count + (uint64_t)llround(estimate->rest);
}

#endif
