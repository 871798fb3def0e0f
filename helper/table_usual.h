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

/* The first bucket of an address' search, as the directory says before it is locked. */
struct usual_place {
	struct tm_bucket *bucket;
	const uint64_t *at; /* of the directory … */
	uint64_t entry;     /* … what stood there */
};

/*
 * Programs allocate and free in the order of memory more than in any other: the line
 * after the next may be wanted soon.  Behind the segment's end it does no harm.
 */
static TM_INLINE void prefetch_ahead(const struct tm_bucket *bucket)
{
	tm_prefetch(bucket + 3);
}

static TM_INLINE struct usual_place usual_place(const struct tm_generation *generation,
						uint64_t address)
{
	uint64_t hash = tm_hash(address);
	const uint64_t *at = entry_of(generation, hash);
	uint64_t entry = load_acquire(at);
	struct tm_bucket *bucket = bucket_at(entry_segment(entry), tm_first_bucket(address, hash));

	prefetch_ahead(bucket);
	return (struct usual_place){bucket, at, entry};
}

/*
 * What table_put_usual does once it knows the place.  That it is still right is seen
 * by a second look, with the lock held: who splits the segment holds the bucket until
 * the directory says so.
 */
static TM_INLINE bool usual_put_at(struct usual_place place, uint32_t owner, uint64_t address,
				   const uint64_t *size, const uint32_t *traceback)
{
	struct tm_bucket *bucket = place.bucket;
	uint32_t own = owner & TM_BUCKET_LOCK, passed = 0;
	uint64_t slot;

	if (unlikely(!bucket_try_lock(bucket, &passed, own))) {
		__asm__(""
			: "+r"(bucket)); /* or what is reckoned here is so on the short way, too */
		/* Where something passed it, if only it was not of our kind. */
		if (passed & (TM_BUCKET_LOCK | TM_PASSED_MANY
						       << tm_passed_shift(tm_hash(address))) ||
		    !bucket_try_lock(bucket, &passed, passed | own))
			return false;
	}
	slot = tm_free_slot(bucket);
	if (unlikely(load_relaxed(place.at) != place.entry || bucket->key[slot] ||
		     tm_may_hold(bucket, address))) {
		store_release(&bucket->passed, passed);
		return false;
	}
	bucket->traceback[slot] = *traceback;
	store_release(&bucket->key[slot], address | *size << TM_KEY_SIZE_SHIFT);
	store_release(&bucket->passed, passed);
	return true;
}

/*
 * Records a block of the domain 0 where there was none at its address.  False: it
 * was not recorded and nothing has changed, call table_put.  `owner` as there.  What is
 * read late takes no register meanwhile.
 */
static TM_INLINE bool table_put_usual(const struct tm_generation *generation, uint32_t owner,
				      uint64_t address, const uint64_t *size,
				      const uint32_t *traceback)
{
	/* Most of what table_put refuses, and what no program has. */
	if (unlikely(*size >= TM_KEY_LARGE || (address - 2) >> (TM_ADDRESS_BITS - 1)))
		return false;
	return usual_put_at(usual_place(generation, address), owner, address, size, traceback);
}

/*
 * What table_take_usual does once it knows the bucket.  A record that is in it while
 * we hold it counts: who splits the segment wipes those that went before he unlocks it.
 */
static TM_INLINE bool usual_take_at(struct tm_bucket *bucket, uint32_t owner, uint64_t address,
				    uint64_t *size)
{
	uint8_t *lock = bucket_lock_byte(bucket), none = 0;
	bool is_usual;
	uint64_t *key;

	if (unlikely(!__atomic_compare_exchange_n(lock, &none,
						  (uint8_t)(owner >> TM_BUCKET_LOCK_SHIFT), false,
						  __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		return false;
	key = tm_key_like(bucket, address);
	/* All but the size goes to the upper bits, and is 0 if it is this block of the domain 0. */
	*size = tm_rotate_left(*key ^ address, 64 - TM_KEY_SIZE_SHIFT);
	is_usual = *size < TM_KEY_LARGE;
	if (likely(is_usual))
		store_release(key, UINT64_C(0));
	store_release(lock, 0);
	return is_usual;
}

/*
 * Removes the record of an address in the domain 0 and tells its size.  False:
 * nothing has changed, call table_take.
 */
static TM_INLINE bool table_take_usual(const struct tm_generation *generation, uint32_t owner,
				       uint64_t address, uint64_t *size)
{
	return usual_take_at(usual_place(generation, address).bucket, owner, address, size);
}

#endif
