/*
 * Growth of the trace table: a crowded segment gives about half of its records to
 * a new one, which is published with one store for each directory entry.  The
 * records that stay are not touched, and the half that goes is wiped afterwards,
 * so no record is moved while it counts.  In the same way a segment gives all of them
 * to another one when too many do not lie where their searches begin.
 *
 * Uses segment; the shard's lock is held, and those of a segment's buckets are taken.
 * Must never call a hooked function.
 */
#include "segment.h"

#define SEGMENT_SLOTS (TM_SEGMENT_BUCKETS * TM_BUCKET_SLOTS)
#define CROWDED (SEGMENT_SLOTS / 5 * 4) /* slots in use */

/* What becomes of a segment's records: a bit for each slot of each bucket. */
struct parting {
	uint8_t goes[TM_SEGMENT_BUCKETS];    /* to the new segment */
	uint8_t further[TM_SEGMENT_BUCKETS]; /* of these, not in the first bucket of its search */
	uint32_t staying, going;             /* how many */
};

static inline bool is_large(uint64_t key)
{
	return tm_key_size(key) == TM_KEY_LARGE;
}

/* Adds `by`, 1 or -1, to the counts of the buckets that a search passes on the way to this one. */
static void count_way(struct tm_segment *segment, uint64_t address, const struct tm_bucket *end,
		      uint32_t by)
{
	uint64_t hash = tm_hash(address), at = tm_first_bucket(address, hash);
	uint32_t shift = tm_passed_shift(hash);
	struct tm_bucket *bucket;

	for (; (bucket = bucket_at(segment, at)) != end; at = next_bucket(at, hash))
		if (passed_count(bucket, shift) != TM_PASSED_MANY)
			store_release(&bucket->passed, bucket->passed + (by << shift));
}

/* Removes what is there of a record, or of a size alone. */
static void wipe(struct tm_segment *segment, struct tm_bucket *bucket, uint32_t slot)
{
	uint64_t key = bucket->key[slot];

	store_release(&bucket->key[slot], 0);
	if (unlikely(is_large(key)))
		store_release(&bucket->key[slot + 1], 0);
	count_way(segment, tm_key_address(key), bucket, (uint32_t)-1);
}

/*
 * Removes what a child of fork may find in a slot: a record that went to another
 * segment, or a size without its block.
 */
static TM_NOINLINE void wipe_left_over(uint64_t word, struct tm_segment *segment,
				       struct tm_bucket *bucket, uint32_t slot)
{
	uint64_t key = bucket->key[slot], before = slot ? bucket->key[slot - 1] : 0;

	if (tm_key_is_size(key)) {
		if (!tm_key_is_block(before) || !is_large(before))
			store_release(&bucket->key[slot], 0);
	} else if (segment_of(word, tm_hash(tm_key_address(key))) != segment) {
		wipe(segment, bucket, slot);
	}
}

static TM_NOINLINE void wipe_all_left_over(uint64_t word, struct tm_segment *segment)
{
	uint32_t i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++)
		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++)
			if (segment->bucket[i].key[slot])
				wipe_left_over(word, segment, &segment->bucket[i], slot);
}

static uint32_t used_slots(const struct tm_segment *segment)
{
	const struct tm_bucket *bucket = segment->bucket, *end = bucket + TM_SEGMENT_BUCKETS;
	uint32_t unused = 0;

	for (; bucket < end; bucket++)
		unused += !bucket->key[0] + !bucket->key[1] + !bucket->key[2] + !bucket->key[3] +
			  !bucket->key[4];
	return SEGMENT_SLOTS - unused;
}

/*
 * Looks at all records of a segment that was made for `bits` bits, in which `bent`
 * belongs: which of them the next bit parts from the others.
 */
static void look(uint64_t word, struct tm_segment *segment, uint64_t bent, uint32_t bits,
		 struct parting *ret)
{
	uint32_t unused_bits = 63 - TM_SHARD_BITS - bits, i, slot;
	uint64_t low_side = bent >> unused_bits & ~UINT64_C(1);

	ret->staying = ret->going = 0;
	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		struct tm_bucket *bucket = &segment->bucket[i];
		uint32_t goes = 0;

		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++) {
			uint64_t key = bucket->key[slot], side;

			if (!tm_key_is_block(key)) {
				if (unlikely(key))
					wipe_left_over(word, segment, bucket, slot);
				continue;
			}
			side = (tm_bent(tm_hash(tm_key_address(key))) >> unused_bits) - low_side;
			if (unlikely(side > 1)) {
				wipe_left_over(word, segment, bucket, slot);
				continue;
			}
			goes |= (uint32_t)side << slot;
			ret->going += (uint32_t)side;
			ret->staying++;
		}
		ret->goes[i] = (uint8_t)goes;
	}
	ret->staying -= ret->going;
}

/*
 * Of a full segment it is enough that some later split parts a record from the new
 * one's hash: addresses in some strides have hashes close to each other.  With many
 * domains at one address none ever does.
 */
static bool can_be_parted_later(const struct tm_segment *segment, uint64_t bent)
{
	uint32_t finest = tm_entry_of(bent, TM_MAX_DEPTH), i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++) {
			uint64_t key = segment->bucket[i].key[slot];

			if (tm_key_is_block(key) &&
			    tm_entry_of(tm_bent(tm_hash(tm_key_address(key))), TM_MAX_DEPTH) !=
				    finest)
				return true;
		}
	}
	return false;
}

static inline void copy_slot(const struct tm_bucket *from, struct tm_bucket *to, uint32_t slot)
{
	to->traceback[slot] = from->traceback[slot];
	to->key[slot] = from->key[slot];
}

/* The first place with room for a record of one slot. */
static void copy_further(struct tm_segment *to, uint64_t key, uint32_t traceback)
{
	uint64_t address = tm_key_address(key), hash = tm_hash(address);
	uint64_t at = tm_first_bucket(address, hash);
	struct tm_bucket *bucket;
	uint32_t slots;

	while (!(slots = tm_free_slots(bucket_at(to, at))))
		at = next_bucket(at, hash);
	bucket = bucket_at(to, at);
	bucket->traceback[__builtin_ctz(slots)] = traceback;
	bucket->key[__builtin_ctz(slots)] = key;
	count_way(to, address, bucket, 1);
}

/*
 * A record stays in its place where that is the first of its search, or where it
 * takes two slots; then there is room for the others, which come where they would
 * be put into such a segment.  So all find room, however full the old one is and
 * however few stay there.
 */
static void copy(const struct tm_segment *from, struct tm_segment *to, struct parting *parting)
{
	uint32_t i, goes;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		const struct tm_bucket *bucket = &from->bucket[i];
		uint32_t further = 0;

		for (goes = parting->goes[i]; goes; goes &= goes - 1) {
			uint32_t slot = (uint32_t)__builtin_ctz(goes);
			uint64_t key = bucket->key[slot], address = tm_key_address(key);

			if (tm_first_bucket(address, tm_hash(address)) != i * sizeof(*bucket))
				further |= 1u << slot;
			else
				copy_slot(bucket, &to->bucket[i], slot);
			if (unlikely(is_large(key))) {
				copy_slot(bucket, &to->bucket[i], slot);
				copy_slot(bucket, &to->bucket[i], slot + 1);
				count_way(to, address, &to->bucket[i], 1);
			}
		}
		parting->further[i] = (uint8_t)further;
	}
	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		const struct tm_bucket *bucket = &from->bucket[i];

		for (goes = parting->further[i]; goes; goes &= goes - 1) {
			uint32_t slot = (uint32_t)__builtin_ctz(goes);

			if (likely(!is_large(bucket->key[slot])))
				copy_further(to, bucket->key[slot], bucket->traceback[slot]);
		}
	}
}

static uint64_t *directory_double(struct tm_generation *generation, struct tm_shard *shard)
{
	uint32_t depth, i;
	uint64_t *old = directory_of(shard->directory, &depth);
	uint64_t *larger = directory_new(generation, shard, depth + 1);

	if (!larger)
		return NULL;
	for (i = 0; i < UINT32_C(1) << depth; i++)
		larger[2 * i] = larger[2 * i + 1] = old[i];
	store_release(&shard->directory, (uint64_t)larger | (depth + 1));
	directory_tell(generation, (uint64_t)(shard - shards_of(generation)));
	directory_close(generation, old, depth);
	return larger;
}

/* The records that go, which are found in the new segment by now. */
static void wipe_gone(struct tm_segment *segment, const struct parting *parting)
{
	uint32_t i, goes;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		struct tm_bucket *bucket = &segment->bucket[i];

		for (goes = parting->goes[i]; goes; goes &= goes - 1) {
			uint32_t slot = (uint32_t)__builtin_ctz(goes);

			if (unlikely(parting->further[i] >> slot & 1 ||
				     is_large(bucket->key[slot])))
				wipe(segment, bucket, slot);
			else
				store_release(&bucket->key[slot], 0);
		}
	}
}

/* How many buckets of a segment are locked now: all, if none is our own already. */
static uint32_t lock_all(struct tm_segment *segment, uint32_t owner)
{
	uint32_t locked = 0;

	while (locked < TM_SEGMENT_BUCKETS && bucket_lock(&segment->bucket[locked], owner))
		locked++;
	return locked;
}

static void unlock_all(struct tm_segment *segment, uint32_t locked)
{
	while (locked)
		bucket_unlock(&segment->bucket[--locked]);
}

/*
 * A segment without records, all of it locked: one that was used before may still be
 * known to threads, which find out with a bucket of it locked.  NULL when there is none.
 */
static struct tm_segment *new_locked(struct tm_generation *generation, struct tm_shard *shard,
				     uint32_t owner)
{
	struct tm_segment *new = segment_new(generation, shard);
	uint32_t locked = new ? lock_all(new, owner) : 0;

	if (unlikely(new &&locked < TM_SEGMENT_BUCKETS)) {
		unlock_all(new, locked);
		store_release(&shard->spare, (uint64_t) new);
		return NULL;
	}
	return new;
}

/* False when the segment, all of it locked, is to stay as it is, or there is no memory. */
static bool split(struct tm_generation *generation, struct tm_shard *shard, uint32_t owner,
		  uint64_t bent, uint32_t used, bool has_room)
{
	uint32_t depth, bits, i, first, count;
	uint64_t *directory = directory_of(shard->directory, &depth);
	uint64_t entry = directory[tm_entry_of(bent, depth)];
	struct tm_segment *segment = (struct tm_segment *)(entry & ~TM_SEGMENT_DEPTH_MASK), *new;
	struct parting parting;

	bits = entry & TM_SEGMENT_BITS_MASK;
	count = UINT32_C(1) << (depth - bits);
	first = tm_entry_of(bent, depth) & ~(count - 1);
	for (i = 0; i < count; i++)
		if (unlikely((directory[first + i] & ~TM_SEGMENT_DEPTH_MASK) !=
			     (uint64_t)segment)) {
			wipe_all_left_over(shard->directory, segment);
			break;
		}
	look(shard->directory, segment, bent, bits, &parting);
	if (bits >= TM_MAX_DEPTH ||
	    (has_room ? parting.staying <= used / 16 || parting.going <= used / 16
		      : !can_be_parted_later(segment, bent)))
		return false;
	if (bits == depth) {
		directory = directory_double(generation, shard);
		if (!directory)
			return false;
		count = 2;
		first *= 2;
	}
	new = new_locked(generation, shard, owner);
	if (!new)
		return false;
	copy(segment, new, &parting);
	for (i = 0; i < count; i++)
		if ((directory[first + i] & ~TM_SEGMENT_DEPTH_MASK) == (uint64_t)segment)
			store_release(&directory[first + i],
				      (uint64_t)(i < count / 2 ? segment : new) | (bits + 1));
	wipe_gone(segment, &parting);
	unlock_all(new, TM_SEGMENT_BUCKETS);
	return true;
}

/* The same, which may be anything but locked by `owner`. */
static bool split_locked(struct tm_generation *generation, struct tm_shard *shard, uint32_t owner,
			 struct tm_segment *segment, uint64_t bent, uint32_t used, bool has_room)
{
	uint32_t locked = lock_all(segment, owner);
	bool is_split = locked == TM_SEGMENT_BUCKETS &&
			split(generation, shard, owner, bent, used, has_room);

	unlock_all(segment, locked);
	return is_split;
}

bool segment_split(struct tm_generation *generation, struct tm_shard *shard, uint32_t owner,
		   uint64_t hash, bool has_room)
{
	struct tm_segment *segment;
	uint64_t bent = tm_bent(hash), *entry, *directory;
	uint32_t depth, used, puts;

	directory = directory_of(shard->directory, &depth);
	entry = &directory[tm_entry_of(bent, depth)];
	if (has_room && *entry & TM_SEGMENT_PUTS_MASK) {
		store_relaxed(entry, *entry - TM_SEGMENT_PUTS_ONE);
		return false;
	}
	segment = entry_segment(*entry);
	used = used_slots(segment);
	if (has_room && used <= CROWDED) {
		puts = (CROWDED - used) / 4;
	} else {
		if (split_locked(generation, shard, owner, segment, bent, used, has_room))
			return true;
		puts = SEGMENT_SLOTS;
		directory = directory_of(shard->directory, &depth);
		entry = &directory[tm_entry_of(bent, depth)];
	}
	if (puts > TM_SEGMENT_MAX_PUTS)
		puts = TM_SEGMENT_MAX_PUTS;
	store_relaxed(entry, (*entry & ~TM_SEGMENT_PUTS_MASK) | puts * TM_SEGMENT_PUTS_ONE);
	return false;
}

/* All records of a segment go. */
static void choose_all(const struct tm_segment *segment, struct parting *ret)
{
	uint32_t i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		ret->goes[i] = 0;
		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++)
			ret->goes[i] |=
				(uint8_t)(tm_key_is_block(segment->bucket[i].key[slot]) << slot);
	}
}

/* Whether the segment, all of it locked, is empty now, and no directory names it. */
static bool renew(struct tm_generation *generation, struct tm_shard *shard, uint32_t owner,
		  struct tm_segment *segment, uint64_t bent)
{
	uint32_t depth, bits, i, first, count;
	uint64_t *directory = directory_of(shard->directory, &depth);
	struct tm_segment *new = new_locked(generation, shard, owner);
	struct parting parting;

	if (!new)
		return false;
	bits = directory[tm_entry_of(bent, depth)] & TM_SEGMENT_BITS_MASK;
	count = UINT32_C(1) << (depth - bits);
	first = tm_entry_of(bent, depth) & ~(count - 1);
	wipe_all_left_over(shard->directory, segment);
	choose_all(segment, &parting);
	copy(segment, new, &parting);
	for (i = 0; i < count; i++)
		if (entry_segment(directory[first + i]) == segment)
			store_release(&directory[first + i], (uint64_t) new | bits);
	wipe_gone(segment, &parting);
	/* What is left are counts that came to TM_PASSED_MANY, and our locks. */
	for (i = 0; i < TM_SEGMENT_BUCKETS; i++)
		store_release(&segment->bucket[i].passed,
			      segment->bucket[i].passed & TM_BUCKET_LOCK);
	unlock_all(new, TM_SEGMENT_BUCKETS);
	return true;
}

void segment_renew(struct tm_generation *generation, struct tm_shard *shard, uint32_t owner,
		   uint64_t hash)
{
	struct tm_segment *segment = entry_segment(*entry_of(generation, hash));
	uint32_t locked = lock_all(segment, owner);
	bool is_empty = locked == TM_SEGMENT_BUCKETS &&
			renew(generation, shard, owner, segment, tm_bent(hash));

	unlock_all(segment, locked);
	if (is_empty)
		store_release(&shard->spare, (uint64_t)segment);
}
