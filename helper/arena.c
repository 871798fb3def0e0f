/*
 * Memory of the helper, from mmap alone: the program's allocator is never
 * entered.  Uses sys.h; knows nothing of what the memory is for.
 */
#include "arena.h"
#include "sys.h"

#define REGIONS_PER_PAGE 255u

/* A page of the list of a generation's mappings. */
struct region_page {
	uint64_t next;
	uint32_t count; /* given out; may exceed REGIONS_PER_PAGE */
	uint32_t reserved;
	struct {
		uint64_t start, size;
	} region[REGIONS_PER_PAGE];
};

_Static_assert(sizeof(struct region_page) == TM_PAGE, "one page");

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

/* What a generation does not own, until the helper is unloaded. */
static uint64_t forever;

/* Notes a mapping in a list.  False when there is no memory for that. */
static bool remember(uint64_t *list, uint64_t *memory, uint64_t start, uint64_t size)
{
	for (;;) {
		uint64_t head = load_acquire(list);
		struct region_page *page = (struct region_page *)head;
		uint32_t i = page ? add_relaxed(&page->count, 1) : REGIONS_PER_PAGE;

		if (i < REGIONS_PER_PAGE) {
			page->region[i].start = start;
			page->region[i].size = size;
			return true;
		}
		page = map(TM_PAGE);
		if (!page)
			return false;
		page->next = head;
		if (!__atomic_compare_exchange_n(list, &head, (uint64_t)page, false,
						 __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			sys_munmap((uint64_t)page, TM_PAGE);
		else
			add_relaxed(memory, TM_PAGE);
	}
}

static void unmap_list(uint64_t *list)
{
	uint64_t next = *list;

	*list = 0;
	while (next) {
		struct region_page *page = (struct region_page *)next;
		uint32_t i;

		for (i = 0; i < page->count && i < REGIONS_PER_PAGE; i++)
			sys_munmap(page->region[i].start, page->region[i].size);
		next = page->next;
		sys_munmap((uint64_t)page, TM_PAGE);
	}
}

static void *map_and_remember(uint64_t *list, uint64_t *counted, uint64_t size)
{
	uint64_t bytes = round_to_pages(size);
	void *memory = map(bytes);

	if (!memory)
		return NULL;
	if (!remember(list, counted, (uint64_t)memory, bytes)) {
		sys_munmap((uint64_t)memory, bytes);
		return NULL;
	}
	add_relaxed(counted, bytes);
	return memory;
}

/* ---- of a generation --------------------------------------------------- */

void *arena_map(struct tm_generation *generation, uint64_t size)
{
	return map_and_remember(&generation->regions, &generation->memory, size);
}

void arena_give_back(struct tm_generation *generation, void *memory, uint64_t size)
{
	sys_madvise((uint64_t)memory, size, TM_MADV_DONTNEED);
	arena_count(generation, -(int64_t)size);
}

void arena_count(struct tm_generation *generation, int64_t bytes)
{
	add_relaxed(&generation->memory, (uint64_t)bytes);
}

void arena_unmap_all(struct tm_generation *generation)
{
	unmap_list(&generation->regions);
}

/* ---- of nobody --------------------------------------------------------- */

void *arena_map_alone(uint64_t size)
{
	void *memory = map(round_to_pages(size));

	if (memory)
		add_relaxed(&tm_header.memory, round_to_pages(size));
	return memory;
}

void arena_unmap_alone(void *memory, uint64_t size)
{
	sys_munmap((uint64_t)memory, round_to_pages(size));
	add_relaxed(&tm_header.memory, -round_to_pages(size));
}

void arena_wipe(void *memory, uint64_t size)
{
	sys_madvise((uint64_t)memory, round_to_pages(size), TM_MADV_DONTNEED);
}

void arena_wipe_on_fork(void *memory, uint64_t size)
{
	/* Before Linux 4.14 a child of fork may find a lock taken; it then counts a lost record. */
	if (memory)
		sys_madvise((uint64_t)memory, round_to_pages(size), TM_MADV_WIPEONFORK);
}

void *arena_map_wiped(uint64_t size)
{
	void *memory = map_and_remember(&forever, &tm_header.memory, size);

	arena_wipe_on_fork(memory, size);
	return memory;
}

void arena_unmap_forever(void)
{
	unmap_list(&forever);
}
