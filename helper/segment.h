/* Where a block is in the table: shard, segment, slot.  For the parts of the table. */
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
	return (struct tm_slot *)segment->slots;
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

/* ---- segment.c ----------------------------------------------------------- */

/* Sizes of segments. */
#define CLASSES 8u
#define CLASS_FIRST_SPLIT 2u /* the smallest that a split makes */
#define CLASS_SPLITS 6u      /* full ones of this class are split */

uint32_t class_capacity(uint32_t class) TM_HIDDEN;
uint32_t segment_class(const struct tm_segment *segment) TM_HIDDEN;

/* Whole pages.  NULL when there is no memory. */
void *shard_memory(struct tm_generation *generation, struct tm_shard *shard,
		   uint64_t size) TM_HIDDEN;

/* Directories up to this depth need no pages of their own. */
#define PACKED_DEPTH 9u
uint64_t *packed_directory(const struct tm_generation *generation, const struct tm_shard *shard,
			   uint32_t depth) TM_HIDDEN;

/* A segment without records, not yet named by a directory.  NULL when there is no memory. */
struct tm_segment *segment_new(struct tm_generation *generation, struct tm_shard *shard,
			       uint32_t class, uint32_t depth) TM_HIDDEN;

/* Takes back a segment that no directory names any more. */
void segment_free(struct tm_generation *generation, struct tm_shard *shard,
		  struct tm_segment *segment) TM_HIDDEN;

/* ---- table.c ------------------------------------------------------------- */

/* The live slot of a block in its segment, or NULL. */
struct tm_slot *slot_find(const struct tm_generation *generation, const struct tm_segment *segment,
			  uint64_t address, uint32_t domain) TM_HIDDEN;

#endif
