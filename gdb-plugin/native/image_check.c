/*
 * Checks images that may come from anywhere, and answers the small questions
 * about a live table: one block, the counters.
 *
 * May use: image.h, live_table.h, the C library.  Must not use: Python, gdb.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "estimate.h"
#include "image.h"

#define BROKEN(...) tm_error_new(TM_ERROR_INPUT, "the snapshot is damaged: " __VA_ARGS__)

/* ---- images ------------------------------------------------------------------ */

static struct tm_error *check_part(const struct tm_image *image, uint64_t offset, uint64_t count,
				   uint64_t each, const char *what)
{
	if (offset > image->size || count > (image->size - offset) / each || offset % 8)
		return BROKEN("its %s do not fit", what);
	return NULL;
}

static struct tm_error *check_header(const struct tm_image *image, size_t size)
{
	struct tm_error *error;

	if (image->magic != TM_IMAGE_MAGIC)
		return tm_error_new(TM_ERROR_INPUT, "this is not a snapshot");
	if (image->version != TM_IMAGE_VERSION)
		return tm_error_new(TM_ERROR_INPUT,
				    "the snapshot has version %" PRIu32
				    ", this plugin reads version %u",
				    image->version, TM_IMAGE_VERSION);
	if (image->header_size != sizeof(*image) || image->size != size)
		return BROKEN("it is not as long as it says");
	if (image->sample_period &&
	    (image->sample_period < TM_SAMPLE_MIN || image->sample_period > TM_SAMPLE_MAX))
		return BROKEN("its sampling makes no sense");
	error = check_part(image, image->rows, image->row_count, sizeof(struct tm_row), "rows");
	if (!error)
		error = check_part(image, image->nodes, image->node_count,
				   sizeof(struct tm_image_node), "nodes");
	if (!error && image->node_count >= TM_NO_NODE)
		error = BROKEN("it has too many nodes");
	if (!error)
		error = check_part(image, image->modules, image->module_count,
				   sizeof(struct tm_module), "modules");
	if (!error)
		error = check_part(image, image->names, image->names_size, 1, "names");
	return error;
}

static struct tm_error *check_contents(const struct tm_image_view *view)
{
	const struct tm_image *image = view->header;

	for (uint64_t i = 0; i < image->node_count; i++) {
		const struct tm_image_node *node = &view->nodes[i];
		uint32_t depth = 1;

		if (node->parent != TM_NO_NODE) {
			if (node->parent >= i)
				return BROKEN("node %" PRIu64 " comes before its caller", i);
			depth = view->nodes[node->parent].depth + 1;
		}
		if (node->depth != depth || depth > TM_MAX_FRAMES)
			return BROKEN("node %" PRIu64 " has depth %" PRIu32, i, node->depth);
	}
	for (uint64_t i = 0; i < image->row_count; i++) {
		const struct tm_row *row = &view->rows[i];

		if (row->traceback >= image->node_count && row->traceback != TM_NO_NODE)
			return BROKEN("row %" PRIu64 " names a node that is not there", i);
		if (row->size > TM_MAX_SIZE || row->truncated > 1 || row->count == 0 ||
		    row->count > TM_MAX_SIZE)
			return BROKEN("row %" PRIu64 " makes no sense", i);
	}
	if (image->module_count &&
	    (!image->names_size || view->names[image->names_size - 1] != '\0'))
		return BROKEN("its names do not end");
	for (uint64_t i = 0; i < image->module_count; i++) {
		const struct tm_module *module = &view->modules[i];

		if (module->path >= image->names_size ||
		    module->build_id_size > sizeof(module->build_id))
			return BROKEN("module %" PRIu64 " makes no sense", i);
	}
	return NULL;
}

struct tm_error *tm_image_check(const void *bytes, size_t size, struct tm_image_view *ret)
{
	const struct tm_image *image = bytes;
	struct tm_error *error;

	if (size < sizeof(*image))
		return tm_error_new(TM_ERROR_INPUT, "this is not a snapshot");
	error = check_header(image, size);
	if (error)
		return error;
	ret->header = image;
	ret->rows = (const void *)((const char *)bytes + image->rows);
	ret->nodes = (const void *)((const char *)bytes + image->nodes);
	ret->modules = (const void *)((const char *)bytes + image->modules);
	ret->names = (const char *)bytes + image->names;
	return check_contents(ret);
}

/* ---- one block ------------------------------------------------------------------ */

struct search {
	uint64_t address;
	struct tm_slot best; /* the innermost block that holds it */
	int found;
};

/* Of blocks that hold an address: the last to begin, the smallest, that of domain 0. */
static int is_inside(const struct tm_slot *slot, const struct tm_slot *other)
{
	uint64_t start = tm_slot_address(slot), other_start = tm_slot_address(other);
	uint64_t size = tm_slot_size(slot), other_size = tm_slot_size(other);

	if (start != other_start)
		return start > other_start;
	if (size != other_size)
		return size < other_size;
	return !(slot->key & TM_SLOT_FOREIGN);
}

static struct tm_error *search_slots(void *context, const struct tm_live_table *table,
				     const struct tm_live_segment *segment,
				     const struct tm_slot *slots)
{
	struct search *search = context;

	for (uint32_t i = 0; i < segment->capacity; i++) {
		uint64_t start = tm_slot_address(&slots[i]);
		uint64_t size = tm_slot_size(&slots[i]);

		/* a block of no bytes holds its own address */
		if (start > search->address ||
		    (start != search->address && search->address - start >= size))
			continue;
		if (search->found && !is_inside(&slots[i], &search->best))
			continue;
		if (!tm_live_slot_counts(table, segment, &slots[i]))
			continue;
		search->best = slots[i];
		search->found = 1;
	}
	return NULL;
}

struct tm_error *tm_image_fill_block(struct tm_live_table *table, const struct tm_slot *slot,
				     struct tm_found_block *ret)
{
	uint32_t id = tm_slot_traceback(slot);
	const struct tm_node *node;
	struct tm_error *error;

	ret->address = tm_slot_address(slot);
	ret->size = tm_slot_size(slot);
	ret->frame_count = 0;
	for (;;) {
		error = tm_live_table_node(table, id, &node, NULL);
		if (error)
			return error;
		if (node->address & TM_NODE_ROOT)
			break;
		if (ret->frame_count == TM_MAX_FRAMES)
			return tm_error_new(TM_ERROR_INPUT,
					    "the trace table is damaged: a traceback is longer "
					    "than %u frames",
					    TM_MAX_FRAMES);
		ret->frames[ret->frame_count++] =
			node->address & (TM_NODE_ADDRESS_MASK | TM_NODE_EXACT);
		id = node->parent;
	}
	ret->domain = (uint32_t)node->address;
	ret->truncated = (node->address & TM_NODE_TRUNCATED) != 0;
	return NULL;
}

struct tm_error *tm_image_find_block(const struct tm_memory *memory, uint64_t header_address,
				     uint64_t address, struct tm_found_block *ret, int *ret_found)
{
	struct search search = {.address = address};
	const struct tm_live_segment *segment;
	struct tm_live_table table;
	struct tm_error *error;

	*ret_found = 0;
	error = tm_live_table_open(memory, header_address, &table);
	if (!error) {
		/* The segment of this page first: what begins in the page is there. */
		segment = tm_live_table_segment(&table, address);
		if (segment)
			error = tm_live_table_walk(&table, (size_t)(segment - table.segments),
						   (size_t)(segment - table.segments) + 1,
						   search_slots, &search);
		if (!error &&
		    (!search.found || tm_slot_address(&search.best) >> 12 != address >> 12))
			error = tm_live_table_walk(&table, 0, table.segment_count, search_slots,
						   &search);
	}
	if (!error && search.found) {
		error = tm_image_fill_block(&table, &search.best, ret);
		*ret_found = !error;
	}
	tm_live_table_close(&table);
	return error;
}

/* ---- counters --------------------------------------------------------------------- */

struct seen {
	uint8_t *bits; /* by node */
	uint64_t count;
	struct estimate sum; /* of a sampled table */
};

static struct tm_error *see_slots(void *context, const struct tm_live_table *table,
				  const struct tm_live_segment *segment,
				  const struct tm_slot *slots)
{
	struct seen *seen = context;

	for (uint32_t i = 0; i < segment->capacity; i++) {
		uint32_t node = tm_slot_traceback(&slots[i]);

		if (!tm_live_slot_counts(table, segment, &slots[i]))
			continue;
		if (node >= table->generation.node_count)
			return tm_error_new(TM_ERROR_INPUT,
					    "the trace table is damaged: node %" PRIu32
					    " is named, but there are %" PRIu32,
					    node, table->generation.node_count);
		seen->count += !(seen->bits[node / 8] >> node % 8 & 1);
		seen->bits[node / 8] |= (uint8_t)(1u << node % 8);
		if (table->generation.sample_period &&
		    estimate_add_blocks(&seen->sum, tm_slot_size(&slots[i]), 1,
					table->generation.sample_period))
			return tm_error_new(TM_ERROR_INPUT,
					    "the trace table is damaged: its blocks add up to "
					    "more than 2^63 bytes");
	}
	return NULL;
}

/* What only a look at every block tells. */
static struct tm_error *look_at_blocks(const struct tm_memory *memory, uint64_t header_address,
				       struct tm_live_status *ret)
{
	struct seen seen = {.bits = NULL};
	struct tm_live_table table;
	struct tm_error *error = tm_live_table_open(memory, header_address, &table);

	if (!error) {
		seen.bits = calloc((size_t)table.generation.node_count / 8 + 1, 1);
		error = seen.bits ? tm_live_table_walk(&table, 0, table.segment_count, see_slots,
						       &seen)
				  : tm_error_no_memory();
	}
	ret->tracebacks = seen.count;
	if (ret->generation.sample_period) {
		ret->blocks = estimate_count(&seen.sum);
		ret->size_error = sqrt(seen.sum.size_variance);
		ret->count_error = sqrt(seen.sum.count_variance);
	}
	free(seen.bits);
	tm_live_table_close(&table);
	return error;
}

struct tm_error *tm_image_status(const struct tm_memory *memory, uint64_t header_address,
				 struct tm_live_status *ret)
{
	struct tm_shard shards[TM_SHARDS];
	struct tm_error *error;

	memset(ret, 0, sizeof(*ret));
	error = tm_live_header_read(memory, header_address, &ret->header, &ret->generation);
	if (error || !ret->header.generation)
		return error;
	error = tm_live_counts_read(memory, &ret->generation, &ret->counts);
	if (!error)
		error = tm_live_read(memory, ret->generation.shards, shards, sizeof(shards),
				     "the shards");
	for (uint32_t i = 0; i < TM_SHARDS && !error; i++) {
		ret->blocks += shards[i].live;
		ret->untracked_frees += shards[i].untracked_frees;
	}
	ret->recorded = ret->blocks;
	if (ret->generation.filter)
		ret->untracked_frees = 0; /* nobody could tell them from those left out */
	if (!error)
		error = look_at_blocks(memory, header_address, ret);
	return error;
}
