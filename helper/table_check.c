/*
 * The invariants of the trace table that tm_layout.h states, looked at one by
 * one.  For tests: nothing in a traced process calls it.
 *
 * Uses segment and traceback; must never write.
 */
#include "segment.h"
#include "table.h"
#include "traceback.h"

/* Whether the record is found, where it is and not twice, and counted where it passed. */
static bool record_is_valid(const struct tm_generation *generation,
			    const struct tm_segment *segment, const struct tm_bucket *bucket,
			    uint32_t slot)
{
	uint64_t key = bucket->key[slot], address = tm_key_address(key), hash = tm_hash(address);
	uint64_t at = tm_first_bucket(address, hash);
	uint32_t traceback = bucket->traceback[slot];
	struct tm_block found;

	for (; bucket_at(segment, at) != bucket; at = next_bucket(at, hash))
		if (!passed_count(bucket_at(segment, at), tm_passed_shift(hash)))
			return false;
	return table_find(generation, address,
			  key & TM_KEY_FOREIGN ? traceback_domain(generation, traceback) : 0,
			  &found) &&
	       found.size == tm_bucket_size(bucket, slot) && found.traceback == traceback;
}

/* Whether the counts at this place of a segment's buckets are those of its records, or many. */
static bool counts_are_valid(const struct tm_segment *segment, uint32_t shift)
{
	uint8_t counts[TM_SEGMENT_BUCKETS];
	uint32_t i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++)
		counts[i] = 0;
	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++) {
			uint64_t key = segment->bucket[i].key[slot], address = tm_key_address(key);
			uint64_t hash = tm_hash(address), at = tm_first_bucket(address, hash);

			if (!tm_key_is_block(key) || tm_passed_shift(hash) != shift)
				continue;
			for (; at != i * sizeof(struct tm_bucket); at = next_bucket(at, hash)) {
				uint8_t *count = &counts[at / sizeof(struct tm_bucket)];

				*count += *count < TM_PASSED_MANY;
			}
		}
	}
	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		uint32_t count = passed_count(&segment->bucket[i], shift);

		if (count != counts[i] && count != TM_PASSED_MANY)
			return false;
	}
	return true;
}

static bool segment_is_valid(const struct tm_generation *generation, uint64_t word,
			     const struct tm_segment *segment, uint64_t *blocks)
{
	uint32_t i, slot;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
		uint64_t before = 0;

		for (slot = 0; slot < TM_BUCKET_SLOTS; slot++) {
			uint64_t key = segment->bucket[i].key[slot];
			bool is_rest =
				tm_key_is_block(before) && tm_key_size(before) == TM_KEY_LARGE;

			if (tm_key_is_size(key) != is_rest)
				return false;
			before = key;
			if (!tm_key_is_block(key))
				continue;
			*blocks += 1;
			if (segment_of(word, tm_hash(tm_key_address(key))) != segment ||
			    !record_is_valid(generation, segment, &segment->bucket[i], slot))
				return false;
		}
		if (tm_key_is_block(before) && tm_key_size(before) == TM_KEY_LARGE)
			return false;
	}
	for (i = 0; i < TM_BUCKET_LOCK_SHIFT; i += 3)
		if (!counts_are_valid(segment, i))
			return false;
	return true;
}

bool table_is_valid(const struct tm_generation *generation, uint64_t *ret_blocks)
{
	uint32_t s, e, i;

	*ret_blocks = 0;
	for (s = 0; s < TM_SHARDS; s++) {
		uint64_t word = shards_of(generation)[s].directory;
		uint32_t depth, same;
		const uint64_t *directory = directory_of(word, &depth);

		for (e = 0; e < UINT32_C(1) << depth; e += same) {
			uint64_t entry = directory[e] & ~TM_SEGMENT_PUTS_MASK;
			uint32_t bits = entry & TM_SEGMENT_BITS_MASK;

			if (bits > depth)
				return false;
			same = UINT32_C(1) << (depth - bits);
			for (i = 0; i < same; i++)
				if ((directory[e + i] & ~TM_SEGMENT_PUTS_MASK) != entry)
					return false;
			if (!segment_is_valid(generation, word,
					      (const struct tm_segment *)(entry - bits),
					      ret_blocks))
				return false;
		}
	}
	return true;
}
