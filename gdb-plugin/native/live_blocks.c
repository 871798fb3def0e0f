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
	struct tm_live_block *blocks; /* blocks[0] comes last of all in the answer */
	size_t count, capacity, limit;
	const struct tm_block_reader *reader;
	struct tm_found_block *block; /* scratch: it is too large for the stack */
	struct tm_live_table *table;
};

/* Larger blocks come first, then lower addresses, then malloc's before other domains'. */
static int comes_before(const struct tm_live_block *a, const struct tm_live_block *b)
{
	if (a->size != b->size)
		return a->size > b->size;
	if (a->address != b->address)
		return a->address < b->address;
	if (a->foreign != b->foreign)
		return a->foreign < b->foreign;
	return a->traceback < b->traceback;
}

static int compare_blocks(const void *left, const void *right)
{
	return comes_before(right, left) - comes_before(left, right);
}

static void swap(struct tm_live_block *a, struct tm_live_block *b)
{
	struct tm_live_block kept = *a;

	*a = *b;
	*b = kept;
}

static void sift_down(struct heap *heap, size_t at)
{
	for (;;) {
		size_t last = at, child = 2 * at + 1;

		if (child < heap->count && comes_before(&heap->blocks[last], &heap->blocks[child]))
			last = child;
		if (child + 1 < heap->count &&
		    comes_before(&heap->blocks[last], &heap->blocks[child + 1]))
			last = child + 1;
		if (last == at)
			return;
		swap(&heap->blocks[at], &heap->blocks[last]);
		at = last;
	}
}

static struct tm_error *heap_add(struct heap *heap, const struct tm_live_block *block)
{
	size_t at = heap->count;

	if (heap->count == heap->limit) {
		heap->blocks[0] = *block;
		sift_down(heap, 0);
		return NULL;
	}
	if (heap->count == heap->capacity) {
		size_t capacity = heap->capacity ? heap->capacity * 2 : 64;
		struct tm_live_block *blocks = realloc(heap->blocks, capacity * sizeof(*blocks));

		if (!blocks)
			return tm_error_no_memory();
		heap->blocks = blocks;
		heap->capacity = capacity;
	}
	heap->blocks[heap->count++] = *block;
	while (at && comes_before(&heap->blocks[(at - 1) / 2], &heap->blocks[at])) {
		swap(&heap->blocks[(at - 1) / 2], &heap->blocks[at]);
		at = (at - 1) / 2;
	}
	return NULL;
}

static struct tm_error *ended(void)
{
	return tm_error_new(TM_ERROR_INPUT, "the reading of blocks was ended");
}

static struct tm_error *is_wanted(struct heap *heap, const struct tm_live_block *block, int *ret)
{
	const struct tm_node *node;
	struct tm_error *error;
	uint64_t *note;

	*ret = 1;
	if (!heap->reader->wanted)
		return NULL;
	error = tm_live_table_node(heap->table, block->traceback, &node, &note);
	if (error)
		return error;
	if (!*note) {
		int answer;

		error = tm_image_fill_block(heap->table, block, heap->block);
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
			      const struct tm_live_block *blocks, size_t count)
{
	struct heap *heap = context;

	(void)table;
	for (size_t i = 0; i < count; i++) {
		struct tm_error *error;
		int wanted;

		if (heap->count == heap->limit && !comes_before(&blocks[i], &heap->blocks[0]))
			continue;
		error = is_wanted(heap, &blocks[i], &wanted);
		if (!error && wanted)
			error = heap_add(heap, &blocks[i]);
		if (error)
			return error;
	}
	return NULL;
}

static struct tm_error *hand_over(struct heap *heap)
{
	qsort(heap->blocks, heap->count, sizeof(*heap->blocks), compare_blocks);
	for (size_t i = 0; i < heap->count; i++) {
		struct tm_error *error =
			tm_image_fill_block(heap->table, &heap->blocks[i], heap->block);

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
	free(heap.blocks);
	free(heap.block);
	return error;
}
