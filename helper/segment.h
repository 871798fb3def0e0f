/* Where a block is in the table: shard, segment, slot.  Between table.c and table_check.c. */
#ifndef TM_SEGMENT_H
#define TM_SEGMENT_H

#include "helper.h"

static inline struct tm_shard *shard_of(const struct tm_generation *generation, uint64_t address)
{
	return (struct tm_shard *)generation->shards + tm_shard_index(address);
}

static inline uint64_t *directory_of(const struct tm_shard *shard, uint32_t *depth)
{
	uint64_t directory = shard->directory;

	*depth = (uint32_t)(directory & TM_DIRECTORY_DEPTH_MASK);
	return (uint64_t *)(directory & ~TM_DIRECTORY_DEPTH_MASK);
}

static inline struct tm_segment *segment_of(const struct tm_shard *shard, uint64_t address)
{
	uint32_t depth;
	uint64_t *directory = directory_of(shard, &depth);

	return (struct tm_segment *)directory[tm_directory_index(address, depth)];
}

static inline struct tm_slot *slots_of(const struct tm_segment *segment)
{
	return (struct tm_slot *)(segment + 1);
}

/* Where probing starts: at a cache line's first slot. */
static inline uint32_t first_slot(uint64_t address, uint32_t capacity)
{
	uint64_t hash = (address >> 3) * UINT64_C(0xd6e8feb86659fd93);

	return (uint32_t)((hash >> 32) * (capacity / 4) >> 32) * 4;
}

static inline uint32_t next_slot(uint32_t slot, uint32_t capacity)
{
	return slot + 1 == capacity ? 0 : slot + 1;
}

static inline bool is_live(uint64_t key)
{
	return key > TM_SLOT_DEAD;
}

/* The live slot of a block in its segment, or NULL. */
struct tm_slot *slot_find(const struct tm_generation *generation, const struct tm_segment *segment,
			  uint64_t address, uint32_t domain) TM_HIDDEN;

#endif
