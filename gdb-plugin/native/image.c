/*
 * Live table -> image: equal blocks become one row, the nodes in use become a
 * tree whose parents come first, the module list is copied in.
 *
 * May use: live_table.h, image.h, the C library.  Must not use: Python, gdb.
 * Must never follow a parent further than TM_MAX_FRAMES + 1 nodes.
 */
#include "image.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAMAGED(...) tm_error_new(TM_ERROR_INPUT, "the trace table is damaged: " __VA_ARGS__)

#define MAX_MODULES 65536u
#define MAX_NAMES (64u << 20)

/* ---- blocks of one size and node are counted together ---------------------- */

struct tally {
	uint64_t size;
	uint64_t count; /* 0: the place is free */
	uint32_t node;
};

struct tallies {
	struct tally *places;
	size_t mask; /* places - 1 */
	size_t used; /* 2 * used <= places */
};

static inline uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t hash = (a * UINT64_C(0x9e3779b97f4a7c15)) ^ (b + (a >> 32));

	hash *= UINT64_C(0xd6e8feb86659fd93);
	return hash ^ (hash >> 32);
}

static inline struct tally *tally_place(const struct tallies *tallies, uint64_t size, uint32_t node)
{
	size_t at = mix(size, node) & tallies->mask;

	while (tallies->places[at].count &&
	       (tallies->places[at].node != node || tallies->places[at].size != size))
		at = (at + 1) & tallies->mask;
	return &tallies->places[at];
}

static struct tm_error *tallies_grow(struct tallies *tallies)
{
	size_t places = tallies->places ? (tallies->mask + 1) * 2 : 4096;
	struct tallies larger = {calloc(places, sizeof(struct tally)), places - 1, tallies->used};

	if (!larger.places)
		return tm_error_no_memory();
	for (size_t i = 0; tallies->places && i <= tallies->mask; i++) {
		const struct tally *tally = &tallies->places[i];

		if (tally->count)
			*tally_place(&larger, tally->size, tally->node) = *tally;
	}
	free(tallies->places);
	*tallies = larger;
	return NULL;
}

static struct tm_error *count_block(struct tallies *tallies, const struct tm_live_block *block)
{
	struct tally *tally = tally_place(tallies, block->size, block->traceback);

	if (tally->count++)
		return NULL;
	tally->size = block->size;
	tally->node = block->traceback;
	tallies->used++;
	return tallies->used * 2 > tallies->mask ? tallies_grow(tallies) : NULL;
}

#define BATCH 64u

/*
 * A batch of blocks at a time: the places of all are fetched before the first
 * is counted, because with many different rows each is a cache miss.
 */
static struct tm_error *count_blocks(void *context, const struct tm_live_table *table,
				     const struct tm_live_block *blocks, size_t count)
{
	struct tallies *tallies = context;
	struct tm_error *error = NULL;

	(void)table;
	for (size_t first = 0; first < count && !error; first += BATCH) {
		size_t last = count - first < BATCH ? count : first + BATCH;

		for (size_t i = first; i < last; i++)
			__builtin_prefetch(
				&tallies->places[mix(blocks[i].size, blocks[i].traceback) &
						 tallies->mask]);
		for (size_t i = first; i < last && !error; i++)
			error = count_block(tallies, &blocks[i]);
	}
	return error;
}

/* ---- the tree in use --------------------------------------------------------- */

struct root {
	uint32_t domain;
	uint32_t truncated;
};

/*
 * A node's note, once it was met: low half its index in `nodes` (TM_NO_NODE
 * for a root), high half its root's index in `roots` + 1.
 */
struct tree {
	struct tm_image_node *nodes;
	size_t count, capacity;
	uint32_t *index; /* open addressing over nodes: index + 1, 0 is free */
	size_t mask;
	struct root *roots;
	size_t root_count, root_capacity;
	int merged; /* several nodes of the process became one of ours */
};

static void tree_deinit(struct tree *tree)
{
	free(tree->nodes);
	free(tree->index);
	free(tree->roots);
}

static uint32_t *tree_place(const struct tree *tree, uint32_t parent, uint64_t address)
{
	size_t at = mix(address, parent) & tree->mask;

	while (tree->index[at] && (tree->nodes[tree->index[at] - 1].parent != parent ||
				   tree->nodes[tree->index[at] - 1].address != address))
		at = (at + 1) & tree->mask;
	return &tree->index[at];
}

static struct tm_error *tree_grow(struct tree *tree)
{
	size_t capacity = tree->capacity ? tree->capacity * 2 : 1024;
	struct tm_image_node *nodes = realloc(tree->nodes, capacity * sizeof(*nodes));
	uint32_t *index = calloc(capacity * 2, sizeof(*index));

	if (nodes)
		tree->nodes = nodes;
	if (!nodes || !index) {
		free(index);
		return tm_error_no_memory();
	}
	free(tree->index);
	tree->index = index;
	tree->mask = capacity * 2 - 1;
	tree->capacity = capacity;
	for (size_t i = 0; i < tree->count; i++)
		*tree_place(tree, nodes[i].parent, nodes[i].address) = (uint32_t)i + 1;
	return NULL;
}

static struct tm_error *tree_add(struct tree *tree, uint32_t parent, uint64_t address,
				 uint32_t *ret)
{
	uint32_t depth = parent == TM_NO_NODE ? 1 : tree->nodes[parent].depth + 1;
	struct tm_error *error;
	uint32_t *place;

	if (depth > TM_MAX_FRAMES)
		return DAMAGED("a traceback is longer than %u frames", TM_MAX_FRAMES);
	if (tree->count == tree->capacity) {
		error = tree_grow(tree);
		if (error)
			return error;
	}
	place = tree_place(tree, parent, address);
	if (*place) {
		tree->merged = 1;
	} else {
		tree->nodes[tree->count] = (struct tm_image_node){address, parent, depth};
		*place = (uint32_t)++tree->count;
	}
	*ret = *place - 1;
	return NULL;
}

static struct tm_error *tree_add_root(struct tree *tree, const struct tm_node *node, uint64_t *note)
{
	uint64_t domain = node->address & TM_NODE_ADDRESS_MASK;

	if (domain > UINT32_MAX)
		return DAMAGED("a domain has the number %" PRIu64, domain);
	if (tree->root_count == tree->root_capacity) {
		size_t capacity = tree->root_capacity ? tree->root_capacity * 2 : 16;
		struct root *roots = realloc(tree->roots, capacity * sizeof(*roots));

		if (!roots)
			return tm_error_no_memory();
		tree->roots = roots;
		tree->root_capacity = capacity;
	}
	tree->roots[tree->root_count] =
		(struct root){(uint32_t)domain, (node->address & TM_NODE_TRUNCATED) != 0};
	*note = (uint64_t)++tree->root_count << 32 | TM_NO_NODE;
	return NULL;
}

/* Brings node `id` and all its callers into the tree; `*ret_note` is its note. */
static struct tm_error *tree_add_path(struct tree *tree, struct tm_live_table *table, uint32_t id,
				      uint64_t *ret_note)
{
	uint32_t path[TM_MAX_FRAMES + 1]; /* not yet met; most recent first */
	const struct tm_node *node;
	uint64_t *note, known;
	size_t length = 0;
	struct tm_error *error;

	for (;;) {
		error = tm_live_table_node(table, id, &node, &note);
		if (error)
			return error;
		if (!*note && (node->address & TM_NODE_ROOT)) {
			error = tree_add_root(tree, node, note);
			if (error)
				return error;
		}
		if (*note)
			break;
		if (length == TM_MAX_FRAMES)
			return DAMAGED("a traceback is longer than %u frames", TM_MAX_FRAMES);
		path[length++] = id;
		id = node->parent;
	}
	known = *note;
	while (length) {
		uint32_t added = 0;

		error = tm_live_table_node(table, path[--length], &node, &note);
		if (!error)
			error = tree_add(tree, (uint32_t)known,
					 node->address & (TM_NODE_ADDRESS_MASK | TM_NODE_EXACT),
					 &added);
		if (error)
			return error;
		known = (known >> 32 << 32) | added;
		*note = known;
	}
	*ret_note = known;
	return NULL;
}

/* ---- rows ---------------------------------------------------------------------- */

#define COMPARE(a, b) ((a) > (b)) - ((a) < (b))

static int compare_rows(const void *left, const void *right)
{
	const struct tm_row *a = left, *b = right;

	if (a->traceback != b->traceback)
		return COMPARE(a->traceback, b->traceback);
	if (a->domain != b->domain)
		return COMPARE(a->domain, b->domain);
	if (a->truncated != b->truncated)
		return COMPARE(a->truncated, b->truncated);
	return COMPARE(a->size, b->size);
}

static size_t merge_rows(struct tm_row *rows, size_t count)
{
	size_t kept = 0;

	qsort(rows, count, sizeof(*rows), compare_rows);
	for (size_t i = 0; i < count; i++) {
		if (kept && compare_rows(&rows[kept - 1], &rows[i]) == 0)
			rows[kept - 1].count += rows[i].count;
		else
			rows[kept++] = rows[i];
	}
	return kept;
}

static struct tm_error *make_rows(const struct tallies *tallies, struct tree *tree,
				  struct tm_live_table *table, struct tm_row *rows,
				  size_t *ret_count)
{
	size_t count = 0;

	for (size_t i = 0; tallies->places && i <= tallies->mask; i++) {
		const struct tally *tally = &tallies->places[i];
		struct tm_error *error;
		uint64_t note = 0;

		if (!tally->count)
			continue;
		error = tree_add_path(tree, table, tally->node, &note);
		if (error)
			return error;
		rows[count++] = (struct tm_row){
			.size = tally->size,
			.count = tally->count,
			.traceback = (uint32_t)note,
			.domain = tree->roots[(note >> 32) - 1].domain,
			.truncated = tree->roots[(note >> 32) - 1].truncated,
		};
	}
	*ret_count = tree->merged || tree->root_count > 1 ? merge_rows(rows, count) : count;
	return NULL;
}

/* ---- modules -------------------------------------------------------------------- */

struct modules {
	struct tm_module *list;
	uint64_t count;
	char *names;
	uint64_t names_size;
};

static void modules_deinit(struct modules *modules)
{
	free(modules->list);
	free(modules->names);
}

static struct tm_error *read_modules(const struct tm_memory *memory, uint64_t address,
				     struct modules *modules)
{
	struct tm_module_list list;
	struct tm_error *error;

	if (!address)
		return NULL;
	error = tm_live_read(memory, address, &list, sizeof(list), "the module list");
	if (error)
		return error;
	if (list.count > MAX_MODULES || list.names_size > MAX_NAMES)
		return DAMAGED("it lists %" PRIu32 " modules with %" PRIu32 " bytes of names",
			       list.count, list.names_size);
	if (!list.count)
		return NULL;
	address += sizeof(list);
	modules->list = calloc(list.count, sizeof(*modules->list));
	modules->names = calloc((size_t)list.names_size + 1, 1);
	if (!modules->list || !modules->names)
		return tm_error_no_memory();
	error = tm_live_read(memory, address, modules->list, list.count * sizeof(struct tm_module),
			     "the modules");
	if (!error && list.names_size)
		error = tm_live_read(memory, address + list.count * sizeof(struct tm_module),
				     modules->names, list.names_size, "the modules' names");
	if (error)
		return error;
	modules->count = list.count;
	modules->names_size = (uint64_t)list.names_size + 1; /* ends with a NUL whatever comes */
	for (uint32_t i = 0; i < list.count; i++) {
		const struct tm_module *module = &modules->list[i];

		if (module->start > module->end || module->path >= modules->names_size ||
		    module->build_id_size > sizeof(module->build_id))
			return DAMAGED("module %" PRIu32 " of its list makes no sense", i);
	}
	return NULL;
}

/* ---- the image -------------------------------------------------------------------- */

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t append(char *bytes, uint64_t *at, const void *from, uint64_t length)
{
	uint64_t offset = *at;

	if (length)
		memcpy(bytes + offset, from, length);
	*at = offset + length;
	return offset;
}

static struct tm_error *put_together(const struct tm_live_table *table,
				     const struct tm_live_counts *counts, const struct tree *tree,
				     const struct tm_row *rows, size_t row_count,
				     const struct modules *modules, struct tm_image_buffer *ret)
{
	uint64_t at = sizeof(struct tm_image);
	uint64_t size = at + row_count * sizeof(*rows) + tree->count * sizeof(*tree->nodes) +
			modules->count * sizeof(*modules->list) + modules->names_size;
	char *bytes = malloc(size);
	struct tm_image image = {
		.magic = TM_IMAGE_MAGIC,
		.version = TM_IMAGE_VERSION,
		.header_size = sizeof(image),
		.size = size,
		.limit = table->generation.limit,
		.pid = table->header.pid,
		.time = now(),
		.start_time = table->header.start_time,
		.current = counts->current,
		.peak = counts->peak,
		.dropped = table->header.dropped,
		.untracked_frees = table->generation.filter ? 0 : table->untracked_frees,
		.sample_period = table->generation.sample_period,
		.min_size = table->generation.min_size,
		.row_count = row_count,
		.node_count = tree->count,
		.module_count = modules->count,
		.names_size = modules->names_size,
	};

	if (!bytes)
		return tm_error_no_memory();
	image.rows = append(bytes, &at, rows, row_count * sizeof(*rows));
	image.nodes = append(bytes, &at, tree->nodes, tree->count * sizeof(*tree->nodes));
	image.modules = append(bytes, &at, modules->list, modules->count * sizeof(*modules->list));
	image.names = append(bytes, &at, modules->names, modules->names_size);
	memcpy(bytes, &image, sizeof(image));
	*ret = (struct tm_image_buffer){bytes, size};
	return NULL;
}

static struct tm_error *take_rows(struct tm_live_table *table, struct tree *tree,
				  struct tm_row **ret_rows, size_t *ret_count)
{
	struct tallies tallies = {NULL, 0, 0};
	struct tm_error *error = tallies_grow(&tallies);

	if (!error)
		error = tm_live_table_walk(table, 0, table->segment_count, count_blocks, &tallies);
	if (!error) {
		*ret_rows = malloc((tallies.used + 1) * sizeof(**ret_rows));
		error = *ret_rows ? make_rows(&tallies, tree, table, *ret_rows, ret_count)
				  : tm_error_no_memory();
	}
	free(tallies.places);
	return error;
}

struct tm_error *tm_image_take(const struct tm_memory *memory, uint64_t header_address,
			       struct tm_image_buffer *ret)
{
	struct modules modules = {NULL, 0, NULL, 0};
	struct tree tree = {.nodes = NULL};
	struct tm_live_counts counts;
	struct tm_live_table table;
	struct tm_row *rows = NULL;
	size_t row_count = 0;
	struct tm_error *error;

	error = tm_live_table_open(memory, header_address, &table);
	if (!error)
		error = tm_live_counts_read(memory, &table.generation, &counts);
	if (!error)
		error = take_rows(&table, &tree, &rows, &row_count);
	if (!error)
		error = read_modules(memory, table.header.modules, &modules);
	if (!error)
		error = put_together(&table, &counts, &tree, rows, row_count, &modules, ret);
	free(rows);
	modules_deinit(&modules);
	tree_deinit(&tree);
	tm_live_table_close(&table);
	return error;
}
