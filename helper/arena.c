/*
 * Memory of the helper, from mmap alone: the program's allocator is never
 * entered.  Uses sys.h; knows nothing of what the memory is for.
 */
#include "arena.h"
#include "sys.h"

/* Begins each mapping of a generation: the list that arena_unmap_all walks. */
struct region {
	uint64_t next;
	uint64_t size;
	uint64_t reserved[6];
};

_Static_assert(sizeof(struct region) == 64, "what follows is aligned to a cache line");

static uint64_t round_to_pages(uint64_t size)
{
	return (size + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1);
}

static void *map(uint64_t size)
{
	long address = sys_mmap(0, size, TM_PROT_READ | TM_PROT_WRITE,
				TM_MAP_PRIVATE | TM_MAP_ANONYMOUS | TM_MAP_NORESERVE);

	return sys_failed(address) ? NULL : (void *)address;
}

void *arena_map(struct tm_generation *generation, uint64_t size)
{
	uint64_t bytes = round_to_pages(size + sizeof(struct region));
	struct region *region = map(bytes);
	uint64_t head;

	if (!region)
		return NULL;
	region->size = bytes;
	head = load_relaxed(&generation->regions);
	do {
		region->next = head;
	} while (!__atomic_compare_exchange_n(&generation->regions, &head, (uint64_t)region, false,
					      __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	add_relaxed(&generation->memory, bytes);
	return region + 1;
}

void arena_unmap_all(struct tm_generation *generation)
{
	uint64_t next = generation->regions;

	while (next) {
		struct region *region = (struct region *)next;

		next = region->next;
		sys_munmap((uint64_t)region, region->size);
	}
	generation->regions = 0;
}

void *arena_map_forever(uint64_t size)
{
	void *memory = map(round_to_pages(size));

	if (memory)
		add_relaxed(&tm_header.memory, round_to_pages(size));
	return memory;
}

void *arena_map_wiped(uint64_t size)
{
	void *memory = arena_map_forever(size);

	/* Before Linux 4.14 a child of fork may find a lock taken; it then counts a lost record. */
	if (memory)
		sys_madvise((uint64_t)memory, round_to_pages(size), TM_MADV_WIPEONFORK);
	return memory;
}
