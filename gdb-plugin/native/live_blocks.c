/*
 * Reads the largest blocks of a live table: a heap of the best seen so far, so
 * that the memory it takes follows the limit and not the table.
 *
 * May use: live_blocks.h, image.h, live_table.h, the C library.
 * Must not use: Python, gdb.
 */
#include "live_blocks.h"

#include <stdlib.h>

/* What a node's note says, once it was asked about. */
#define WANTED UINT64_C(1)
#define UNWANTED UINT64_C(2)

struct heap {
	struct tm_slot *slots; /* slots[0] comes last of all in the answer */
	size_t count, capacity, limit;
	const struct tm_block_reader *reader;
	struct tm_found_block *block; /* scratch: it is too large for the stack */
	struct tm_live_table *table;
};

/* Larger blocks come first, then lower addresses, then malloc's before other domains'. */
static int comes_before(const struct tm_slot *a, const struct tm_slot *b)
{
	uint64_t size_a = tm_slot_size(a), size_b = tm_slot_size(b);

	if (size_a != size_b)
		return size_a > size_b;
	if (tm_slot_address(a) != tm_slot_address(b))
		return tm_slot_address(a) < tm_slot_address(b);
	if (a->key != b->key)
		return a->key < b->key;
	return tm_slot_traceback(a) < tm_slot_traceback(b);
}

static int compare_slots(const void *left, const void *right)
{
	return comes_before(right, left) - comes_before(left, right);
}

static void swap(struct tm_slot *a, struct tm_slot *b)
{
	struct tm_slot kept = *a;

	*a = *b;
	*b = kept;
}

static void sift_down(struct heap *heap, size_t at)
{
	for (;;) {
		size_t last = at, child = 2 * at + 1;

		if (child < heap->count && comes_before(&heap->slots[last], &heap->slots[child]))
			last = child;
		if (child + 1 < heap->count &&
		    comes_before(&heap->slots[last], &heap->slots[child + 1]))
			last = child + 1;
		if (last == at)
			return;
		swap(&heap->slots[at], &heap->slots[last]);
		at = last;
	}
}

static struct tm_error *heap_add(struct heap *heap, const struct tm_slot *slot)
{
	size_t at = heap->count;

	if (heap->count == heap->limit) {
		heap->slots[0] = *slot;
		sift_down(heap, 0);
		return NULL;
	}
	if (heap->count == heap->capacity) {
		size_t capacity = heap->capacity ? heap->capacity * 2 : 64;
		struct tm_slot *slots = realloc(heap->slots, capacity * sizeof(*slots));

		if (!slots)
			return tm_error_no_memory();
		heap->slots = slots;
		heap->capacity = capacity;
	}
	heap->slots[heap->count++] = *slot;
	while (at && comes_before(&heap->slots[(at - 1) / 2], &heap->slots[at])) {
		swap(&heap->slots[(at - 1) / 2], &heap->slots[at]);
		at = (at - 1) / 2;
	}
	return NULL;
}

static struct tm_error *ended(void)
{
	return tm_error_new(TM_ERROR_INPUT, "the reading of blocks was ended");
}

static struct tm_error *is_wanted(struct heap *heap, const struct tm_slot *slot, int *ret)
{
	const struct tm_node *node;
	struct tm_error *error;
	uint64_t *note;

	*ret = 1;
	if (!heap->reader->wanted)
		return NULL;
	error = tm_live_table_node(heap->table, tm_slot_traceback(slot), &node, &note);
	if (error)
		return error;
	if (!*note) {
		int answer;

		error = tm_image_fill_block(heap->table, slot, heap->block);
		if (error)
			return error;
		answer = heap->reader->wanted(heap->reader->context, heap->block);
		if (answer < 0)
			return ended();
		*note = answer ? WANTED : UNWANTED;
	}
	*ret = *note == WANTED;
	return NULL;
}

static struct tm_error *visit(void *context, const struct tm_live_table *table,
			      const struct tm_live_segment *segment, const struct tm_slot *slots)
{
	struct heap *heap = context;

	for (uint32_t i = 0; i < segment->capacity; i++) {
		struct tm_error *error;
		int wanted;

		if (!tm_live_slot_counts(table, segment, &slots[i]))
			continue;
		if (heap->count == heap->limit && !comes_before(&slots[i], &heap->slots[0]))
			continue;
		error = is_wanted(heap, &slots[i], &wanted);
		if (!error && wanted)
			error = heap_add(heap, &slots[i]);
		if (error)
			return error;
	}
	return NULL;
}

static struct tm_error *hand_over(struct heap *heap)
{
	qsort(heap->slots, heap->count, sizeof(*heap->slots), compare_slots);
	for (size_t i = 0; i < heap->count; i++) {
		struct tm_error *error =
			tm_image_fill_block(heap->table, &heap->slots[i], heap->block);

		if (error)
			return error;
		if (heap->reader->take(heap->reader->context, heap->block) < 0)
			return ended();
	}
	return NULL;
}

struct tm_error *tm_live_blocks_read(const struct tm_memory *memory, uint64_t header_address,
				     uint64_t limit, const struct tm_block_reader *reader)
{
	struct tm_live_table table;
	struct heap heap = {.reader = reader, .table = &table};
	struct tm_error *error;

	if (limit == 0)
		return NULL;
	heap.limit = limit < TM_LIVE_MAX_BLOCKS ? limit : TM_LIVE_MAX_BLOCKS;
	heap.block = malloc(sizeof(*heap.block));
	if (!heap.block)
		return tm_error_no_memory();
	error = tm_live_table_open(memory, header_address, &table);
	if (!error)
		error = tm_live_table_walk(&table, 0, table.segment_count, visit, &heap);
	if (!error && heap.count)
		error = hand_over(&heap);
	tm_live_table_close(&table);
	free(heap.slots);
	free(heap.block);
	return error;
}
