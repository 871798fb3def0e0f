/*
 * Memory of the trace table: segments and directories.
 *
 * Uses arena; must never call a hooked function.
 */
#include "segment.h"
#include "arena.h"
#include "sys.h"
#include "table.h"

/* What a shard takes from the kernel at a time: a quarter of what it has, within these. */
#define ARENA_BYTES (64u * 1024)
#define ARENA_MAX_BYTES (1024u * 1024)

/* A directory fills at least a cache line; up to this depth it needs no pages of its own. */
#define LINE_DEPTH 3u
#define PACKED_DEPTH 9u
#define PACKED_ENTRIES ((2u << PACKED_DEPTH) - (1u << LINE_DEPTH))

/* What table_init reserves; memory that nobody wrote to costs nothing. */
struct table_memory {
	struct tm_segment segments[TM_SHARDS];
	struct tm_shard shards[TM_SHARDS];
	uint64_t directories[TM_SHARDS * PACKED_ENTRIES];
	struct tm_segment closed __attribute__((aligned(TM_PAGE)));
};

static struct table_memory *memory_of(const struct tm_generation *generation)
{
	return (struct table_memory *)(generation->shards - offsetof(struct table_memory, shards));
}

/* Whole pages. */
static void *shard_memory(struct tm_generation *generation, struct tm_shard *shard, uint64_t size)
{
	void *memory;

	size = (size + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1);
	if (shard->arena_end < shard->arena + size) {
		uint64_t bytes = shard->segment_count * (sizeof(struct tm_segment) / 4);

		if (bytes < ARENA_BYTES)
			bytes = ARENA_BYTES;
		if (bytes > ARENA_MAX_BYTES)
			bytes = ARENA_MAX_BYTES;
		if (bytes < size)
			bytes = size;
		bytes = (bytes + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1);
		memory = arena_map(generation, bytes);
		if (!memory)
			return NULL;
		/* Pages nobody wrote to cost nothing: they count as they are handed out. */
		arena_count(generation, -(int64_t)bytes);
		/* A child of fork may begin between any two of these: it then has no memory left. */
		store_release(&shard->arena_end, 0);
		store_release(&shard->arena, (uint64_t)memory);
		store_release(&shard->arena_end, (uint64_t)memory + bytes);
	}
	memory = (void *)shard->arena;
	shard->arena += size;
	arena_count(generation, (int64_t)size);
	return memory;
}

struct tm_segment *segment_new(struct tm_generation *generation, struct tm_shard *shard)
{
	struct tm_segment *segment = (struct tm_segment *)shard->spare;

	if (segment) {
		/* A child of fork may begin here: it then has none. */
		store_release(&shard->spare, 0);
		return segment;
	}
	segment = shard_memory(generation, shard, sizeof(*segment));
	if (segment)
		shard->segment_count++;
	return segment;
}

/* Packed directories of one depth lie side by side. */
uint64_t *directory_new(struct tm_generation *generation, struct tm_shard *shard, uint32_t depth)
{
	uint64_t entries = UINT64_C(1) << depth, before = entries - (1u << LINE_DEPTH);
	struct table_memory *memory = memory_of(generation);

	if (depth > PACKED_DEPTH)
		return shard_memory(generation, shard, entries * sizeof(uint64_t));
	arena_count(generation, (int64_t)(entries * sizeof(uint64_t)));
	return memory->directories + TM_SHARDS * before +
	       (uint64_t)(shard - memory->shards) * entries;
}

void directory_close(struct tm_generation *generation, uint64_t *directory, uint32_t depth)
{
	struct tm_segment *closed = &memory_of(generation)->closed;
	uint32_t i;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++)
		store_relaxed(&closed->bucket[i].passed, TM_BUCKET_LOCK);
	for (i = 0; i < UINT32_C(1) << depth; i++)
		store_release(&directory[i], (uint64_t)closed);
}

void table_forget_locks(const struct tm_generation *generation)
{
	uint32_t s, e, i, depth;

	for (s = 0; s < TM_SHARDS; s++) {
		const uint64_t *directory =
			directory_of(shards_of(generation)[s].directory, &depth);

		for (e = 0; e < UINT32_C(1) << depth; e++)
			for (i = 0; i < TM_SEGMENT_BUCKETS; i++) {
				struct tm_bucket *bucket = &entry_segment(directory[e])->bucket[i];

				if (bucket->passed & TM_BUCKET_LOCK)
					bucket_unlock(bucket);
			}
	}
}

int table_init(struct tm_generation *generation)
{
	/* A shard begins with one segment, which all entries of its directory name. */
	struct table_memory *memory = arena_map(generation, sizeof(*memory));
	uint32_t i, entry;

	if (!memory)
		return -TM_ENOMEM;
	arena_count(generation, -(int64_t)(sizeof(memory->directories) + sizeof(memory->closed)));
	generation->shards = (uint64_t)memory->shards;
	for (i = 0; i < TM_SHARDS; i++) {
		struct tm_shard *shard = &memory->shards[i];
		uint64_t *directory = directory_new(generation, shard, LINE_DEPTH);

		shard->segment_count = 1;
		for (entry = 0; entry < 1u << LINE_DEPTH; entry++)
			directory[entry] = (uint64_t)&memory->segments[i];
		shard->directory = (uint64_t)directory | LINE_DEPTH;
		directory_tell(generation, i);
	}
	return 0;
}
