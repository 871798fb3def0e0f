/* Where a block is in the table: shard, segment, bucket, slot, and their locks.  For its parts. */
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

/* Where it is not simply free: as shard_lock.  table.c */
bool shard_lock_slow(struct tm_generation *generation, struct tm_lock *lock,
		     uint32_t owner) TM_HIDDEN;

/*
 * Takes it; false when `owner` holds it already, or with TM_OWNER_NESTED: when somebody
 * does, who perhaps waits for a bucket that this very thread holds.
 */
static inline bool shard_lock(struct tm_generation *generation, struct tm_lock *lock,
			      uint32_t owner)
{
	uint32_t expected = SHARD_UNLOCKED;

	return likely(__atomic_compare_exchange_n(&lock->word, &expected, owner & ~TM_OWNER_NESTED,
						  false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) ||
	       shard_lock_slow(generation, lock, owner);
}

static inline void shard_unlock(struct tm_lock *lock)
{
	store_release(&lock->word, SHARD_UNLOCKED);
}

/* ---- the directory, ready to use -------------------------------------------- */

/*
 * tm_generation.directories has for each shard where entry 0 of a directory of all
 * shards would be, of which this shard's is a part; and in the low six bits how many
 * low bits of tm_bent do not belong to an entry's number.  Written after the shard's
 * `directory`, with the lock of the shard.  A child of fork may find the old one: it
 * is right until a segment is split, and who first takes the lock there writes it.
 */
static inline void directory_tell(struct tm_generation *generation, uint64_t shard)
{
	uint32_t depth;
	uint64_t directory = (uint64_t)directory_of(shards_of(generation)[shard].directory, &depth);

	directory -= (shard + TM_FIRST_SHARD) * sizeof(uint64_t) << depth;
	store_release(&generation->directories[shard], directory | (64 - TM_SHARD_BITS - depth));
}

/* The entry of a hash. */
static inline const uint64_t *entry_of(const struct tm_generation *generation, uint64_t hash)
{
	uint64_t bent = tm_bent(hash);
	uint64_t word = load_acquire(
		&generation->directories[(bent >> (64 - TM_SHARD_BITS)) - TM_FIRST_SHARD]);

	return (const uint64_t *)(word & ~TM_DIRECTORY_DEPTH_MASK) +
	       (bent >> (word & TM_DIRECTORY_DEPTH_MASK));
}

static inline struct tm_segment *entry_segment(uint64_t entry)
{
	return (struct tm_segment *)(entry & ~TM_SEGMENT_DEPTH_MASK);
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

/* *seen: what `passed` is expected to be, and where the lock is not taken, what it is. */
static inline bool bucket_try_lock(struct tm_bucket *bucket, uint32_t *seen, uint32_t locked)
{
	return __atomic_compare_exchange_n(&bucket->passed, seen, locked, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

/* Where it is not simply free: as bucket_lock.  table.c */
bool bucket_lock_slow(struct tm_bucket *bucket, uint32_t owner) TM_HIDDEN;

/*
 * The lock of a bucket, see tm_layout.h.  `owner`: a thread's lock number, whose highest
 * byte is that of its process.  Whoever waits for one holds the lock of the shard;
 * and whoever holds one without that waits for nothing.  False, with TM_OWNER_NESTED
 * alone: somebody holds it, perhaps this very thread.
 */
static inline bool bucket_lock(struct tm_bucket *bucket, uint32_t owner)
{
	uint32_t seen = load_relaxed(&bucket->passed);

	return likely(!(seen & TM_BUCKET_LOCK) &&
		      bucket_try_lock(bucket, &seen, seen | (owner & TM_BUCKET_LOCK))) ||
	       bucket_lock_slow(bucket, owner);
}

/* The lock alone. */
static inline uint8_t *bucket_lock_byte(struct tm_bucket *bucket)
{
	return (uint8_t *)&bucket->passed + TM_BUCKET_LOCK_SHIFT / 8;
}

static inline void bucket_unlock(struct tm_bucket *bucket)
{
	store_release(&bucket->passed, bucket->passed & ~TM_BUCKET_LOCK);
}

/* ---- segment.c ----------------------------------------------------------- */

/* A segment without records, not yet named by a directory.  NULL when there is no memory. */
struct tm_segment *segment_new(struct tm_generation *generation, struct tm_shard *shard) TM_HIDDEN;

/* Memory for the entries of a directory of this depth.  NULL when there is none. */
uint64_t *directory_new(struct tm_generation *generation, struct tm_shard *shard,
			uint32_t depth) TM_HIDDEN;

/*
 * Of a directory that was replaced: each entry now names a segment whose buckets are
 * locked for ever.  So who still has its address does nothing with it.
 */
void directory_close(struct tm_generation *generation, uint64_t *directory,
		     uint32_t depth) TM_HIDDEN;

/* ---- split.c ------------------------------------------------------------- */

/*
 * For a hash whose record passes many buckets, or finds no room at all: splits the
 * hash's segment when it is crowded.  The lock of the shard is held, and none of a
 * bucket.  False when the segment stays as it is.
 */
bool segment_split(struct tm_generation *generation, struct tm_shard *shard, uint32_t owner,
		   uint64_t hash, bool has_room) TM_HIDDEN;

/*
 * For a hash with room near the begin of its search, which is long all the same: gives
 * all records of its segment to another one, where they come to lie where their
 * searches begin as far as there is room.  Locks as above.
 */
void segment_renew(struct tm_generation *generation, struct tm_shard *shard, uint32_t owner,
		   uint64_t hash) TM_HIDDEN;

#endif
