/*
 * The rare part of sampling: gaps between sample points, in integers.
 *
 * May use: thread records and system calls.  Must never use floating point,
 * and never call a hooked function.
 */
#include "sample.h"
#include "arch.h"
#include "arena.h"
#include "route.h"
#include "sys.h"

/* sampled.S */
_Static_assert(offsetof(struct tm_patch, original) == 24, "jumps there");
_Static_assert(offsetof(struct tm_patch, domain) == 88, "puts it into the guard");
_Static_assert(offsetof(struct tm_header, threads) == 104, "leads to the thread records");
_Static_assert(offsetof(struct tm_wiped, threads) == 24, "looks them up");
_Static_assert(sizeof(struct tm_thread_entry) == 16 && TM_MAX_THREADS == 16384, "likewise");
_Static_assert(offsetof(struct tm_thread, state) == 0 && THREAD_OUTSIDE == 0, "looks at it");
_Static_assert(THREAD_IN_ORIGINAL == 2 && offsetof(struct tm_thread, entry) == 16, "the guard");
_Static_assert(offsetof(struct tm_thread, nested) == 24, "likewise");
_Static_assert(offsetof(struct tm_thread, domain) == 32, "likewise");
_Static_assert(offsetof(struct tm_sample_slots, owner) == 0 && SAMPLE_SLOTS == 65536,
	       "finds a thread's place …");
_Static_assert(offsetof(struct tm_sample_slots, left) == 0x80040, "… and counts down");
_Static_assert(TM_WORD_LEFT == 0x38, "likewise");
_Static_assert(SAMPLE_FILTER_BYTES == UINT64_C(1) << (32 - 10), "looks into it");

struct tm_sample_slots *tm_sample_slots;
uint8_t *tm_sample_filter;
uint64_t tm_sample_least;
bool tm_sample_in_words;

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
static void begin_random(struct tm_thread *thread)
{
	uint64_t state = tm_header.sample_seed + thread->number;
	uint32_t pid = sys_is_quiet() ? tm_header.pid : (uint32_t)sys_getpid();

	state = sample_random(&state) + (pid - tm_header.pid);
	thread->sample_random = sample_random(&state) | 1;
}

TM_NOINLINE uint64_t sample_draw(const struct tm_generation *generation, struct tm_thread *thread)
{
	tm_route_new(); /* here, because it is seldom, but again and again */
	if (!thread->sample_random)
		begin_random(thread);
	return sample_gap(sample_random(&thread->sample_random), generation->sample_period) + 1;
}

TM_NOINLINE uint64_t *sample_claim(const struct tm_generation *generation, struct tm_thread *thread)
{
	uint64_t pointer = tm_thread_pointer(), *left = sample_left(pointer);

	if (!left) {
		struct tm_sample_slots *slots = tm_sample_slots;
		uint32_t index = sample_index(pointer);
		uint64_t owner = load_relaxed(&slots->owner[index]);

		left = &thread->sample_left;
		if ((!owner || !thread_entry(owner)) &&
		    __atomic_compare_exchange_n(&slots->owner[index], &owner, pointer, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			left = &slots->left[index];
			*left = 0; /* or what a thread that has ended had */
		}
	}
	if ((int64_t)*left <= 0)
		*left = sample_draw(generation, thread);
	return left;
}

void sample_renew(void)
{
	uint64_t *left = sample_left(tm_thread_pointer());

	if (left)
		*left = 0;
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
		begin_random(thread);
	old_size = tm_sample_size(old_size);
	size = tm_sample_size(size);
	old_share = (unsigned __int128)old_size * tm_sample_bytes(size, period);
	share = (unsigned __int128)size * tm_sample_bytes(old_size, period);
	return (sample_random(&thread->sample_random) >> 32) * old_share < share << 32;
}

bool sample_reserve(void)
{
	if (!tm_sample_filter)
		tm_sample_filter = arena_map_alone(SAMPLE_FILTER_BYTES);
	if (!tm_sample_slots)
		tm_sample_slots = arena_map_alone(sizeof(*tm_sample_slots));
	arena_wipe_on_fork(tm_sample_slots, sizeof(*tm_sample_slots));
	return tm_sample_filter && tm_sample_slots;
}

void sample_unmap(void)
{
	if (tm_sample_filter)
		arena_unmap_alone(tm_sample_filter, SAMPLE_FILTER_BYTES);
	if (tm_sample_slots)
		arena_unmap_alone(tm_sample_slots, sizeof(*tm_sample_slots));
}

void sample_end(void)
{
	if (tm_sample_slots)
		arena_wipe(tm_sample_slots, sizeof(*tm_sample_slots));
}

void sample_begin(const struct tm_generation *generation)
{
	const struct tm_wiped *wiped = tm_wiped();
	bool busy = false;
	uint32_t i;

	if (!generation->filter)
		return;
	for (i = 0; wiped->thread_count && i < TM_MAX_THREADS; i++) {
		struct tm_thread *thread = (struct tm_thread *)wiped->threads[i].record;

		if (!thread)
			continue;
		thread->sample_random = thread->sample_left = 0;
		busy |= thread->state == THREAD_IN_HELPER;
	}
	/* One that is about to count a record that went would count one of the new ones. */
	if (!busy)
		arena_wipe(tm_sample_filter, SAMPLE_FILTER_BYTES);
	sample_end();
	tm_sample_least = tm_sample_size(generation->min_size);
	tm_sample_in_words = tm_header.thread_words && !generation->min_size;
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
