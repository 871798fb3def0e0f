/*
 * The trace table for the usual block: malloc's, less than 32 KiB, in the first
 * bucket of its search.  Straight code of some fifty instructions that calls
 * nothing; what it finds unusual it leaves to table_put and table_take.
 *
 * For the hooks that malloc and free lead to.
 */
#ifndef TM_TABLE_USUAL_H
#define TM_TABLE_USUAL_H

#include "segment.h"
#include "table.h"

static TM_INLINE struct tm_bucket *usual_bucket(const struct tm_lock *lock, uint64_t address,
						uint64_t hash)
{
	return bucket_at(locked_segment(lock, hash), tm_first_bucket(address, hash));
}

/*
 * Programs allocate and free in the order of memory more than in any other: the line
 * after the next may be wanted soon.  Behind the segment's end it does no harm.
 */
static TM_INLINE void prefetch_ahead(const struct tm_bucket *bucket)
{
	tm_prefetch(bucket + 2);
}

/*
 * Records a block of the domain 0 where there was none at its address.  False: it
 * was not recorded and nothing has changed, call table_put.  `owner` as there.
 */
static TM_INLINE bool table_put_usual(const struct tm_generation *generation, uint32_t owner,
				      uint64_t address, uint64_t size, uint32_t traceback)
{
	uint64_t hash = tm_hash(address);
	struct tm_lock *lock = shard_lock_of(generation, hash);
	struct tm_bucket *bucket;
	uint32_t slot;

	/* Most of what table_put refuses, and what no program has. */
	if (unlikely(size >= TM_KEY_LARGE || (address - 2) >> (TM_ADDRESS_BITS - 1)))
		return false;
	if (unlikely(!shard_try_lock(lock, owner)))
		return false;
	bucket = usual_bucket(lock, address, hash);
	prefetch_ahead(bucket);
	slot = tm_free_slots(bucket);
	if (unlikely(!slot || tm_may_hold(bucket, address) ||
		     passed_count(bucket, tm_passed_shift(hash)))) {
		shard_unlock(lock);
		return false;
	}
	slot = (uint32_t)__builtin_ctz(slot);
	bucket->traceback[slot] = traceback;
	store_release(&bucket->key[slot], address | size << TM_KEY_SIZE_SHIFT);
	shard_unlock(lock);
	return true;
}

/*
 * Removes the record of an address in the domain 0 and tells its size.  False:
 * nothing has changed, call table_take.
 */
static TM_INLINE bool table_take_usual(const struct tm_generation *generation, uint32_t owner,
				       uint64_t address, uint64_t *size)
{
	uint64_t hash = tm_hash(address);
	struct tm_lock *lock = shard_lock_of(generation, hash);
	struct tm_bucket *bucket;
	bool is_usual;
	uint64_t *key;

	if (unlikely(!shard_try_lock(lock, owner)))
		return false;
	bucket = usual_bucket(lock, address, hash);
	prefetch_ahead(bucket);
	key = tm_key_like(bucket, address);
	/* All but the size goes to the upper bits, and is 0 if it is this block of the domain 0. */
	*size = tm_rotate_left(*key ^ address, 64 - TM_KEY_SIZE_SHIFT);
	is_usual = *size < TM_KEY_LARGE;
	if (likely(is_usual))
		store_release(key, UINT64_C(0));
	shard_unlock(lock);
	return is_usual;
}

#endif
