/*
 * The rare part of sampling: gaps between sample points, in integers.
 *
 * May use: thread records and system calls.  Must never use floating point,
 * and never call a hooked function.
 */
#include "sample.h"
#include "arch.h"
#include "sys.h"

#define FRACTION_BITS 40u
#define LN2 UINT64_C(0xb17217f7d1cf79ac) /* ln 2, in units of 2^-64 */

/* splitmix64: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014. */
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

uint64_t sample_random(uint64_t *state)
{
	uint64_t z = *state += GOLDEN;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/*
 * The binary logarithm bit by bit: squaring a mantissa doubles its logarithm,
 * whose next bit is the carry.
 */
uint64_t sample_gap(uint64_t random, uint64_t period)
{
	uint64_t mantissa = random + 1, fraction = 0, logarithm;
	uint32_t shift, i;

	if (!mantissa)
		return 0; /* u = 1 */
	shift = (uint32_t)__builtin_clzll(mantissa);
	mantissa <<= shift;
	for (i = 0; i < FRACTION_BITS; i++) {
		unsigned __int128 square = (unsigned __int128)mantissa * mantissa >> 63;
		uint64_t carry = (uint64_t)(square >> 64);

		mantissa = (uint64_t)(square >> carry);
		fraction = fraction << 1 | carry;
	}
	logarithm = ((uint64_t)(shift + 1) << FRACTION_BITS) - fraction; /* -log2 u */
	logarithm = (uint64_t)((unsigned __int128)logarithm * LN2 >> 64);
	return (uint64_t)((unsigned __int128)logarithm * period >> FRACTION_BITS);
}

/* Random numbers begin at another place in every thread, and in a child of fork. */
static void draw_first(struct tm_thread *thread, uint64_t period)
{
	uint64_t state = tm_header.sample_seed + thread->number;
	uint32_t pid = sys_is_quiet() ? tm_header.pid : (uint32_t)sys_getpid();

	state = sample_random(&state) + (pid - tm_header.pid);
	thread->sample_random = sample_random(&state) | 1;
	thread->sample_left = sample_gap(sample_random(&thread->sample_random), period);
}

TM_NOINLINE bool sample_reached(const struct tm_generation *generation, struct tm_thread *thread,
				uint64_t size)
{
	uint64_t period = generation->sample_period;

	if (!thread->sample_random) {
		draw_first(thread, period);
		if (thread->sample_left >= size) {
			thread->sample_left -= size;
			return false;
		}
	}
	/* Behind the block, not behind the point: gaps have no memory. */
	thread->sample_left = sample_gap(sample_random(&thread->sample_random), period);
	return true;
}

/* p(size) / p(old_size) = (size / bytes(size)) / (old_size / bytes(old_size)) */
bool sample_keeps(const struct tm_generation *generation, struct tm_thread *thread,
		  uint64_t old_size, uint64_t size)
{
	uint64_t period = generation->sample_period;
	unsigned __int128 old_share, share;

	if (size < generation->min_size)
		return false;
	if (!period)
		return true;
	if (!thread->sample_random)
		draw_first(thread, period);
	old_size = tm_sample_size(old_size);
	size = tm_sample_size(size);
	old_share = (unsigned __int128)old_size * tm_sample_bytes(size, period);
	share = (unsigned __int128)size * tm_sample_bytes(old_size, period);
	return (sample_random(&thread->sample_random) >> 32) * old_share < share << 32;
}

void sample_restart(void)
{
	const struct tm_wiped *wiped = tm_wiped();
	uint32_t i;

	for (i = 0; wiped->thread_count && i < TM_MAX_THREADS; i++) {
		struct tm_thread *thread = (struct tm_thread *)wiped->threads[i].record;

		if (thread)
			thread->sample_left = thread->sample_random = 0;
	}
}

void sample_count(uint64_t filter, uint64_t address, int change)
{
	uint8_t *counter = sample_counter(filter, address);
	uint8_t seen = load_relaxed(counter);

	while (seen != UINT8_MAX &&
	       !__atomic_compare_exchange_n(counter, &seen, (uint8_t)(seen + change), false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}
