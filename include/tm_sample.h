/*
 * What a sampled block stands for.  The helper counts with it what is traced,
 * the host scales its reports with it, so that both come to the same bytes.
 *
 * May include: freestanding headers and tm_layout.h.  Must never use floating
 * point, or a function of a library: the helper has neither.
 *
 * Every byte that is allocated is a sample point with probability 1/period,
 * and a block is recorded when one of its bytes is; in the limit of many bytes
 * the gaps between the points are exponential, and the chance of a block of s
 * bytes is p = 1 - exp(-s / period).  A recorded block then stands for 1/p
 * blocks (Horvitz and Thompson's estimator: unbiased whatever the sizes are).
 * A block of no bytes has the chance of one byte.
 */
#ifndef TM_SAMPLE_H
#define TM_SAMPLE_H

#include "tm_layout.h"

/* dividend / divisor, rounded; the quotient must be less than 2^64 - 1. */
static inline uint64_t tm_sample_divide(unsigned __int128 dividend, uint64_t divisor)
{
	uint64_t rest, low, quotient = 0;
	uint32_t bit;

	dividend += divisor / 2;
	rest = (uint64_t)(dividend >> 64);
	low = (uint64_t)dividend;
	for (bit = 0; bit < 64; bit++) {
		uint64_t carry = rest >> 63;

		rest = rest << 1 | low >> 63;
		low <<= 1;
		quotient <<= 1;
		if (carry || rest >= divisor) {
			rest -= divisor;
			quotient |= 1;
		}
	}
	return quotient;
}

#define TM_SAMPLE_ONE (UINT64_C(1) << 62)

/*
 * exp(-x), 1 being TM_SAMPLE_ONE; x in units of 2^-57, less than 45.  The
 * series of x/1024 up to its fifth power, squared ten times.
 */
static inline uint64_t tm_sample_exp(uint64_t x)
{
	uint64_t step = x >> 5, result = TM_SAMPLE_ONE;
	uint32_t i;

	for (i = 5; i; i--)
		result = TM_SAMPLE_ONE - (uint64_t)((unsigned __int128)step * result >> 62) / i;
	for (i = 0; i < 10; i++)
		result = (uint64_t)((unsigned __int128)result * result >> 62);
	return result;
}

/* Blocks so many periods long are recorded as good as always: exp(-44) is 8e-20. */
#define TM_SAMPLE_CERTAIN 44u

/*
 * Bytes that one recorded block of `size` bytes stands for: size / p, rounded.  Right to a byte and 1e-9 of it.  period: 0 (every block
 * is recorded), or from TM_SAMPLE_MIN to TM_SAMPLE_MAX.
 */
static inline uint64_t tm_sample_bytes(uint64_t size, uint64_t period)
{
	uint64_t ratio, chance;

	if (!size || !period || size >= TM_SAMPLE_CERTAIN * period)
		return size;
	if (size < period / 16) {
		/* x / (1 - exp(-x)) = 1 + x/2 + x^2/12 - x^4/720 + …; nothing cancels here */
		ratio = tm_sample_divide((unsigned __int128)size * size, period);
		return (12 * period + 6 * size + ratio - ratio * (ratio >> 8) / (60 * period >> 8) +
			6) /
		       12;
	}
	ratio = tm_sample_divide((unsigned __int128)size << 57, period);
	chance = TM_SAMPLE_ONE - tm_sample_exp(ratio);
	return tm_sample_divide((unsigned __int128)size << 62, chance);
}

/* What a block weighs by: its size, but a block of no bytes weighs as one of one byte. */
static inline uint64_t tm_sample_size(uint64_t size)
{
	return size ? size : 1;
}

#endif
