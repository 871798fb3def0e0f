/*
 * Spin locks of the helper.  A lock holds the number of its owner, so that a
 * signal handler that interrupts a hook in its critical section, or a thread
 * that shares its record with another, gets a refusal instead of a deadlock.
 * Locks lie in memory that a child of fork finds zeroed.
 */
#ifndef TM_LOCK_H
#define TM_LOCK_H

#include "arch.h"
#include "sys.h"

/* Between two looks at a lock that somebody holds; turns: how many looks there were before. */
static inline void lock_wait(uint32_t turns)
{
	const struct tm_timespec pause = {0, 50000};

	if (turns < 200 || sys_is_quiet())
		tm_pause();
	else if (turns < 300)
		sys_sched_yield();
	else
		sys_nanosleep(&pause);
}

static TM_NOINLINE __attribute__((unused)) bool lock_take_slow(uint32_t *lock, uint32_t owner)
{
	uint32_t turns;

	for (turns = 0;; turns++) {
		uint32_t seen = load_relaxed(lock);

		if (seen == owner)
			return false;
		if (seen == 0 && __atomic_compare_exchange_n(lock, &seen, owner, false,
							     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
		lock_wait(turns);
	}
}

/* Takes the lock; false when owner (not 0) holds it already. */
static inline bool lock_take(uint32_t *lock, uint32_t owner)
{
	uint32_t expected = 0;

	if (likely(__atomic_compare_exchange_n(lock, &expected, owner, false, __ATOMIC_ACQUIRE,
					       __ATOMIC_RELAXED)))
		return true;
	return lock_take_slow(lock, owner);
}

static inline void lock_release(uint32_t *lock)
{
	store_release(lock, 0);
}

/*
 * With the number of an owner: it may be a signal handler's call, which interrupted
 * its own thread where that holds a bucket of the table.  It waits for some time only.
 */
#define TM_OWNER_NESTED (UINT32_C(1) << 23)

/* The locks of one generation.  That of a shard has words of its own: segment.h. */
struct tm_lock {
	uint32_t word;
	uint32_t reserved[15];
};

struct tm_locks {
	struct tm_lock shard[TM_SHARDS];
	struct tm_lock intern;
};

_Static_assert(sizeof(struct tm_lock) == 64, "locks do not share cache lines");

static inline struct tm_locks *tm_locks(const struct tm_generation *generation)
{
	return (struct tm_locks *)generation->locks;
}

#endif
