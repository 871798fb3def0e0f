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

/*
 * What is left of each thread's gap: 1 more than what goes by before its point; 0: not
 * drawn.  Where the header says that threads have a word for it, it is there, whatever a
 * thread that ended on the same stack left, or the parent of a child of fork: what is
 * left of a gap is as good as a new one, for whoever has it.
 */
extern bool tm_sample_in_words TM_HIDDEN;

/*
 * Elsewhere it is where the stubs find it in few instructions: by
 * bits 8 to 23 of the thread pointer, which differ between threads since their
 * stacks lie apart.  A thread that finds its place taken counts in its record, and
 * its calls go the long way.
 *
 * `owner` is claimed by the thread itself; `left` is its own from then on.  Both
 * are wiped in a child of fork, which so draws gaps of its own.
 */
#define SAMPLE_SLOTS 65536u

struct tm_sample_slots {
	uint64_t owner[SAMPLE_SLOTS]; /* thread pointer; 0: nobody's */
	uint64_t apart[8];            /* or both words were in one set of the cache */
	uint64_t left[SAMPLE_SLOTS];
};

/* sampled.S reckons the same. */
static inline uint32_t sample_index(uint64_t thread_pointer)
{
	return (uint32_t)(thread_pointer >> 8) % SAMPLE_SLOTS;
}

/* What the stubs read: the slots, and where blocks are passed at once. */
extern struct tm_sample_slots *tm_sample_slots TM_HIDDEN; /* stays until the helper is unloaded */
extern uint64_t tm_sample_least TM_HIDDEN; /* bytes; smaller blocks are not recorded */

/* What a thread has left, as the stubs find it; NULL when the place is not its own. */
static inline uint64_t *sample_left(uint64_t thread_pointer)
{
	struct tm_sample_slots *slots = tm_sample_slots;
	uint32_t index = sample_index(thread_pointer);

	if (tm_sample_in_words)
		return (uint64_t *)(thread_pointer + TM_WORD_LEFT);
	return likely(slots->owner[index] == thread_pointer) ? &slots->left[index] : NULL;
}

/*
 * What the calling thread has left, when it has to claim its place or to draw first: also where
 * a call from within a stub took more than there was (a signal handler's, or a debugger's).
 */
uint64_t *sample_claim(const struct tm_generation *generation, struct tm_thread *thread) TM_HIDDEN;

/* What is left at the beginning of the next gap. */
uint64_t sample_draw(const struct tm_generation *generation, struct tm_thread *thread) TM_HIDDEN;

/* Whether the next block of the thread, of `size` bytes, is to be recorded.  Ask once for each. */
static inline bool sample_takes(const struct tm_generation *generation, struct tm_thread *thread,
				uint64_t size)
{
	uint64_t *left;

	if (size < generation->min_size)
		return false;
	if (!generation->sample_period)
		return true;
	left = sample_left(tm_thread_pointer());
	if (unlikely(!left || (int64_t)*left <= 0))
		left = sample_claim(generation, thread);
	size = tm_sample_size(size);
	if (*left > size) {
		*left -= size;
		return false;
	}
	/* Behind the block, not behind the point: gaps have no memory. */
	*left = sample_draw(generation, thread);
	return true;
}

/*
 * A call that another one had made was chosen, and is not recorded: the thread draws
 * anew at its next call.  So the chance that such a call took leaves no trace, and
 * every call may take one, be it nested or not.
 */
void sample_renew(void) TM_HIDDEN;

/*
 * What is left of a recorded block when it has shrunk: whether its record
 * stays, so that its chance is that of a block of the new size.
 */
bool sample_keeps(const struct tm_generation *generation, struct tm_thread *thread,
		  uint64_t old_size, uint64_t size) TM_HIDDEN;

/* Before the first generation that leaves blocks out.  False when there is no memory. */
bool sample_reserve(void) TM_HIDDEN;

/*
 * Begins with the generation that was just published, when it leaves blocks
 * out: threads draw anew, the filter is empty unless a thread stands in the
 * middle of the helper.  With all threads stopped.
 */
void sample_begin(const struct tm_generation *generation) TM_HIDDEN;

/* No thread has anything left: those that stand in the stubs go the long way. */
void sample_end(void) TM_HIDDEN;

/* Gives the memory back, at the end of all. */
void sample_unmap(void) TM_HIDDEN;

/* ---- the filter ------------------------------------------------------------ */

/*
 * Counters of a byte, by KiB: how many recorded blocks begin there, so that
 * frees of neighbours look into one cache line.  At the highest value one stays.
 *
 * There is one such table, of 4 GiB of addresses: a stopped thread may be about to
 * read it, so it stays until the helper is unloaded.  Counts may be too high, never
 * too low.
 */
#define SAMPLE_FILTER_BYTES (1u << 22)

extern uint8_t *tm_sample_filter TM_HIDDEN;

/* sampled.S reckons the same. */
static inline uint8_t *sample_counter(uint64_t filter, uint64_t address)
{
	return (uint8_t *)filter + ((uint32_t)address >> 10);
}

/* False when the block is certainly not recorded.  filter: the generation's, not 0. */
static inline bool sample_may_hold(uint64_t filter, uint64_t address)
{
	return load_relaxed(sample_counter(filter, address)) != 0;
}

/* A block was recorded (+1), or its record went (-1). */
void sample_count(uint64_t filter, uint64_t address, int change) TM_HIDDEN;

#endif
