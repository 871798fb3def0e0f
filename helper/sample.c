/*
 * The rare part of sampling: gaps between sample points, in integers.
 *
 * May use: thread records and system calls.  Must never use floating point,
 * and never call a hooked function.
 */
#include "sample.h"
#include "arch.h"
#include "sys.h"

/* sampled.S */
_Static_assert(offsetof(struct tm_patch, original) == 24, "jumps there");
_Static_assert(offsetof(struct tm_patch, domain) == 88, "puts it into the guard");
_Static_assert(offsetof(struct tm_patch, size_argument) == 67, "looks at all three, and …");
_Static_assert(offsetof(struct tm_patch, count_argument) == 68, "… at two of them …");
_Static_assert(offsetof(struct tm_patch, block_argument) == 69, "… at a time");
_Static_assert(TM_NO_ARGUMENT == 0xff, "in these");
_Static_assert(offsetof(struct tm_header, threads) == 104, "leads to the thread records");
_Static_assert(offsetof(struct tm_wiped, threads) == 24, "looks them up");
_Static_assert(sizeof(struct tm_thread_entry) == 16 && TM_MAX_THREADS == 16384, "likewise");
_Static_assert(offsetof(struct tm_thread, state) == 0 && THREAD_OUTSIDE == 0, "looks at it");
_Static_assert(offsetof(struct tm_thread, sample_left) == 40, "counts it down");
_Static_assert(THREAD_IN_ORIGINAL == 2 && offsetof(struct tm_thread, entry) == 16, "the guard");
_Static_assert(offsetof(struct tm_thread, nested) == 24, "likewise");
_Static_assert(offsetof(struct tm_thread, domain) == 32, "likewise");

uint32_t tm_sample_state;
uint64_t tm_sample_malloc;
uint64_t tm_sample_least;
uint8_t tm_sample_filter[SAMPLE_FILTER_BYTES];

static uint32_t patches_seen; /* patch_count when tm_sample_malloc was found */

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

/* `malloc`, `__libc_malloc`, `je_malloc`: what may be called by, or call, a malloc. */
static bool is_malloc(const char *name, size_t size)
{
	static const char wanted[] = "malloc";
	size_t length = 0, i;

	while (length < size && name[length])
		length++;
	if (length < sizeof(wanted) - 1)
		return false;
	for (i = 0; i < sizeof(wanted) - 1; i++)
		if (name[length - (sizeof(wanted) - 1) + i] != wanted[i])
			return false;
	return true;
}

static void find_malloc(void)
{
	const struct tm_patch *patches = (const struct tm_patch *)tm_header.patches;
	const struct tm_patch *found = NULL;
	uint32_t i, count = load_acquire(&tm_header.patch_count), mallocs = 0;

	for (i = 0; i < count && i < TM_MAX_PATCHES; i++) {
		if (patches[i].domain != TM_DOMAIN_MALLOC ||
		    !is_malloc(patches[i].name, sizeof(patches[i].name)))
			continue;
		mallocs++;
		if (patches[i].shape == TM_SHAPE_ALLOC && patches[i].size_argument == 0 &&
		    patches[i].count_argument == TM_NO_ARGUMENT)
			found = &patches[i];
	}
	patches_seen = count;
	store_release(&tm_sample_malloc, mallocs == 1 ? (uint64_t)found : 0);
}

TM_NOINLINE bool sample_reached(const struct tm_generation *generation, struct tm_thread *thread,
				uint64_t size)
{
	uint64_t period = generation->sample_period;

	if (unlikely(load_relaxed(&tm_header.patch_count) != patches_seen))
		find_malloc(); /* the debugger redirected more */
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

void sample_end(void)
{
	store_release(&tm_sample_state, 0);
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
		thread->sample_left = thread->sample_random = 0;
		busy |= thread->state == THREAD_IN_HELPER;
	}
	/* One that is about to count a record that went would count one of the new ones. */
	if (!busy)
		tm_memset(tm_sample_filter, 0, sizeof(tm_sample_filter));
	tm_sample_least = tm_sample_size(generation->min_size);
	find_malloc();
	store_release(&tm_sample_state, 1);
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
