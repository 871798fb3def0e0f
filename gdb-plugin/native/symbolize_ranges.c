/*
 * Sorted address ranges that may overlap: see symbolize_parts.h.
 *
 * May use: the C library.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

#include <stdlib.h>

/* Ranges that are nested deeper than anything real: a damaged file must not cost time. */
#define MAX_STEPS 4096u

bool tm_ranges_add(struct tm_ranges *ranges, uint64_t low, uint64_t high, uint32_t index)
{
	if (high <= low)
		return true;
	if (ranges->count == ranges->capacity) {
		size_t capacity = ranges->capacity ? ranges->capacity * 2 : 32;
		struct tm_range *items = realloc(ranges->items, capacity * sizeof(*items));

		if (!items)
			return false;
		ranges->items = items;
		ranges->capacity = capacity;
	}
	ranges->items[ranges->count++] = (struct tm_range){
		.low = low,
		.high = high,
		.index = index,
	};
	return true;
}

static int compare_ranges(const void *left, const void *right)
{
	const struct tm_range *a = left, *b = right;

	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	/* The first added of equal ranges comes last: it is found first. */
	return (a->index < b->index) - (a->index > b->index);
}

void tm_ranges_sort(struct tm_ranges *ranges)
{
	uint64_t reach = 0;

	if (ranges->count)
		qsort(ranges->items, ranges->count, sizeof(*ranges->items), compare_ranges);
	for (size_t i = 0; i < ranges->count; i++) {
		if (ranges->items[i].high > reach)
			reach = ranges->items[i].high;
		ranges->items[i].reach = reach;
	}
}

uint32_t tm_ranges_find(const struct tm_ranges *ranges, uint64_t address)
{
	size_t low = 0, high = ranges->count;
	uint64_t best_length = UINT64_MAX;
	uint32_t best = TM_NO_INDEX;
	size_t steps = 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ranges->items[middle].low <= address)
			low = middle + 1;
		else
			high = middle;
	}
	/* Back from the last that starts at or before the address, as far as any can reach it. */
	while (low > 0 && ranges->items[low - 1].reach > address && steps++ < MAX_STEPS) {
		const struct tm_range *range = &ranges->items[--low];

		if (range->high > address && range->high - range->low < best_length) {
			best_length = range->high - range->low;
			best = range->index;
		}
	}
	return best;
}

void tm_ranges_deinit(struct tm_ranges *ranges)
{
	free(ranges->items);
	*ranges = (struct tm_ranges){0};
}
