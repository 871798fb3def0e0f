/*
 * A trace table made by hand in a pretended process, for tests that read one.
 * All functions are static: a test program is one file.
 *
 * May use: cmocka, image.h.  Must not use: Python, gdb, a process.
 */
#ifndef TM_FAKE_TABLE_H
#define TM_FAKE_TABLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image.h"

/* ---- a table made by hand ------------------------------------------------------ */

#define BASE UINT64_C(0x7f0000000000)
#define SPACE (24u << 20)

struct fake {
	char *bytes; /* what is at BASE */
	size_t used;
	uint64_t reads;
	uint64_t header, generation, shards, counters, chunks, nodes, modules;
	uint32_t depth;
	uint32_t node_count;
};

static uint64_t fake_alloc(struct fake *fake, size_t size)
{
	size_t at = (fake->used + 63) & ~(size_t)63;

	fake->used = at + size;
	assert_true(fake->used <= SPACE);
	return BASE + at;
}

static void *at(struct fake *fake, uint64_t address)
{
	assert_true(address >= BASE && address < BASE + fake->used);
	return fake->bytes + (address - BASE);
}

static int fake_read(void *context, uint64_t address, void *buffer, size_t length)
{
	struct fake *fake = context;

	fake->reads++;
	if (address < BASE || address - BASE > fake->used || length > fake->used - (address - BASE))
		return -1;
	memcpy(buffer, fake->bytes + (address - BASE), length);
	return 0;
}

static struct tm_memory memory_of(struct fake *fake)
{
	return (struct tm_memory){fake_read, fake};
}

static uint32_t fake_node(struct fake *fake, uint64_t address, uint32_t parent)
{
	struct tm_node *nodes = at(fake, fake->nodes);
	struct tm_generation *generation = at(fake, fake->generation);

	nodes[fake->node_count] = (struct tm_node){address, parent, 0};
	generation->node_count = ++fake->node_count;
	return fake->node_count - 1;
}

static uint64_t fake_segment(struct fake *fake)
{
	fake->used = (fake->used + 4095) & ~(size_t)4095;
	return fake_alloc(fake, sizeof(struct tm_segment)) | fake->depth;
}

static uint64_t *fake_entry(struct fake *fake, uint64_t address)
{
	struct tm_shard *shards = at(fake, fake->shards);
	uint64_t directory = shards[tm_shard_index(address)].directory & ~TM_DIRECTORY_DEPTH_MASK;

	return (uint64_t *)at(fake, directory) + tm_directory_index(address, fake->depth);
}

static struct tm_bucket *fake_bucket(struct fake *fake, uint64_t entry, uint32_t bucket)
{
	return (struct tm_bucket *)at(fake, entry & ~TM_SEGMENT_DEPTH_MASK) + bucket;
}

/* Readers look at all slots, so any place will do. */
static void put_slot(struct fake *fake, uint64_t entry, uint64_t key, uint64_t size, uint32_t node)
{
	int large = size >= TM_KEY_LARGE;
	uint32_t i = 1, slot;

	for (;; i++) {
		struct tm_bucket *bucket = fake_bucket(fake, entry, i);

		assert_true(i < TM_SEGMENT_BUCKETS);
		for (slot = 0; slot + (uint32_t)large < TM_BUCKET_SLOTS; slot++) {
			if (bucket->key[slot] || (large && bucket->key[slot + 1]))
				continue;
			bucket->key[slot] = key | (large ? TM_KEY_LARGE : size)
							  << TM_KEY_SIZE_SHIFT;
			bucket->traceback[slot] = node;
			if (large) {
				bucket->key[slot + 1] =
					TM_KEY_SIZE | size >> 32 << TM_KEY_SIZE_SHIFT;
				bucket->traceback[slot + 1] = (uint32_t)size;
			}
			return;
		}
	}
}

/* A block of another domain than 0. */
static inline void fake_foreign(struct fake *fake, uint64_t address, uint64_t size, uint32_t node)
{
	put_slot(fake, *fake_entry(fake, address), address | TM_KEY_FOREIGN, size, node);
}

static void fake_block(struct fake *fake, uint64_t address, uint64_t size, uint32_t node)
{
	put_slot(fake, *fake_entry(fake, address), address, size, node);
}

static void fake_init(struct fake *fake, uint32_t depth)
{
	struct tm_generation *generation;
	struct tm_header *header;
	struct tm_shard *shards;
	uint64_t *chunks;

	memset(fake, 0, sizeof(*fake));
	fake->bytes = calloc(1, SPACE);
	assert_non_null(fake->bytes);
	fake->depth = depth;
	fake->header = fake_alloc(fake, sizeof(*header));
	fake->generation = fake_alloc(fake, sizeof(*generation));
	fake->shards = fake_alloc(fake, TM_SHARDS * sizeof(*shards));
	fake->counters = fake_alloc(fake, TM_MAX_THREADS * sizeof(struct tm_counter));
	fake->nodes = fake_alloc(fake, TM_NODES_PER_CHUNK * sizeof(struct tm_node));
	fake->chunks = fake_alloc(fake, 4 * sizeof(uint64_t));
	chunks = at(fake, fake->chunks);
	chunks[0] = fake->nodes;
	header = at(fake, fake->header);
	*header = (struct tm_header){
		.magic = TM_MAGIC,
		.version = TM_LAYOUT_VERSION,
		.header_size = sizeof(*header),
		.self = fake->header,
		.state = TM_STATE_TRACING,
		.pid = 42,
		.generation = fake->generation,
		.start_time = 7,
		.dropped = 3,
		.memory = 100,
	};
	generation = at(fake, fake->generation);
	*generation = (struct tm_generation){
		.shards = fake->shards,
		.counters = fake->counters,
		.node_chunks = fake->chunks,
		.limit = 10,
		.memory = 1000,
		.id = 2,
		.traceback_count = 5,
	};
	fake_node(fake, 0, 0); /* id 0 is no node */
	for (uint32_t i = 0; i < TM_SHARDS; i++) {
		uint64_t directory = fake_alloc(fake, sizeof(uint64_t) << depth);

		for (uint32_t entry = 0; entry < 1u << depth; entry++)
			((uint64_t *)at(fake, directory))[entry] = fake_segment(fake);
		shards = at(fake, fake->shards);
		shards[i].directory = directory | depth;
	}
}

__attribute__((unused)) static void fake_deinit(struct fake *fake)
{
	free(fake->bytes);
}

static void fake_modules(struct fake *fake)
{
	static const char names[] = "\0/bin/program\0/lib/libc.so.6";
	struct tm_header *header = at(fake, fake->header);
	struct tm_module_list *list;
	struct tm_module *modules;

	fake->modules = fake_alloc(fake, sizeof(*list) + 2 * sizeof(*modules) + sizeof(names));
	header->modules = fake->modules;
	list = at(fake, fake->modules);
	*list = (struct tm_module_list){2, sizeof(names), 0};
	modules = (void *)(list + 1);
	modules[0] =
		(struct tm_module){.start = 0x1000, .end = 0x2000, .path = 1, .build_id_size = 20};
	modules[1] = (struct tm_module){.start = 0x3000, .end = 0x4000, .path = 14};
	memcpy(modules + 2, names, sizeof(names));
}

/* ---- helpers of the tests --------------------------------------------------------- */

__attribute__((unused)) static void take(struct fake *fake, struct tm_image_buffer *image,
					 struct tm_image_view *view)
{
	struct tm_memory memory = memory_of(fake);
	struct tm_error *error = tm_image_take(&memory, fake->header, image);

	if (error)
		fail_msg("%s", error->message);
	error = tm_image_check(image->bytes, image->size, view);
	if (error)
		fail_msg("%s", error->message);
}

/* Whatever happens, it ends, and with one line or a good image. */
__attribute__((unused)) static char *take_damaged(struct fake *fake)
{
	struct tm_memory memory = memory_of(fake);
	struct tm_image_buffer image;
	struct tm_image_view view;
	struct tm_error *error = tm_image_take(&memory, fake->header, &image);
	char *text = NULL;

	if (error) {
		assert_null(strchr(error->message, '\n'));
		text = strdup(error->message);
		tm_error_free(error);
		return text;
	}
	error = tm_image_check(image.bytes, image.size, &view);
	if (error)
		fail_msg("%s", error->message);
	free(image.bytes);
	return NULL;
}

__attribute__((unused)) static void assert_damage(struct fake *fake, const char *expected)
{
	char *text = take_damaged(fake);

	assert_non_null(text);
	if (!strstr(text, expected))
		fail_msg("%s", text);
	free(text);
}

__attribute__((unused)) static const struct tm_row *row_of(const struct tm_image_view *view,
							   uint64_t size, uint32_t domain)
{
	for (uint64_t i = 0; i < view->header->row_count; i++)
		if (view->rows[i].size == size && view->rows[i].domain == domain)
			return &view->rows[i];
	return NULL;
}

#endif
