/* Where a block is in the table: shard, segment, bucket, slot.  For the parts of the table. */
#ifndef TM_SEGMENT_H
#define TM_SEGMENT_H

#include "arch.h"

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

static inline uint32_t next_bucket(uint32_t bucket, uint64_t hash)
{
	return (bucket + tm_bucket_step(hash)) % TM_SEGMENT_BUCKETS;
}

static inline uint32_t passed_count(const struct tm_bucket *bucket, uint32_t shift)
{
	return load_relaxed(&bucket->passed) >> shift & TM_PASSED_MANY;
}

/* The slots whose keys differ from `wanted` in no more than the size, a bit each.  No branches. */
static inline uint32_t slots_like(const struct tm_bucket *bucket, uint64_t wanted)
{
	uint32_t found = 0;

	TM_APPEND_BELOW(found, load_relaxed(&bucket->key[4]) - wanted, TM_KEY_SIZE_MASK + 1);
	TM_APPEND_BELOW(found, load_relaxed(&bucket->key[3]) - wanted, TM_KEY_SIZE_MASK + 1);
	TM_APPEND_BELOW(found, load_relaxed(&bucket->key[2]) - wanted, TM_KEY_SIZE_MASK + 1);
	TM_APPEND_BELOW(found, load_relaxed(&bucket->key[1]) - wanted, TM_KEY_SIZE_MASK + 1);
	TM_APPEND_BELOW(found, load_relaxed(&bucket->key[0]) - wanted, TM_KEY_SIZE_MASK + 1);
	return found;
}

static inline uint32_t slots_free(const struct tm_bucket *bucket)
{
	return slots_like(bucket, 0);
}

/* ---- segment.c ----------------------------------------------------------- */

/* A segment without records, not yet named by a directory.  NULL when there is no memory. */
struct tm_segment *segment_new(struct tm_generation *generation, struct tm_shard *shard) TM_HIDDEN;

/* Memory for the entries of a directory of this depth.  NULL when there is none. */
uint64_t *directory_new(struct tm_generation *generation, struct tm_shard *shard,
			uint32_t depth) TM_HIDDEN;

#endif
