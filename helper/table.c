/*
 * The trace table: TM_SHARDS extendible hash tables of 16-byte slots.
 *
 * Blocks of one page share a hash and lie near each other in one segment, as
 * malloc hands out neighbours.  A segment that fills up is rebuilt, made
 * larger or split in two, always into fresh memory that is published with one
 * store, so growth costs some microseconds at a time and the table can be read
 * with the process stopped at any instruction (the rule is in tm_layout.h).
 *
 * Uses arena, lock and traceback; must never call a hooked function.
 */
#include "table.h"
#include "arena.h"
#include "lock.h"
#include "segment.h"
#include "traceback.h"

/* ---- growth ------------------------------------------------------------ */

static uint32_t capacity_limit(uint32_t capacity)
{
	return capacity - capacity / 8;
}

/* The smallest class a split makes that holds this many blocks and leaves room for more. */
static uint32_t class_for(uint32_t live)
{
	uint32_t class = CLASS_FIRST_SPLIT;

	while (class < CLASSES - 1 && live > class_capacity(class) / 5 * 4)
		class += 1;
	return class;
}

/* Into a segment that is not yet published, or whose address is known to be absent. */
static void segment_add(struct tm_segment *segment, const struct tm_slot *slot)
{
	struct tm_slot *slots = slots_of(segment);
	uint32_t i = first_slot(tm_slot_address(slot), segment->capacity);

	while (slots[i].key != TM_SLOT_EMPTY)
		i = next_slot(i, segment->capacity);
	slots[i].value = slot->value;
	store_release(&slots[i].key, slot->key);
	segment->live++;
}

/* Lets every directory entry that names `from` and agrees with (index, mask) name `to`. */
static void directory_replace(const struct tm_shard *shard, const struct tm_segment *from,
			      const struct tm_segment *to, uint32_t index, uint32_t step)
{
	uint32_t depth, i;
	uint64_t *directory = directory_of(shard, &depth);

	for (i = index; i < UINT32_C(1) << depth; i += step)
		if (directory[i] == (uint64_t)from)
			store_release(&directory[i], (uint64_t)to);
}

static bool directory_double(struct tm_generation *generation, struct tm_shard *shard)
{
	uint32_t depth, i;
	uint64_t *old = directory_of(shard, &depth);
	uint32_t count = UINT32_C(1) << depth;
	uint64_t *larger;

	if (depth >= TM_MAX_DEPTH)
		return false;
	if (depth < PACKED_DEPTH) {
		larger = packed_directory(generation, shard, depth + 1);
		if (larger != old)
			arena_count(generation, (int64_t)(count * 2 * sizeof(*larger)));
	} else {
		larger = shard_memory(generation, shard, count * 2 * sizeof(*larger));
	}
	if (!larger)
		return false;
	for (i = 0; i < count; i++)
		larger[i] = larger[i + count] = old[i];
	store_release(&shard->directory, (uint64_t)larger | (depth + 1));
	return true;
}

/* Copies the live slots whose directory bit `bit` is `side` (all of them when bit is 32). */
static void segment_copy(const struct tm_shard *shard, const struct tm_segment *from,
			 struct tm_segment *to, uint32_t bit, uint32_t side)
{
	const struct tm_slot *slots = slots_of(from);
	uint32_t i;

	for (i = 0; i < from->capacity; i++) {
		uint64_t address = tm_slot_address(&slots[i]);

		if (!is_live(slots[i].key) || segment_of(shard, address) != from)
			continue;
		if (bit == 32 || (tm_directory_index(address, bit + 1) >> bit) == side)
			segment_add(to, &slots[i]);
	}
}

static bool segment_rebuild(struct tm_generation *generation, struct tm_shard *shard,
			    struct tm_segment *segment, uint32_t class, uint32_t index)
{
	struct tm_segment *new = segment_new(generation, shard, class, segment->depth);

	if (!new)
		return false;
	segment_copy(shard, segment, new, 32, 0);
	directory_replace(shard, segment, new, index & ((UINT32_C(1) << segment->depth) - 1),
			  UINT32_C(1) << segment->depth);
	segment_free(generation, shard, segment);
	return true;
}

static bool segment_split(struct tm_generation *generation, struct tm_shard *shard,
			  struct tm_segment *segment, uint32_t index, const uint32_t sides[2])
{
	uint32_t bit = segment->depth, side;
	uint32_t low = index & ((UINT32_C(1) << bit) - 1);
	struct tm_segment *new[2];
	uint32_t depth;

	directory_of(shard, &depth);
	if (depth == bit && !directory_double(generation, shard))
		return false;
	for (side = 0; side < 2; side++) {
		new[side] = segment_new(generation, shard, class_for(sides[side]), bit + 1);
		if (!new[side]) {
			if (side)
				segment_free(generation, shard, new[0]);
			return false;
		}
	}
	for (side = 0; side < 2; side++)
		segment_copy(shard, segment, new[side], bit, side);
	for (side = 0; side < 2; side++)
		directory_replace(shard, segment, new[side], low | side << bit,
				  UINT32_C(1) << (bit + 1));
	segment_free(generation, shard, segment);
	return true;
}

/* Blocks of many domains at the addresses of one page: no split can part them. */
static TM_NOINLINE bool is_one_page(const struct tm_segment *segment, uint64_t address)
{
	const struct tm_slot *slots = slots_of(segment);
	uint32_t i;

	for (i = 0; i < segment->capacity; i++)
		if (is_live(slots[i].key) && tm_slot_address(&slots[i]) >> 12 != address >> 12)
			return false;
	return true;
}

/* Makes room in the full segment of `address`.  False when there is no memory. */
static TM_NOINLINE bool segment_grow(struct tm_generation *generation, struct tm_shard *shard,
				     struct tm_segment *segment, uint64_t address)
{
	const struct tm_slot *slots = slots_of(segment);
	uint32_t class = segment_class(segment);
	uint32_t sides[2] = {0, 0};
	uint32_t depth, i, index;

	directory_of(shard, &depth);
	index = tm_directory_index(address, depth);
	if (class < CLASS_SPLITS)
		return segment_rebuild(generation, shard, segment, class + 1, index);
	if (class > CLASS_SPLITS && is_one_page(segment, address))
		return segment->live < capacity_limit(segment->capacity) &&
		       segment_rebuild(generation, shard, segment, class, index);
	if (segment->depth >= TM_MAX_DEPTH)
		return false;
	for (i = 0; i < segment->capacity; i++)
		if (is_live(slots[i].key))
			sides[tm_directory_index(tm_slot_address(&slots[i]), segment->depth + 1) >>
			      segment->depth]++;
	/* One page alone: the largest class holds 4096 blocks and some more. */
	if (class == CLASS_SPLITS && (!sides[0] || !sides[1]))
		return segment_rebuild(generation, shard, segment, CLASSES - 1, index);
	return segment_split(generation, shard, segment, index, sides);
}

/* ---- put, take, find --------------------------------------------------- */

#define KEY_MASK (TM_ADDRESS_MASK | TM_SLOT_FOREIGN)

/* The part of a key that a search compares first, and for domain 0 alone. */
static inline uint64_t key_of(uint64_t address, uint32_t domain)
{
	return domain ? address | TM_SLOT_FOREIGN : address;
}

/* Whether a slot whose key has the right address and flag is of this domain. */
static inline bool is_of_domain(const struct tm_generation *generation, const struct tm_slot *slot,
				uint32_t domain)
{
	return likely(!domain) || traceback_domain(generation, tm_slot_traceback(slot)) == domain;
}

struct tm_slot *slot_find(const struct tm_generation *generation, const struct tm_segment *segment,
			  uint64_t address, uint32_t domain)
{
	struct tm_slot *slots = slots_of(segment);
	uint32_t capacity = segment->capacity;
	uint32_t i = first_slot(address, capacity);
	uint64_t wanted = key_of(address, domain);

	for (;;) {
		uint64_t key = slots[i].key;

		if ((key & KEY_MASK) == wanted && is_live(key) &&
		    is_of_domain(generation, &slots[i], domain))
			return &slots[i];
		if (key == TM_SLOT_EMPTY)
			return NULL;
		i = next_slot(i, capacity);
	}
}

/*
 * Removes a record; the records behind it that were put further than where
 * their probing starts move up (Knuth, The Art of Computer Programming 6.4,
 * algorithm R), so that no trace of it makes later probing longer.
 */
static void slot_remove(struct tm_segment *segment, uint32_t hole)
{
	struct tm_slot *slots = slots_of(segment);
	uint32_t capacity = segment->capacity;
	uint32_t i = hole;

	store_release(&slots[hole].key, TM_SLOT_DEAD);
	for (;;) {
		uint32_t first;

		i = next_slot(i, capacity);
		if (slots[i].key == TM_SLOT_EMPTY)
			break;
		if (!is_live(slots[i].key))
			continue;
		first = first_slot(tm_slot_address(&slots[i]), capacity);
		if (hole <= i ? (hole < first && first <= i) : (hole < first || first <= i))
			continue;
		slots[hole].value = slots[i].value;
		segment->moving_to = hole;
		store_release(&segment->moving_from, i + 1);
		store_release(&slots[hole].key, slots[i].key);
		store_release(&slots[i].key, TM_SLOT_DEAD);
		hole = i;
	}
	store_release(&slots[hole].key, TM_SLOT_EMPTY);
	store_release(&segment->moving_from, 0);
}

/* A child of fork may find a record twice, when its parent was moving it. */
static TM_NOINLINE void finish_move(struct tm_segment *segment)
{
	struct tm_slot *slots = slots_of(segment);
	uint32_t from = segment->moving_from - 1;

	if (slots[from].key == slots[segment->moving_to].key)
		store_release(&slots[from].key, TM_SLOT_DEAD);
	store_release(&segment->moving_from, 0);
}

static bool is_full(const struct tm_segment *segment)
{
	return segment->live + 1 > capacity_limit(segment->capacity);
}

enum table_result table_put(struct tm_generation *generation, uint32_t owner,
			    const struct tm_block *block, uint64_t *replaced)
{
	uint32_t *lock = &tm_locks(generation)->shard[tm_shard_index(block->address)].word;
	struct tm_shard *shard = shard_of(generation, block->address);
	struct tm_segment *segment;
	struct tm_slot *slots, *place;
	uint32_t i;
	const struct tm_slot new = {
		.key = key_of(block->address, block->domain) | (block->size >> 32)
								       << TM_ADDRESS_BITS,
		.value = block->size << 32 | block->traceback,
	};

	*replaced = 0;
	if (unlikely(block->address <= TM_SLOT_DEAD || block->address > TM_ADDRESS_MASK ||
		     block->size > TM_MAX_SIZE))
		return TABLE_DROPPED;
	if (unlikely(!lock_take(lock, owner)))
		return TABLE_DROPPED;

	segment = segment_of(shard, block->address);
	if (unlikely(segment->moving_from))
		finish_move(segment);
	while (unlikely(is_full(segment))) {
		if (!segment_grow(generation, shard, segment, block->address)) {
			lock_release(lock);
			return TABLE_DROPPED;
		}
		segment = segment_of(shard, block->address);
	}
	slots = slots_of(segment);
	place = NULL;
	for (i = first_slot(block->address, segment->capacity);;
	     i = next_slot(i, segment->capacity)) {
		uint64_t key = slots[i].key;

		if (key == TM_SLOT_EMPTY)
			break;
		if (key == TM_SLOT_DEAD) {
			if (!place)
				place = &slots[i];
		} else if ((key & KEY_MASK) == (new.key &KEY_MASK) &&
			   is_of_domain(generation, &slots[i], block->domain)) {
			/* Its free was not seen: the old record goes first, so none is half new. */
			*replaced = tm_slot_size(&slots[i]);
			store_release(&slots[i].key, TM_SLOT_DEAD);
			slots[i].value = new.value;
			store_release(&slots[i].key, new.key);
			lock_release(lock);
			return TABLE_FOUND;
		}
	}
	if (!place)
		place = &slots[i];
	place->value = new.value;
	store_release(&place->key, new.key);
	segment->live++;
	shard->live++;
	lock_release(lock);
	return TABLE_NONE;
}

enum table_result table_take(struct tm_generation *generation, uint32_t owner, uint64_t address,
			     uint32_t domain, struct tm_block *ret)
{
	uint32_t *lock = &tm_locks(generation)->shard[tm_shard_index(address)].word;
	struct tm_shard *shard = shard_of(generation, address);
	struct tm_segment *segment;
	struct tm_slot *slot;

	if (unlikely(address <= TM_SLOT_DEAD || address > TM_ADDRESS_MASK))
		return TABLE_NONE;
	if (unlikely(!lock_take(lock, owner)))
		return TABLE_DROPPED;
	segment = segment_of(shard, address);
	slot = slot_find(generation, segment, address, domain);
	if (!slot) {
		shard->untracked_frees++;
		lock_release(lock);
		return TABLE_NONE;
	}
	ret->address = address;
	ret->size = tm_slot_size(slot);
	ret->traceback = tm_slot_traceback(slot);
	ret->domain = domain;

	segment->live--;
	shard->live--;
	slot_remove(segment, (uint32_t)(slot - slots_of(segment)));
	lock_release(lock);
	return TABLE_FOUND;
}

bool table_find(const struct tm_generation *generation, uint64_t address, uint32_t domain,
		struct tm_block *ret)
{
	const struct tm_slot *slot = slot_find(
		generation, segment_of(shard_of(generation, address), address), address, domain);

	if (!slot)
		return false;
	ret->address = address;
	ret->size = tm_slot_size(slot);
	ret->traceback = tm_slot_traceback(slot);
	ret->domain = domain;
	return true;
}
