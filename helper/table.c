/*
 * The trace table: TM_SHARDS extendible hash tables whose segments are open
 * addressing tables of their own, a cache line of five records at a time.
 *
 * A search reads one line for most blocks, recorded or not.  A segment that
 * gets crowded gives half of its records to a new one (split.c), published with
 * one store for each directory entry; the half that stays is not touched.  So
 * growth costs some microseconds at a time, no record is moved while it counts,
 * and the table can be read with the process stopped at any instruction (the
 * rules are in tm_layout.h).
 *
 * Uses arena, lock, segment, thread and traceback; must never call a hooked function.
 */
#include "table.h"
#include "arena.h"
#include "segment.h"
#include "thread.h"
#include "traceback.h"

/* A record that would pass this many buckets makes us look whether its segment is crowded. */
#define FAR 4u

/*
 * Records that found the line of theirs full take the room of others, which then find
 * theirs full; a segment can stay so, crowded or not.  Of the searches that are longer
 * than LONG_WALK although there is room near their begin, each one of LONG_WALKS has
 * the segment renewed, which takes as long as some of them.
 */
#define LONG_WALK 16u
#define LONG_WALKS 32u

/* Where a record is, or could be. */
struct place {
	struct tm_bucket *bucket;
	uint32_t slot;
	uint32_t passed; /* buckets on the way to it */
};

static inline bool is_large(uint64_t size)
{
	return size >= TM_KEY_LARGE;
}

/* A key but for its size. */
static inline uint64_t key_of(uint64_t address, uint32_t domain)
{
	return address | (domain ? TM_KEY_FOREIGN : 0);
}

/* ---- records in a segment ---------------------------------------------- */

/* Of the slots with the key of an address in a domain that is not 0, that of this domain. */
static TM_NOINLINE uint32_t slots_of_domain(const struct tm_generation *generation,
					    const struct tm_bucket *bucket, uint32_t slots,
					    uint32_t domain)
{
	for (; slots; slots &= slots - 1) {
		uint32_t slot = (uint32_t)__builtin_ctz(slots);

		if (traceback_domain(generation, bucket->traceback[slot]) == domain)
			return 1u << slot;
	}
	return 0;
}

/* The slot of a record in this bucket, a bit; 0: it is not there. */
static inline uint32_t slot_of(const struct tm_generation *generation,
			       const struct tm_bucket *bucket, uint64_t wanted, uint32_t domain)
{
	uint32_t slots;

	if (likely(!tm_may_hold(bucket, wanted)))
		return 0;
	slots = slots_like(bucket, wanted);
	return unlikely(domain) && slots ? slots_of_domain(generation, bucket, slots, domain)
					 : slots;
}

/* Unlocks the first `count` buckets of an address' way. */
static void unlock_way(struct tm_segment *segment, uint64_t address, uint64_t hash, uint32_t count)
{
	uint64_t at = tm_first_bucket(address, hash);

	for (; count; count--, at = next_bucket(at, hash))
		bucket_unlock(bucket_at(segment, at));
}

/*
 * The record of an address in a domain.  Locks the buckets it looks at, and returns in
 * *locked how many; with owner 0 it does not.
 */
static TM_INLINE enum table_result find(const struct tm_generation *generation,
					struct tm_segment *segment, uint64_t address, uint64_t hash,
					uint32_t domain, uint32_t owner, uint32_t *locked,
					struct place *ret)
{
	uint64_t wanted = key_of(address, domain), at = tm_first_bucket(address, hash);
	uint32_t passed, slot;

	for (passed = 0; passed < TM_SEGMENT_BUCKETS; passed++, at = next_bucket(at, hash)) {
		struct tm_bucket *bucket = bucket_at(segment, at);

		*locked = passed;
		if (owner && unlikely(!bucket_lock(bucket, owner)))
			return TABLE_DROPPED;
		*locked = passed + 1;
		slot = slot_of(generation, bucket, wanted, domain);
		if (slot) {
			*ret = (struct place){bucket, (uint32_t)__builtin_ctz(slot), passed};
			return TABLE_FOUND;
		}
		if (!passed_count(bucket, tm_passed_shift(hash)))
			break;
	}
	return TABLE_NONE;
}

/* The slots of a bucket that have room for a record of this size. */
static inline uint32_t slots_for(const struct tm_bucket *bucket, uint64_t size)
{
	uint32_t slots = tm_free_slots(bucket);

	return unlikely(is_large(size)) ? slots & slots >> 1 : slots;
}

/*
 * Both in one go: the first place for a block's record, and the one that it
 * replaces; their buckets are NULL where there is none.  Tells how many buckets it looked
 * at, and locked.  False when one could not be locked.
 */
static bool find_both(const struct tm_generation *generation, struct tm_segment *segment,
		      const struct tm_block *block, uint64_t hash, uint32_t owner, uint32_t *locked,
		      struct place *room, struct place *old)
{
	uint64_t wanted = key_of(block->address, block->domain);
	uint64_t at = tm_first_bucket(block->address, hash);
	bool may_follow = true;
	uint32_t passed, slot;

	*room = *old = (struct place){NULL, 0, 0};
	for (passed = 0; passed < TM_SEGMENT_BUCKETS; passed++, at = next_bucket(at, hash)) {
		struct tm_bucket *bucket = bucket_at(segment, at);

		*locked = passed;
		if (unlikely(!bucket_lock(bucket, owner)))
			return false;
		*locked = passed + 1;
		slot = may_follow ? slot_of(generation, bucket, wanted, block->domain) : 0;
		if (unlikely(slot))
			*old = (struct place){bucket, (uint32_t)__builtin_ctz(slot), passed};
		may_follow = may_follow && !slot && passed_count(bucket, tm_passed_shift(hash));
		slot = room->bucket ? 0 : slots_for(bucket, block->size);
		if (slot)
			*room = (struct place){bucket, (uint32_t)__builtin_ctz(slot), passed};
		if (room->bucket && !may_follow)
			break;
	}
	return true;
}

/* Adds `by`, 1 or -1, to the counts of the buckets that a record passed. */
static TM_NOINLINE void count_passed(struct tm_segment *segment, uint64_t address, uint32_t passed,
				     uint32_t by)
{
	uint64_t hash = tm_hash(address), at = tm_first_bucket(address, hash);
	uint32_t shift = tm_passed_shift(hash);

	for (; passed; passed--, at = next_bucket(at, hash)) {
		struct tm_bucket *bucket = bucket_at(segment, at);

		if (passed_count(bucket, shift) != TM_PASSED_MANY)
			store_release(&bucket->passed, bucket->passed + (by << shift));
	}
}

/* `key`: without the size. */
static inline void store_record(struct tm_segment *segment, const struct place *place, uint64_t key,
				uint64_t size, uint32_t traceback)
{
	struct tm_bucket *bucket = place->bucket;
	uint32_t slot = place->slot;

	if (unlikely(place->passed))
		count_passed(segment, tm_key_address(key), place->passed, 1);
	if (unlikely(is_large(size))) {
		bucket->traceback[slot + 1] = (uint32_t)size;
		store_release(&bucket->key[slot + 1],
			      TM_KEY_SIZE | size >> 32 << TM_KEY_SIZE_SHIFT);
		size = TM_KEY_LARGE;
	}
	bucket->traceback[slot] = traceback;
	store_release(&bucket->key[slot], key | size << TM_KEY_SIZE_SHIFT);
}

static inline void remove_record(struct tm_segment *segment, const struct place *place)
{
	struct tm_bucket *bucket = place->bucket;
	uint32_t slot = place->slot;
	uint64_t key = bucket->key[slot];

	store_release(&bucket->key[slot], 0);
	if (unlikely(tm_key_size(key) == TM_KEY_LARGE))
		store_release(&bucket->key[slot + 1], 0);
	if (unlikely(place->passed))
		count_passed(segment, tm_key_address(key), place->passed, (uint32_t)-1);
}

/* What a record says beside its address and domain. */
static void read_record(const struct place *place, struct tm_block *ret)
{
	ret->size = tm_bucket_size(place->bucket, place->slot);
	ret->traceback = place->bucket->traceback[place->slot];
}

/* ---- put, take, find --------------------------------------------------- */

static inline bool is_recordable(uint64_t address)
{
	return address > 1 && address <= TM_ADDRESS_MASK;
}

static inline struct tm_shard *shard_of(const struct tm_generation *generation, uint64_t hash)
{
	return &shards_of(generation)[tm_shard_of(tm_bent(hash))];
}

/* Looks at a lock that is held, before one asks who may hold it: a tenth of a second. */
#define LONG_WAIT (sys_is_quiet() ? UINT32_C(1) << 22 : 2000)

bool shard_lock_slow(struct tm_generation *generation, struct tm_lock *lock, uint32_t owner)
{
	uint32_t own = owner & ~TM_OWNER_NESTED, turns;

	for (turns = 0;; turns++) {
		uint32_t seen = load_relaxed(&lock->word);

		if (seen == own || (owner != own && turns >= LONG_WAIT))
			return false;
		if ((seen == 0 || seen == SHARD_UNLOCKED) &&
		    __atomic_compare_exchange_n(&lock->word, &seen, own, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED)) {
			if (seen == 0)
				directory_tell(generation,
					       (uint64_t)(lock - tm_locks(generation)->shard));
			return true;
		}
		lock_wait(turns);
	}
}

/*
 * A signal handler may leave by siglongjmp the short way of a thread that holds a
 * bucket.  Then no thread is in the middle of a hook, and the bucket is held still.
 */
bool bucket_lock_slow(struct tm_bucket *bucket, uint32_t owner)
{
	uint32_t own = owner & TM_BUCKET_LOCK, turns;

	for (turns = 0;; turns++) {
		uint32_t seen = load_relaxed(&bucket->passed), holder = seen & TM_BUCKET_LOCK;
		bool is_long = turns >= LONG_WAIT;

		if (unlikely(is_long && owner & TM_OWNER_NESTED))
			return false;
		if ((!holder || holder != own || (is_long && !thread_any_other_inside(owner))) &&
		    bucket_try_lock(bucket, &seen, (seen & ~TM_BUCKET_LOCK) | own))
			return true;
		lock_wait(turns);
	}
}

enum table_result table_put(struct tm_generation *generation, uint32_t owner,
			    const struct tm_block *block, uint64_t *replaced)
{
	uint64_t address = block->address, hash = tm_hash(address);
	uint64_t key = key_of(address, block->domain);
	struct tm_lock *lock = shard_lock_of(generation, hash);
	enum table_result result = TABLE_NONE;
	struct tm_segment *segment;
	struct place old, place;
	bool stays = false, is_seen;
	uint32_t locked;

	*replaced = 0;
	if (unlikely(!is_recordable(address) || block->size > TM_MAX_SIZE))
		return TABLE_DROPPED;
	if (unlikely(!shard_lock(generation, lock, owner)))
		return TABLE_DROPPED;
	for (;;) {
		segment = entry_segment(*entry_of(generation, hash));
		is_seen = find_both(generation, segment, block, hash, owner, &locked, &place, &old);
		if (likely(is_seen && place.bucket && (place.passed < FAR || stays)))
			break;
		unlock_way(segment, address, hash, locked);
		if (is_seen && segment_split(generation, shard_of(generation, hash), owner, hash,
					     place.bucket != NULL))
			continue;
		if (!is_seen || !place.bucket) {
			shard_unlock(lock);
			return TABLE_DROPPED;
		}
		stays = true;
	}
	/* Where a free was not seen, the old record goes first, so none is half new. */
	if (unlikely(old.bucket)) {
		*replaced = tm_bucket_size(old.bucket, old.slot);
		remove_record(segment, &old);
		result = TABLE_FOUND;
	}
	store_record(segment, &place, key, block->size, block->traceback);
	unlock_way(segment, address, hash, locked);
	if (unlikely(locked > LONG_WALK && place.passed < FAR &&
		     ++shard_of(generation, hash)->long_walks % LONG_WALKS == 0))
		segment_renew(generation, shard_of(generation, hash), owner, hash);
	shard_unlock(lock);
	return result;
}

enum table_result table_take(struct tm_generation *generation, uint32_t owner, uint64_t address,
			     uint32_t domain, struct tm_block *ret)
{
	uint64_t hash = tm_hash(address);
	struct tm_lock *lock = shard_lock_of(generation, hash);
	enum table_result result;
	struct tm_segment *segment;
	struct place place;
	uint32_t locked;

	if (unlikely(!is_recordable(address)))
		return TABLE_NONE;
	if (unlikely(!shard_lock(generation, lock, owner)))
		return TABLE_DROPPED;
	segment = entry_segment(*entry_of(generation, hash));
	result = find(generation, segment, address, hash, domain, owner, &locked, &place);
	if (likely(result == TABLE_FOUND)) {
		ret->address = address;
		ret->domain = domain;
		read_record(&place, ret);
		remove_record(segment, &place);
	} else if (result == TABLE_NONE) {
		shard_of(generation, hash)->untracked_frees++;
	}
	unlock_way(segment, address, hash, locked);
	shard_unlock(lock);
	return result;
}

bool table_find(const struct tm_generation *generation, uint64_t address, uint32_t domain,
		struct tm_block *ret)
{
	uint64_t hash = tm_hash(address);
	struct place place;
	uint32_t looked;

	if (!is_recordable(address) ||
	    find(generation, segment_of(load_acquire(&shard_of(generation, hash)->directory), hash),
		 address, hash, domain, 0, &looked, &place) != TABLE_FOUND)
		return false;
	ret->address = address;
	ret->domain = domain;
	read_record(&place, ret);
	return true;
}
