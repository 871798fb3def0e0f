/*
 * The trace table: TM_SHARDS extendible hash tables whose segments are open
 * addressing tables of their own, a cache line of five records at a time.
 *
 * A search reads one line for most blocks, recorded or not.  A segment that
 * gets crowded gives half of its records to a new one, which is published with
 * one store for each directory entry; the half that stays is not touched.  So
 * growth costs some microseconds at a time, no record is moved while it counts,
 * and the table can be read with the process stopped at any instruction (the
 * rules are in tm_layout.h).
 *
 * Uses arena, lock and traceback; must never call a hooked function.
 */
#include "table.h"
#include "arena.h"
#include "lock.h"
#include "segment.h"
#include "traceback.h"

/* A record that would pass this many buckets makes us look whether its segment is crowded. */
#define FAR 6u

#define SEGMENT_SLOTS (TM_SEGMENT_BUCKETS * TM_BUCKET_SLOTS)
#define CROWDED (SEGMENT_SLOTS / 5 * 4) /* slots in use */

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
	return address << TM_KEY_ADDRESS_SHIFT | (domain ? TM_KEY_FOREIGN : 0);
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
	uint32_t slots = slots_like(bucket, wanted);

	return unlikely(domain) && slots ? slots_of_domain(generation, bucket, slots, domain)
					 : slots;
}

static TM_NOINLINE bool find_further(const struct tm_generation *generation,
				     struct tm_segment *segment, uint64_t hash, uint64_t wanted,
				     uint32_t domain, struct place *ret)
{
	uint32_t i = tm_first_bucket(hash), passed, slot;

	for (passed = 1; passed < TM_SEGMENT_BUCKETS; passed++) {
		struct tm_bucket *bucket;

		if (!passed_count(&segment->bucket[i], tm_passed_shift(hash)))
			break;
		i = next_bucket(i, hash);
		bucket = &segment->bucket[i];
		slot = slot_of(generation, bucket, wanted, domain);
		if (slot) {
			*ret = (struct place){bucket, (uint32_t)__builtin_ctz(slot), passed};
			return true;
		}
	}
	return false;
}

/* The record of an address in a domain.  False when there is none. */
static bool find(const struct tm_generation *generation, struct tm_segment *segment, uint64_t hash,
		 uint64_t address, uint32_t domain, struct place *ret)
{
	struct tm_bucket *bucket = &segment->bucket[tm_first_bucket(hash)];
	uint64_t wanted = key_of(address, domain);
	uint32_t slot = slot_of(generation, bucket, wanted, domain);

	if (likely(slot)) {
		*ret = (struct place){bucket, (uint32_t)__builtin_ctz(slot), 0};
		return true;
	}
	return unlikely(passed_count(bucket, tm_passed_shift(hash))) &&
	       find_further(generation, segment, hash, wanted, domain, ret);
}

/* The slots of a bucket that have room for a record of this size. */
static inline uint32_t slots_for(const struct tm_bucket *bucket, uint64_t size)
{
	uint32_t slots = slots_free(bucket);

	return unlikely(is_large(size)) ? slots & slots >> 1 : slots;
}

static TM_NOINLINE bool find_room_further(struct tm_segment *segment, uint64_t hash, uint64_t size,
					  struct place *ret)
{
	uint32_t i = tm_first_bucket(hash), passed;

	for (passed = 1; passed < TM_SEGMENT_BUCKETS; passed++) {
		uint32_t slots;

		i = next_bucket(i, hash);
		slots = slots_for(&segment->bucket[i], size);
		if (slots) {
			*ret = (struct place){&segment->bucket[i], (uint32_t)__builtin_ctz(slots),
					      passed};
			return true;
		}
	}
	return false;
}

/* The first place for a record of this size.  False when there is none. */
static bool find_room(struct tm_segment *segment, uint64_t hash, uint64_t size, struct place *ret)
{
	struct tm_bucket *bucket = &segment->bucket[tm_first_bucket(hash)];
	uint32_t slots = slots_for(bucket, size);

	if (likely(slots)) {
		*ret = (struct place){bucket, (uint32_t)__builtin_ctz(slots), 0};
		return true;
	}
	return find_room_further(segment, hash, size, ret);
}

/* Adds `by`, 1 or -1, to the counts of the buckets that a record passed. */
static TM_NOINLINE void count_passed(struct tm_segment *segment, uint64_t hash, uint32_t passed,
				     uint32_t by)
{
	uint32_t i = tm_first_bucket(hash), shift = tm_passed_shift(hash);

	for (; passed; passed--, i = next_bucket(i, hash)) {
		struct tm_bucket *bucket = &segment->bucket[i];

		if (passed_count(bucket, shift) != TM_PASSED_MANY)
			store_release(&bucket->passed, bucket->passed + (by << shift));
	}
}

static inline void store_record(struct tm_segment *segment, uint64_t hash,
				const struct place *place, uint64_t key, uint64_t size,
				uint32_t traceback)
{
	struct tm_bucket *bucket = place->bucket;
	uint32_t slot = place->slot;

	if (unlikely(place->passed))
		count_passed(segment, hash, place->passed, 1);
	if (unlikely(is_large(size))) {
		bucket->traceback[slot + 1] = (uint32_t)size;
		store_release(&bucket->key[slot + 1], TM_KEY_SIZE | size >> 32);
		size = TM_KEY_LARGE;
	}
	bucket->traceback[slot] = traceback;
	store_release(&bucket->key[slot], key | size);
}

static inline void remove_record(struct tm_segment *segment, uint64_t hash,
				 const struct place *place)
{
	struct tm_bucket *bucket = place->bucket;
	uint32_t slot = place->slot;
	uint64_t size = bucket->key[slot] & TM_KEY_SIZE_MASK;

	store_release(&bucket->key[slot], 0);
	if (unlikely(size == TM_KEY_LARGE))
		store_release(&bucket->key[slot + 1], 0);
	if (unlikely(place->passed))
		count_passed(segment, hash, place->passed, (uint32_t)-1);
}

/* What a record says beside its address and domain. */
static void read_record(const struct place *place, struct tm_block *ret)
{
	ret->size = tm_bucket_size(place->bucket, place->slot);
	ret->traceback = place->bucket->traceback[place->slot];
}

/* ---- growth ------------------------------------------------------------ */

/* What a key in this slot stands for, when a child of fork finds it, may be nothing any more. */
static bool is_left_over(uint64_t word, const struct tm_segment *segment,
			 const struct tm_bucket *bucket, uint32_t slot)
{
	uint64_t key = bucket->key[slot], before = slot ? bucket->key[slot - 1] : 0;

	if (tm_key_is_size(key))
		return !tm_key_is_block(before) || (before & TM_KEY_SIZE_MASK) != TM_KEY_LARGE;
	return tm_key_is_block(key) && segment_of(word, tm_hash(tm_key_address(key))) != segment;
}

/* Removes what does not count. */
static void sweep(uint64_t word, struct tm_segment *segment)
{
	uint32_t i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		struct tm_bucket *bucket = &segment->bucket[i];

		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++) {
			struct place place = {bucket, slot, 0};
			uint64_t hash = tm_hash(tm_key_address(bucket->key[slot]));
			uint32_t at = tm_first_bucket(hash);

			if (!is_left_over(word, segment, bucket, slot))
				continue;
			if (tm_key_is_size(bucket->key[slot])) {
				store_release(&bucket->key[slot], 0);
				continue;
			}
			for (; at != i; at = next_bucket(at, hash))
				place.passed++;
			remove_record(segment, hash, &place);
		}
	}
}

static uint64_t *directory_double(struct tm_generation *generation, struct tm_shard *shard,
				  struct tm_lock *lock)
{
	uint32_t depth, i;
	uint64_t *old = directory_of(shard->directory, &depth);
	uint64_t *larger = directory_new(generation, shard, depth + 1);

	if (!larger)
		return NULL;
	for (i = 0; i < UINT32_C(1) << depth; i++)
		larger[2 * i] = larger[2 * i + 1] = old[i];
	store_release(&shard->directory, (uint64_t)larger | (depth + 1));
	store_relaxed(&lock->directory, shard->directory);
	return larger;
}

/* Which half of its segment, made for `depth` bits, a hash belongs to. */
static uint32_t side_of(uint64_t hash, uint32_t depth)
{
	return tm_entry_of(tm_bent(hash), depth + 1) & 1;
}

/* Copies the records of the second side that take two slots, or those that take one. */
static void copy_side(const struct tm_segment *from, struct tm_segment *to, uint32_t depth,
		      bool large)
{
	uint32_t i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		const struct tm_bucket *bucket = &from->bucket[i];

		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++) {
			uint64_t key = bucket->key[slot];
			uint64_t hash = tm_hash(tm_key_address(key));
			uint64_t size = tm_bucket_size(bucket, slot);
			struct place place;

			if (tm_key_is_block(key) && is_large(size) == large &&
			    side_of(hash, depth) && find_room(to, hash, size, &place))
				store_record(to, hash, &place, key & ~TM_KEY_SIZE_MASK, size,
					     bucket->traceback[slot]);
		}
	}
}

/*
 * Whether about half of the records would go.  Of a full segment it is enough
 * that some later split parts one from the new record's hash: addresses in some
 * strides have hashes close to each other.  With many domains at one address
 * none ever does.
 */
static bool can_be_parted(const struct tm_segment *segment, uint64_t new, uint32_t depth,
			  uint32_t used, bool has_room)
{
	uint32_t sides[2] = {0, 0}, finest = tm_entry_of(tm_bent(new), TM_MAX_DEPTH), i, slot;
	bool differ = false;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++) {
			uint64_t key = segment->bucket[i].key[slot];
			uint64_t hash = tm_hash(tm_key_address(key));

			if (!tm_key_is_block(key))
				continue;
			differ |= tm_entry_of(tm_bent(hash), TM_MAX_DEPTH) != finest;
			sides[side_of(hash, depth)]++;
		}
	}
	return has_room ? sides[0] > used / 16 && sides[1] > used / 16 : differ;
}

static uint32_t used_slots(const struct tm_segment *segment)
{
	uint32_t used = 0, i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++)
		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++)
			used += segment->bucket[i].key[slot] != 0;
	return used;
}

/* Splits the segment of a hash when it is crowded.  False when it stays as it is. */
static TM_NOINLINE bool segment_split(struct tm_generation *generation, struct tm_shard *shard,
				      struct tm_lock *lock, uint64_t hash, bool has_room)
{
	struct tm_segment *segment = segment_of(shard->directory, hash), *new;
	uint32_t used = used_slots(segment), depth, bits, i, first, count;
	uint64_t *directory = directory_of(shard->directory, &depth);

	if (used <= CROWDED && has_room)
		return false;
	sweep(shard->directory, segment);
	bits = directory[tm_entry_of(tm_bent(hash), depth)] & TM_SEGMENT_DEPTH_MASK;
	if (bits >= TM_MAX_DEPTH || !can_be_parted(segment, hash, bits, used, has_room))
		return false;
	if (bits == depth) {
		directory = directory_double(generation, shard, lock);
		if (!directory)
			return false;
		depth++;
	}
	new = segment_new(generation, shard);
	if (!new)
		return false;
	/* In this order all find room, however full the old one is and however few stay there. */
	copy_side(segment, new, bits, true);
	copy_side(segment, new, bits, false);
	count = UINT32_C(1) << (depth - bits);
	first = tm_entry_of(tm_bent(hash), depth) & ~(count - 1);
	for (i = 0; i < count; i++)
		if ((directory[first + i] & ~TM_SEGMENT_DEPTH_MASK) == (uint64_t)segment)
			store_release(&directory[first + i],
				      (uint64_t)(i < count / 2 ? segment : new) | (bits + 1));
	sweep(shard->directory, segment);
	return true;
}

/* ---- put, take, find --------------------------------------------------- */

static inline bool is_recordable(uint64_t address)
{
	return address > TM_KEY_SIZE >> TM_KEY_ADDRESS_SHIFT && address <= TM_ADDRESS_MASK;
}

/* What to do it all with: the lock and the shard of a hash. */
static inline struct tm_lock *lock_of(const struct tm_generation *generation, uint64_t hash)
{
	return &tm_locks(generation)->shard[tm_shard_of(tm_bent(hash))];
}

static inline struct tm_shard *shard_of(const struct tm_generation *generation, uint64_t hash)
{
	return &shards_of(generation)[tm_shard_of(tm_bent(hash))];
}

/* The lock is held. */
static inline struct tm_segment *locked_segment(const struct tm_generation *generation,
						struct tm_lock *lock, uint64_t hash)
{
	if (unlikely(!lock->directory))
		store_relaxed(&lock->directory, shard_of(generation, hash)->directory);
	return segment_of(lock->directory, hash);
}

/* The same for a record that is not as most are; the lock is held. */
static TM_NOINLINE enum table_result put_further(struct tm_generation *generation,
						 struct tm_lock *lock, uint64_t hash,
						 const struct tm_block *block, uint64_t *replaced)
{
	uint64_t key = key_of(block->address, block->domain);
	struct tm_segment *segment;
	struct place old, place;

	for (;;) {
		bool has_room;

		segment = segment_of(lock->directory, hash);
		has_room = find_room(segment, hash, block->size, &place);
		if (likely(has_room && place.passed < FAR))
			break;
		if (segment_split(generation, shard_of(generation, hash), lock, hash, has_room))
			continue;
		if (has_room)
			break;
		return TABLE_DROPPED;
	}
	/* Where a free was not seen, the old record goes first, so none is half new. */
	if (unlikely(find(generation, segment, hash, block->address, block->domain, &old))) {
		*replaced = tm_bucket_size(old.bucket, old.slot);
		remove_record(segment, hash, &old);
		store_record(segment, hash, &place, key, block->size, block->traceback);
		return TABLE_FOUND;
	}
	store_record(segment, hash, &place, key, block->size, block->traceback);
	return TABLE_NONE;
}

enum table_result table_put(struct tm_generation *generation, uint32_t owner,
			    const struct tm_block *block, uint64_t *replaced)
{
	uint64_t address = block->address, size = block->size, hash = tm_hash(address);
	uint64_t key = key_of(address, block->domain);
	struct tm_lock *lock = lock_of(generation, hash);
	enum table_result result = TABLE_NONE;
	struct tm_bucket *bucket;
	uint32_t room;

	*replaced = 0;
	if (unlikely(!is_recordable(address) || size > TM_MAX_SIZE))
		return TABLE_DROPPED;
	if (unlikely(!lock_take(&lock->word, owner)))
		return TABLE_DROPPED;
	bucket = &locked_segment(generation, lock, hash)->bucket[tm_first_bucket(hash)];
	room = slots_free(bucket);
	if (likely(room && !is_large(size) && !slots_like(bucket, key) &&
		   !passed_count(bucket, tm_passed_shift(hash)))) {
		uint32_t slot = (uint32_t)__builtin_ctz(room);

		bucket->traceback[slot] = block->traceback;
		store_release(&bucket->key[slot], key | size);
	} else {
		result = put_further(generation, lock, hash, block, replaced);
	}
	lock_release(&lock->word);
	return result;
}

/* The same for a record that is not as most are; the lock is held. */
static TM_NOINLINE enum table_result take_further(struct tm_generation *generation,
						  struct tm_lock *lock, uint64_t hash,
						  struct tm_block *ret)
{
	struct tm_segment *segment = segment_of(lock->directory, hash);
	struct place place;

	if (!find(generation, segment, hash, ret->address, ret->domain, &place)) {
		shard_of(generation, hash)->untracked_frees++;
		return TABLE_NONE;
	}
	read_record(&place, ret);
	remove_record(segment, hash, &place);
	return TABLE_FOUND;
}

enum table_result table_take(struct tm_generation *generation, uint32_t owner, uint64_t address,
			     uint32_t domain, struct tm_block *ret)
{
	uint64_t hash = tm_hash(address), size;
	struct tm_lock *lock = lock_of(generation, hash);
	enum table_result result = TABLE_FOUND;
	struct tm_bucket *bucket;
	uint32_t slots, slot;

	if (unlikely(!is_recordable(address)))
		return TABLE_NONE;
	if (unlikely(!lock_take(&lock->word, owner)))
		return TABLE_DROPPED;
	ret->address = address;
	ret->domain = domain;
	bucket = &locked_segment(generation, lock, hash)->bucket[tm_first_bucket(hash)];
	slots = slots_like(bucket, key_of(address, 0));
	slot = (uint32_t)__builtin_ctz(slots | 1u << (TM_BUCKET_SLOTS - 1));
	size = bucket->key[slot] & TM_KEY_SIZE_MASK;
	if (likely(slots && !domain && size != TM_KEY_LARGE)) {
		ret->size = size;
		ret->traceback = bucket->traceback[slot];
		store_release(&bucket->key[slot], UINT64_C(0));
	} else {
		result = take_further(generation, lock, hash, ret);
	}
	lock_release(&lock->word);
	return result;
}

bool table_find(const struct tm_generation *generation, uint64_t address, uint32_t domain,
		struct tm_block *ret)
{
	uint64_t hash = tm_hash(address);
	struct place place;

	if (!is_recordable(address) ||
	    !find(generation,
		  segment_of(load_acquire(&shard_of(generation, hash)->directory), hash), hash,
		  address, domain, &place))
		return false;
	ret->address = address;
	ret->domain = domain;
	read_record(&place, ret);
	return true;
}
