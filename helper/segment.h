/* Where a block is in the table: shard, segment, bucket, slot.  For the parts of the table. */
#ifndef TM_SEGMENT_H
#define TM_SEGMENT_H

#include "arch.h"
#include "lock.h"

static inline struct tm_shard *shards_of(const struct tm_generation *generation)
{
	return (struct tm_shard *)generation->shards;
}

static inline uint64_t *directory_of(uint64_t word, uint32_t *depth)
{
	*depth = (uint32_t)(word & TM_DIRECTORY_DEPTH_MASK);
	return (uint64_t *)(word & ~TM_DIRECTORY_DEPTH_MASK);
}

/* The segment where a directory (its word in the shard) says that a hash belongs. */
static inline struct tm_segment *segment_of(uint64_t word, uint64_t hash)
{
	uint32_t depth;
	uint64_t *directory = directory_of(word, &depth);
	uint64_t entry = load_acquire(&directory[tm_entry_of(tm_bent(hash), depth)]);

	return (struct tm_segment *)(entry & ~TM_SEGMENT_DEPTH_MASK);
}

/* ---- the lock of a shard -------------------------------------------------- */

/* Its word: this, the owner's number, or 0: nobody took it yet in this process. */
#define SHARD_UNLOCKED UINT32_MAX

static inline struct tm_lock *shard_lock_of(const struct tm_generation *generation, uint64_t hash)
{
	return &tm_locks(generation)->shard[tm_shard_of(tm_bent(hash))];
}

/* Tells the lock, which is held, where the directory is. */
static inline void lock_directory(const struct tm_generation *generation, struct tm_lock *lock)
{
	uint64_t shard = (uint64_t)(lock - tm_locks(generation)->shard);
	uint32_t depth;
	uint64_t directory = (uint64_t)directory_of(shards_of(generation)[shard].directory, &depth);

	directory -= (shard + TM_FIRST_SHARD) * sizeof(uint64_t) << depth;
	store_relaxed(&lock->directory, directory | (64 - TM_SHARD_BITS - depth));
}

/* The segment where a hash belongs; the lock is held. */
static inline struct tm_segment *locked_segment(const struct tm_lock *lock, uint64_t hash)
{
	uint64_t word = lock->directory;
	const uint64_t *entries = (const uint64_t *)(word & ~TM_DIRECTORY_DEPTH_MASK);
	uint64_t entry = entries[tm_bent(hash) >> (word & TM_DIRECTORY_DEPTH_MASK)];

	return (struct tm_segment *)(entry & ~TM_SEGMENT_DEPTH_MASK);
}

/* Where it is not simply free: as shard_lock.  table.c */
bool shard_lock_slow(const struct tm_generation *generation, struct tm_lock *lock,
		     uint32_t owner) TM_HIDDEN;

/* Takes it; false when `owner` holds it already. */
static inline bool shard_lock(const struct tm_generation *generation, struct tm_lock *lock,
			      uint32_t owner)
{
	uint32_t expected = SHARD_UNLOCKED;

	return likely(__atomic_compare_exchange_n(&lock->word, &expected, owner, false,
						  __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) ||
	       shard_lock_slow(generation, lock, owner);
}

/* The same, but false also when somebody else holds it, or nobody took it yet. */
static inline bool shard_try_lock(struct tm_lock *lock, uint32_t owner)
{
	uint32_t expected = SHARD_UNLOCKED;

	return __atomic_compare_exchange_n(&lock->word, &expected, owner, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static inline void shard_unlock(struct tm_lock *lock)
{
	store_release(&lock->word, SHARD_UNLOCKED);
}

/* ---- buckets -------------------------------------------------------------- */

/* `at`: how far from the segment's begin, as tm_first_bucket tells it. */
static inline struct tm_bucket *bucket_at(const struct tm_segment *segment, uint64_t at)
{
	return (struct tm_bucket *)((uint64_t)segment + at);
}

static inline uint64_t next_bucket(uint64_t at, uint64_t hash)
{
	return (at + tm_bucket_step(hash)) % sizeof(struct tm_segment);
}

static inline uint32_t passed_count(const struct tm_bucket *bucket, uint32_t shift)
{
	return load_relaxed(&bucket->passed) >> shift & TM_PASSED_MANY;
}

/* The slots whose keys differ from `wanted` in no more than the size, a bit each. */
static inline uint32_t slots_like(const struct tm_bucket *bucket, uint64_t wanted)
{
	uint32_t found = 0, i;

	for (i = 0; i < TM_BUCKET_SLOTS; i++)
		found |= (uint32_t) !((load_relaxed(&bucket->key[i]) ^ wanted) & ~TM_KEY_SIZE_MASK)
			 << i;
	return found;
}

/* ---- segment.c ----------------------------------------------------------- */

/* A segment without records, not yet named by a directory.  NULL when there is no memory. */
struct tm_segment *segment_new(struct tm_generation *generation, struct tm_shard *shard) TM_HIDDEN;

/* Memory for the entries of a directory of this depth.  NULL when there is none. */
uint64_t *directory_new(struct tm_generation *generation, struct tm_shard *shard,
			uint32_t depth) TM_HIDDEN;

/* ---- split.c ------------------------------------------------------------- */

/*
 * For a hash whose record passes many buckets, or finds no room at all: splits the
 * hash's segment when it is crowded.  The lock is held.  False when the segment
 * stays as it is.
 */
bool segment_split(struct tm_generation *generation, struct tm_shard *shard, struct tm_lock *lock,
		   uint64_t hash, bool has_room) TM_HIDDEN;

#endif
