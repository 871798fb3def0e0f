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
	struct tm_live_block best; /* the innermost that holds it */
	int found;
};

/* Of blocks that hold an address: the last to begin, the smallest, that of domain 0. */
static int is_inside(const struct tm_live_block *block, const struct tm_live_block *other)
{
	if (block->address != other->address)
		return block->address > other->address;
	if (block->size != other->size)
		return block->size < other->size;
	return !block->foreign;
}

static struct tm_error *search_blocks(void *context, const struct tm_live_table *table,
				      const struct tm_live_block *blocks, size_t count)
{
	struct search *search = context;

	(void)table;
	for (size_t i = 0; i < count; i++) {
		uint64_t start = blocks[i].address;

		/* a block of no bytes holds its own address */
		if (start > search->address ||
		    (start != search->address && search->address - start >= blocks[i].size))
			continue;
		if (search->found && !is_inside(&blocks[i], &search->best))
			continue;
		search->best = blocks[i];
		search->found = 1;
	}
	return NULL;
}

struct tm_error *tm_image_fill_block(struct tm_live_table *table, const struct tm_live_block *block,
				     struct tm_found_block *ret)
{
	uint32_t id = block->traceback;
	const struct tm_node *node;
	struct tm_error *error;

	ret->address = block->address;
	ret->size = block->size;
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
		/* Its own segment first: a block that begins there is there. */
		segment = tm_live_table_segment(&table, address);
		if (segment)
			error = tm_live_table_walk(&table, (size_t)(segment - table.segments),
						   (size_t)(segment - table.segments) + 1,
						   search_blocks, &search);
		if (!error && (!search.found || search.best.address != address))
			error = tm_live_table_walk(&table, 0, table.segment_count, search_blocks,
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
	uint64_t tracebacks, blocks;
	struct estimate sum; /* of a sampled table */
};

static struct tm_error *see_blocks(void *context, const struct tm_live_table *table,
				   const struct tm_live_block *blocks, size_t count)
{
	struct seen *seen = context;

	for (size_t i = 0; i < count; i++) {
		uint32_t node = blocks[i].traceback;

		if (node >= table->generation.node_count)
			return tm_error_new(TM_ERROR_INPUT,
					    "the trace table is damaged: node %" PRIu32
					    " is named, but there are %" PRIu32,
					    node, table->generation.node_count);
		seen->tracebacks += !(seen->bits[node / 8] >> node % 8 & 1);
		seen->bits[node / 8] |= (uint8_t)(1u << node % 8);
		if (table->generation.sample_period &&
		    estimate_add_blocks(&seen->sum, blocks[i].size, 1,
					table->generation.sample_period))
			return tm_error_new(TM_ERROR_INPUT,
					    "the trace table is damaged: its blocks add up to "
					    "more than 2^63 bytes");
	}
	seen->blocks += count;
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
		error = seen.bits ? tm_live_table_walk(&table, 0, table.segment_count, see_blocks,
						       &seen)
				  : tm_error_no_memory();
	}
	ret->recorded = ret->blocks = seen.blocks;
	ret->tracebacks = seen.tracebacks;
	if (!ret->generation.filter) /* else nobody could tell them from those left out */
		ret->untracked_frees = table.untracked_frees;
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
	struct tm_error *error;

	memset(ret, 0, sizeof(*ret));
	error = tm_live_header_read(memory, header_address, &ret->header, &ret->generation);
	if (error || !ret->header.generation)
		return error;
	error = tm_live_counts_read(memory, &ret->generation, &ret->counts);
	return error ? error : look_at_blocks(memory, header_address, ret);
}
