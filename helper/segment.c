/*
 * Memory of the trace table: segments, their slots, small directories.
 *
 * Uses arena; must never call a hooked function.
 */
#include "segment.h"
#include "arena.h"
#include "sys.h"
#include "table.h"

#define ARENA_BYTES (64u * 1024)
#define ARENA_MAX_BYTES (1024u * 1024)

/*
 * Sizes of segments by class, in pages: 1, 2, then 4 to 8, so that on the
 * average four slots of five are in use; 24 is for pages with thousands of
 * blocks.
 */

/*
 * Room for segments, in groups of a shard's that follow each other: 8192 hold
 * ten million blocks.  More than half a billion in all.
 */
#define SEGMENT_GROUP 16u
#define MAX_SEGMENTS 8192u

/* Entries of directories that need no pages of their own. */
#define FIRST_ENTRIES 8u
#define PACKED_ENTRIES ((FIRST_ENTRIES << (PACKED_DEPTH - 2)) - FIRST_ENTRIES)

static uint32_t class_pages(uint32_t class)
{
	return class < 2 ? 1u << class : class < CLASSES - 1 ? 2 + class : 24;
}

uint32_t class_capacity(uint32_t class)
{
	return class_pages(class) * (TM_PAGE / sizeof(struct tm_slot));
}

uint32_t segment_class(const struct tm_segment *segment)
{
	uint32_t pages = segment->capacity / (TM_PAGE / sizeof(struct tm_slot));

	return pages <= 2 ? pages >> 1 : pages <= 8 ? pages - 2 : CLASSES - 1;
}

/* Whole pages for a segment; other things take whole pages as well, they are few. */
void *shard_memory(struct tm_generation *generation, struct tm_shard *shard, uint64_t size)
{
	void *memory;

	size = (size + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1);
	if (shard->arena_end - shard->arena < size) {
		uint64_t bytes = shard->live * 2;

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
		shard->arena = (uint64_t)memory;
		shard->arena_end = (uint64_t)memory + bytes;
	}
	memory = (void *)shard->arena;
	shard->arena += size;
	arena_count(generation, (int64_t)size);
	return memory;
}

/* A free segment of this class that the kernel has the pages of.  NULL when there is none. */
static struct tm_segment *free_list_take(struct tm_shard *shard, uint32_t class)
{
	uint64_t *list = (uint64_t *)shard->free_list;
	uint32_t i;

	for (i = 0; i < shard->free_count; i++) {
		if ((list[i] & (TM_PAGE - 1)) == class) {
			uint64_t segment = list[i] - class;

			list[i] = list[--shard->free_count];
			return (struct tm_segment *)segment;
		}
	}
	return NULL;
}

static bool free_list_add(struct tm_generation *generation, struct tm_shard *shard,
			  const struct tm_segment *segment, uint32_t class)
{
	if (shard->free_count == shard->free_capacity) {
		uint32_t capacity = shard->free_capacity ? shard->free_capacity * 2 : 64;
		uint64_t *list = shard_memory(generation, shard, capacity * sizeof(*list));

		if (!list)
			return false;
		tm_memcpy(list, (void *)shard->free_list, shard->free_count * sizeof(*list));
		shard->free_list = (uint64_t)list;
		shard->free_capacity = capacity;
	}
	((uint64_t *)shard->free_list)[shard->free_count++] = (uint64_t)segment | class;
	return true;
}

/* What table_init reserves; memory that nobody wrote to costs nothing. */
struct table_memory {
	struct tm_shard shards[TM_SHARDS];
	struct tm_slot slots[TM_SHARDS][TM_PAGE / sizeof(struct tm_slot)];
	uint64_t directories[TM_SHARDS * PACKED_ENTRIES];
	struct tm_segment segments[MAX_SEGMENTS / SEGMENT_GROUP][TM_SHARDS][SEGMENT_GROUP];
};

static struct table_memory *memory_of(const struct tm_generation *generation)
{
	return (struct table_memory *)generation->shards;
}

static uint32_t shard_number(const struct tm_generation *generation, const struct tm_shard *shard)
{
	return (uint32_t)(shard - memory_of(generation)->shards);
}

static struct tm_segment *segment_place(const struct tm_generation *generation,
					const struct tm_shard *shard, uint32_t number)
{
	return &memory_of(generation)
			->segments[number / SEGMENT_GROUP][shard_number(generation, shard)]
				  [number % SEGMENT_GROUP];
}

/* A segment on fresh memory. */
static struct tm_segment *segment_make(struct tm_generation *generation, struct tm_shard *shard,
				       uint32_t class)
{
	struct tm_segment *segment;
	void *slots;

	if (shard->segment_count == MAX_SEGMENTS)
		return NULL;
	slots = shard_memory(generation, shard, class_pages(class) * (uint64_t)TM_PAGE);
	if (!slots)
		return NULL;
	segment = segment_place(generation, shard, shard->segment_count++);
	segment->slots = (uint64_t)slots;
	segment->capacity = class_capacity(class);
	arena_count(generation, sizeof(*segment));
	return segment;
}

struct tm_segment *segment_new(struct tm_generation *generation, struct tm_shard *shard,
			       uint32_t class, uint32_t depth)
{
	uint64_t size = class_pages(class) * (uint64_t)TM_PAGE;
	struct tm_segment *segment = (struct tm_segment *)shard->spare;

	if (segment && segment_class(segment) == class) {
		shard->spare = 0;
		tm_memset(slots_of(segment), 0, size);
	} else {
		segment = free_list_take(shard, class);
		if (segment)
			arena_count(generation, (int64_t)size);
		else
			segment = segment_make(generation, shard, class);
		if (!segment)
			return NULL;
	}
	segment->depth = depth;
	segment->live = 0;
	return segment;
}

/* Keeps the segment at hand, and gives the pages of the one before it to the kernel. */
void segment_free(struct tm_generation *generation, struct tm_shard *shard,
		  struct tm_segment *segment)
{
	struct tm_segment *old = (struct tm_segment *)shard->spare;

	shard->spare = (uint64_t)segment;
	if (old && free_list_add(generation, shard, old, segment_class(old)))
		arena_give_back(generation, slots_of(old),
				class_pages(segment_class(old)) * (uint64_t)TM_PAGE);
}

/* Directories of one depth lie side by side; those of depths 0 to 3 are one. */
uint64_t *packed_directory(const struct tm_generation *generation, const struct tm_shard *shard,
			   uint32_t depth)
{
	uint32_t entries = UINT32_C(1) << depth;

	if (entries < FIRST_ENTRIES)
		entries = FIRST_ENTRIES;
	return memory_of(generation)->directories + TM_SHARDS * (entries - FIRST_ENTRIES) +
	       shard_number(generation, shard) * entries;
}

int table_init(struct tm_generation *generation)
{
	/* A shard begins with a directory of one entry and a segment of one page. */
	struct table_memory *memory = arena_map(generation, sizeof(*memory));
	uint32_t i;

	if (!memory)
		return -TM_ENOMEM;
	arena_count(generation,
		    -(int64_t)(sizeof(*memory) - offsetof(struct table_memory, directories)));
	generation->shards = (uint64_t)memory;
	for (i = 0; i < TM_SHARDS; i++) {
		struct tm_shard *shard = &memory->shards[i];
		struct tm_segment *segment = segment_place(generation, shard, 0);
		uint64_t *directory = packed_directory(generation, shard, 0);

		segment->slots = (uint64_t)memory->slots[i];
		segment->capacity = class_capacity(0);
		shard->segment_count = 1;
		directory[0] = (uint64_t)segment;
		shard->directory = (uint64_t)directory;
	}
	arena_count(generation,
		    TM_SHARDS * (sizeof(struct tm_segment) + FIRST_ENTRIES * sizeof(uint64_t)));
	return 0;
}
