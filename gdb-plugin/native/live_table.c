/*
 * Reads the helper's table, see live_table.h.
 *
 * May use: tm_layout.h, error.h, the C library.  Must not use: Python, gdb.
 * Must never use a number from the process before it was checked.
 */
#include "live_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DAMAGED(...) tm_error_new(TM_ERROR_INPUT, "the trace table is damaged: " __VA_ARGS__)

/* Segments that stand side by side are read together, up to this many. */
#define RUN_SEGMENTS 128u

struct tm_error *tm_live_read(const struct tm_memory *memory, uint64_t address, void *buffer,
			      size_t length, const char *what)
{
	if (address == 0 || address + length < address ||
	    memory->read(memory->context, address, buffer, length) < 0)
		return DAMAGED("cannot read %s at 0x%" PRIx64, what, address);
	return NULL;
}

struct tm_error *tm_live_header_read(const struct tm_memory *memory, uint64_t address,
				     struct tm_header *ret_header,
				     struct tm_generation *ret_generation)
{
	struct tm_header header;
	struct tm_error *error;

	error = tm_live_read(memory, address, &header, sizeof(header), "the header");
	if (error)
		return error;
	if (header.magic != TM_MAGIC)
		return tm_error_new(TM_ERROR_INPUT, "no trace table begins at 0x%" PRIx64, address);
	if (header.version != TM_LAYOUT_VERSION)
		return tm_error_new(TM_ERROR_INPUT,
				    "the helper in the process has layout version %" PRIu32
				    ", this plugin reads version %u",
				    header.version, TM_LAYOUT_VERSION);
	if (header.header_size != sizeof(header) || header.self != address)
		return DAMAGED("its header does not describe itself");
	memset(ret_generation, 0, sizeof(*ret_generation));
	*ret_header = header;
	if (!header.generation)
		return NULL;
	error = tm_live_read(memory, header.generation, ret_generation, sizeof(*ret_generation),
			     "the generation");
	if (!error && ret_generation->limit > TM_MAX_FRAMES)
		error = DAMAGED("its limit is %" PRIu32 " frames", ret_generation->limit);
	if (!error && ret_generation->sample_period &&
	    (ret_generation->sample_period < TM_SAMPLE_MIN ||
	     ret_generation->sample_period > TM_SAMPLE_MAX))
		error = DAMAGED("it was sampled every %" PRIu64 " bytes",
				ret_generation->sample_period);
	return error;
}

/* ---- segments ------------------------------------------------------------ */

static int compare_addresses(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static int compare_segments(const void *left, const void *right)
{
	const struct tm_live_segment *a = left, *b = right;

	return (a->address > b->address) - (a->address < b->address);
}

/* Adds the distinct segments that the directory of `index` names. */
static struct tm_error *add_segments(struct tm_live_table *table, uint32_t index)
{
	struct tm_live_shard *shard = &table->shards[index];
	size_t entries = (size_t)1 << shard->depth, distinct = 0;
	uint64_t *addresses = malloc(entries * sizeof(*addresses));
	struct tm_live_segment *segments;

	if (!addresses)
		return tm_error_no_memory();
	memcpy(addresses, shard->directory, entries * sizeof(*addresses));
	qsort(addresses, entries, sizeof(*addresses), compare_addresses);
	for (size_t i = 0; i < entries; i++)
		if (addresses[i] && (distinct == 0 || addresses[distinct - 1] != addresses[i]))
			addresses[distinct++] = addresses[i];
	segments =
		realloc(table->segments, (table->segment_count + distinct + 1) * sizeof(*segments));
	if (!segments) {
		free(addresses);
		return tm_error_no_memory();
	}
	table->segments = segments;
	for (size_t i = 0; i < distinct; i++)
		segments[table->segment_count++] = (struct tm_live_segment){addresses[i], index};
	free(addresses);
	return NULL;
}

static struct tm_error *read_directory(struct tm_live_table *table, uint32_t index, uint64_t word,
				       uint64_t *entries)
{
	struct tm_live_shard *shard = &table->shards[index];
	uint32_t depth = (uint32_t)(word & TM_DIRECTORY_DEPTH_MASK);
	uint64_t address = word & ~TM_DIRECTORY_DEPTH_MASK;
	struct tm_error *error;

	if (depth > TM_MAX_DEPTH)
		return DAMAGED("shard %" PRIu32 " names a directory of depth %" PRIu32, index,
			       depth);
	*entries += UINT64_C(1) << depth;
	if (*entries > TM_LIVE_MAX_ENTRIES)
		return DAMAGED("its directories have more than %" PRIu64 " entries",
			       TM_LIVE_MAX_ENTRIES);
	shard->depth = depth;
	shard->directory = calloc((size_t)1 << depth, sizeof(uint64_t));
	if (!shard->directory)
		return tm_error_no_memory();
	if (!address) /* a shard that never held a block */
		return NULL;
	error = tm_live_read(&table->memory, address, shard->directory, sizeof(uint64_t) << depth,
			     "a directory");
	for (size_t i = 0; i < (size_t)1 << depth; i++)
		shard->directory[i] &= ~TM_SEGMENT_DEPTH_MASK;
	return error;
}

static struct tm_error *read_shards(struct tm_live_table *table)
{
	struct tm_shard shards[TM_SHARDS];
	struct tm_error *error;
	uint64_t entries = 0;

	error = tm_live_read(&table->memory, table->generation.shards, shards, sizeof(shards),
			     "the shards");
	for (uint32_t i = 0; i < TM_SHARDS && !error; i++) {
		table->untracked_frees += shards[i].untracked_frees;
		error = read_directory(table, i, shards[i].directory, &entries);
		if (!error)
			error = add_segments(table, i);
	}
	if (error || !table->segment_count)
		return error;
	/* Disjoint segments bound the work by the memory the process really has. */
	qsort(table->segments, table->segment_count, sizeof(*table->segments), compare_segments);
	for (size_t i = 1; i < table->segment_count; i++) {
		uint64_t address = table->segments[i].address;

		if (address - table->segments[i - 1].address < sizeof(struct tm_segment))
			return DAMAGED("two segments overlap at 0x%" PRIx64, address);
	}
	return NULL;
}

/* ---- nodes ---------------------------------------------------------------- */

static struct tm_error *read_chunk_addresses(struct tm_live_table *table)
{
	uint64_t count = ((uint64_t)table->generation.node_count + TM_NODES_PER_CHUNK - 1) /
			 TM_NODES_PER_CHUNK;

	table->chunk_count = count;
	if (!count)
		return NULL;
	table->chunks = calloc(count, sizeof(*table->chunks));
	table->chunk_addresses = calloc(count, sizeof(*table->chunk_addresses));
	if (!table->chunks || !table->chunk_addresses)
		return tm_error_no_memory();
	return tm_live_read(&table->memory, table->generation.node_chunks, table->chunk_addresses,
			    count * sizeof(uint64_t), "the list of nodes");
}

static struct tm_error *read_chunk(struct tm_live_table *table, size_t index)
{
	struct tm_live_chunk *chunk = &table->chunks[index];
	uint64_t left = table->generation.node_count - (uint64_t)index * TM_NODES_PER_CHUNK;
	size_t count = left < TM_NODES_PER_CHUNK ? (size_t)left : TM_NODES_PER_CHUNK;

	chunk->notes = calloc(count, sizeof(*chunk->notes));
	chunk->nodes = malloc(count * sizeof(*chunk->nodes));
	if (!chunk->notes || !chunk->nodes)
		return tm_error_no_memory();
	return tm_live_read(&table->memory, table->chunk_addresses[index], chunk->nodes,
			    count * sizeof(*chunk->nodes), "nodes");
}

struct tm_error *tm_live_table_node(struct tm_live_table *table, uint32_t id,
				    const struct tm_node **ret_node, uint64_t **ret_note)
{
	size_t index = id / TM_NODES_PER_CHUNK;
	struct tm_error *error;

	if (id == 0 || id >= table->generation.node_count)
		return DAMAGED("node %" PRIu32 " is named, but there are %" PRIu32, id,
			       table->generation.node_count);
	if (!table->chunks[index].nodes) {
		error = read_chunk(table, index);
		if (error) {
			/* a second look must not find a chunk that was never read */
			free(table->chunks[index].nodes);
			free(table->chunks[index].notes);
			table->chunks[index] = (struct tm_live_chunk){NULL, NULL};
			return error;
		}
	}
	*ret_node = &table->chunks[index].nodes[id % TM_NODES_PER_CHUNK];
	if (ret_note)
		*ret_note = &table->chunks[index].notes[id % TM_NODES_PER_CHUNK];
	return NULL;
}

/* ---- the table ------------------------------------------------------------ */

struct tm_error *tm_live_table_open(const struct tm_memory *memory, uint64_t address,
				    struct tm_live_table *ret)
{
	struct tm_error *error;

	memset(ret, 0, sizeof(*ret));
	ret->memory = *memory;
	ret->address = address;
	error = tm_live_header_read(memory, address, &ret->header, &ret->generation);
	if (error || !ret->header.generation)
		return error;
	error = read_shards(ret);
	return error ? error : read_chunk_addresses(ret);
}

void tm_live_table_close(struct tm_live_table *table)
{
	for (uint32_t i = 0; i < TM_SHARDS; i++)
		free(table->shards[i].directory);
	for (size_t i = 0; table->chunks && i < table->chunk_count; i++) {
		free(table->chunks[i].nodes);
		free(table->chunks[i].notes);
	}
	free(table->chunks);
	free(table->chunk_addresses);
	free(table->segments);
	memset(table, 0, sizeof(*table));
}

/* How many segments from `first` on stand side by side. */
static size_t run_length(const struct tm_live_table *table, size_t first, size_t last)
{
	const struct tm_live_segment *segments = table->segments;
	size_t i = first + 1;

	while (i < last && i - first < RUN_SEGMENTS &&
	       segments[i].address == segments[i - 1].address + sizeof(struct tm_segment))
		i++;
	return i - first;
}

/* The block in a slot.  False when there is none, or by the rule of tm_layout.h it does not count. */
static int read_block(const struct tm_live_table *table, const struct tm_live_segment *segment,
		      const struct tm_bucket *bucket, uint32_t slot, struct tm_live_block *ret)
{
	const struct tm_live_shard *shard = &table->shards[segment->shard];
	uint64_t key = bucket->key[slot];
	uint64_t bent;

	if (!tm_key_is_block(key))
		return 0;
	bent = tm_bent(tm_hash(tm_key_address(key)));
	if (tm_shard_of(bent) != segment->shard ||
	    shard->directory[tm_entry_of(bent, shard->depth)] != segment->address)
		return 0;
	ret->address = tm_key_address(key);
	ret->size = tm_bucket_size(bucket, slot);
	ret->traceback = bucket->traceback[slot];
	ret->foreign = (key & TM_KEY_FOREIGN) != 0;
	return 1;
}

static struct tm_error *visit_segment(const struct tm_live_table *table,
				      const struct tm_live_segment *segment,
				      const struct tm_segment *contents, tm_visit_blocks visit,
				      void *context)
{
	struct tm_live_block blocks[TM_SEGMENT_BUCKETS * TM_BUCKET_SLOTS];
	size_t count = 0;

	for (uint32_t i = 0; i < TM_SEGMENT_BUCKETS; i++)
		for (uint32_t slot = 0; slot < TM_BUCKET_SLOTS; slot++)
			count += (size_t)read_block(table, segment, &contents->bucket[i], slot,
						    &blocks[count]);
	return visit(context, table, blocks, count);
}

struct tm_error *tm_live_table_walk(struct tm_live_table *table, size_t first, size_t last,
				    tm_visit_blocks visit, void *context)
{
	size_t most = last - first < RUN_SEGMENTS ? last - first : RUN_SEGMENTS;
	struct tm_segment *contents = malloc((most ? most : 1) * sizeof(*contents));
	struct tm_error *error = NULL;

	if (!contents)
		return tm_error_no_memory();
	while (first < last && !error) {
		size_t count = run_length(table, first, last);

		error = tm_live_read(&table->memory, table->segments[first].address, contents,
				     count * sizeof(*contents), "a segment");
		for (size_t i = 0; i < count && !error; i++)
			error = visit_segment(table, &table->segments[first + i], &contents[i],
					      visit, context);
		first += count;
	}
	free(contents);
	return error;
}

const struct tm_live_segment *tm_live_table_segment(const struct tm_live_table *table,
						    uint64_t address)
{
	const struct tm_live_shard *shard = &table->shards[tm_shard_index(address)];
	struct tm_live_segment wanted;

	if (!shard->directory || !table->segment_count)
		return NULL;
	wanted.address = shard->directory[tm_directory_index(address, shard->depth)];
	return bsearch(&wanted, table->segments, table->segment_count, sizeof(wanted),
		       compare_segments);
}

/* ---- counters -------------------------------------------------------------- */

#define COUNTERS_AT_ONCE 1024u
_Static_assert(TM_MAX_THREADS % COUNTERS_AT_ONCE == 0, "pieces of the same size");

struct counter_sum {
	int64_t delta;
	int64_t lone_highest;
	uint32_t used;
};

/* A piece at a time: most of the pages are empty. */
static struct tm_error *sum_counters(const struct tm_memory *memory, uint64_t address,
				     struct counter_sum *sum)
{
	struct tm_counter counters[COUNTERS_AT_ONCE];
	struct tm_error *error = NULL;

	for (uint32_t first = 0; first < TM_MAX_THREADS && !error; first += COUNTERS_AT_ONCE) {
		error = tm_live_read(memory, address + first * sizeof(*counters), counters,
				     sizeof(counters), "the counters");
		for (uint32_t i = 0; i < COUNTERS_AT_ONCE && !error; i++) {
			if (!counters[i].room && !counters[i].highest)
				continue;
			sum->used++;
			sum->lone_highest = tm_counter_highest(&counters[i]);
			sum->delta += tm_counter_delta(&counters[i]);
		}
	}
	return error;
}

struct tm_error *tm_live_counts_read(const struct tm_memory *memory,
				     const struct tm_generation *generation,
				     struct tm_live_counts *ret)
{
	struct counter_sum sum = {0, 0, 0};
	int64_t current, peak = generation->peak, lone;
	struct tm_error *error;

	*ret = (struct tm_live_counts){0, 0};
	if (!generation->counters)
		return NULL;
	error = sum_counters(memory, generation->counters, &sum);
	if (error)
		return error;
	if (__builtin_add_overflow(generation->current, sum.delta, &current) ||
	    __builtin_add_overflow(generation->current, sum.lone_highest, &lone))
		return DAMAGED("its counters add up to more than 2^63 bytes");
	if (current > peak)
		peak = current;
	if (sum.used == 1 && lone > peak)
		peak = lone;
	ret->current = current > 0 ? (uint64_t)current : 0;
	ret->peak = peak > 0 ? (uint64_t)peak : 0;
	return NULL;
}
