/*
 * Live table -> image: what counts, what is merged, and that no damage to the
 * table does more than give an error of one line.
 *
 * links: gdb-plugin/native/image.c gdb-plugin/native/image_check.c
 * gdb-plugin/native/live_table.c gdb-plugin/native/error.c
 *
 * May use: the sources above, cmocka.  Must not use: Python, gdb, a process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_table.h"
#include "image.h"

/* ---- what counts -------------------------------------------------------------------- */

static void equal_blocks_are_one_row(void **state)
{
	struct tm_image_buffer image;
	struct tm_image_view view;
	const struct tm_row *row;
	uint32_t root, main_call, leaf;
	struct fake fake;

	(void)state;
	fake_init(&fake, 0);
	fake_modules(&fake);
	root = fake_node(&fake, TM_NODE_ROOT, 0);
	main_call = fake_node(&fake, 0x1111, root);
	leaf = fake_node(&fake, 0x2222 | TM_NODE_EXACT, main_call);
	fake_node(&fake, 0x3333, root); /* not in use */
	for (uint64_t i = 0; i < 100; i++)
		fake_block(&fake, 0x500000 + i * 0x1010, 126, leaf);
	fake_block(&fake, 0x10000, UINT64_C(5) << 33, main_call);
	fake_block(&fake, 0x20000, 0, main_call);
	take(&fake, &image, &view);
	assert_int_equal(view.header->row_count, 3);
	assert_int_equal(view.header->node_count, 2);
	assert_int_equal(view.header->limit, 10);
	assert_int_equal(view.header->pid, 42);
	assert_int_equal(view.header->dropped, 3);
	row = row_of(&view, 126, 0);
	assert_non_null(row);
	assert_int_equal(row->count, 100);
	assert_true(view.nodes[row->traceback].address == (0x2222 | TM_NODE_EXACT));
	assert_int_equal(view.nodes[row->traceback].depth, 2);
	assert_int_equal(view.nodes[view.nodes[row->traceback].parent].address, 0x1111);
	assert_non_null(row_of(&view, UINT64_C(5) << 33, 0));
	assert_non_null(row_of(&view, 0, 0));
	assert_int_equal(view.header->module_count, 2);
	assert_string_equal(view.names + view.modules[1].path, "/lib/libc.so.6");
	assert_int_equal(view.modules[0].build_id_size, 20);
	free(image.bytes);
	fake_deinit(&fake);
}

static void equal_tracebacks_merge_whatever_their_nodes(void **state)
{
	struct tm_image_buffer image;
	struct tm_image_view view;
	uint32_t roots[4], leaves[4];
	struct fake fake;

	(void)state;
	fake_init(&fake, 1);
	roots[0] = fake_node(&fake, TM_NODE_ROOT, 0);
	roots[1] = fake_node(&fake, TM_NODE_ROOT, 0); /* the same once more */
	roots[2] = fake_node(&fake, TM_NODE_ROOT | 1, 0);
	roots[3] = fake_node(&fake, TM_NODE_ROOT | TM_NODE_TRUNCATED, 0);
	for (int i = 0; i < 4; i++) {
		leaves[i] = fake_node(&fake, 0x2222, fake_node(&fake, 0x1111, roots[i]));
		fake_block(&fake, 0x700000 + (uint64_t)i * 0x100000, 64, leaves[i]);
	}
	fake_block(&fake, 0x40, 8, roots[2]); /* no frames at all */
	take(&fake, &image, &view);
	assert_int_equal(view.header->node_count, 2);
	assert_int_equal(view.header->row_count, 4);
	assert_int_equal(row_of(&view, 64, 1)->count, 1);
	assert_int_equal(row_of(&view, 8, 1)->traceback, TM_NO_NODE);
	for (uint64_t i = 0; i < view.header->row_count; i++)
		if (view.rows[i].size == 64 && view.rows[i].domain == 0)
			assert_int_equal(view.rows[i].count, view.rows[i].truncated ? 1 : 2);
	free(image.bytes);
	fake_deinit(&fake);
}

static void free_and_misplaced_slots_do_not_count(void **state)
{
	struct tm_image_buffer image;
	struct tm_image_view view;
	uint64_t address = 0x123450;
	struct tm_bucket *bucket;
	struct fake fake;
	uint32_t node;

	(void)state;
	fake_init(&fake, 1);
	node = fake_node(&fake, 0x1111, fake_node(&fake, TM_NODE_ROOT, 0));
	fake_block(&fake, address, 64, node);
	/* in the middle of a split: the other half still holds a copy */
	for (uint64_t other = address;; other += 4096) {
		if (*fake_entry(&fake, other) != *fake_entry(&fake, address)) {
			put_slot(&fake, *fake_entry(&fake, other), address, 64, node);
			break;
		}
	}
	fake_block(&fake, address + 0x10, TM_MAX_SIZE, node);
	/* free, with what was there before, and the rest of a size whose block has gone */
	bucket = fake_bucket(&fake, *fake_entry(&fake, address), 0);
	bucket->traceback[0] = 0xffffffff;
	bucket->traceback[1] = 0xffffffff;
	bucket->key[2] = TM_KEY_SIZE | UINT64_C(77) << TM_KEY_SIZE_SHIFT;
	bucket->traceback[2] = 0xffffffff;
	bucket->passed = 0xffffffff;
	take(&fake, &image, &view);
	assert_int_equal(view.header->row_count, 2);
	assert_int_equal(row_of(&view, 64, 0)->count, 1);
	assert_int_equal(row_of(&view, TM_MAX_SIZE, 0)->count, 1);
	free(image.bytes);
	fake_deinit(&fake);
}

static void entries_may_share_a_segment(void **state)
{
	struct tm_image_buffer image;
	struct tm_image_view view;
	struct tm_shard *shards;
	struct fake fake;
	uint32_t node;

	(void)state;
	fake_init(&fake, 2);
	node = fake_node(&fake, 0x1111, fake_node(&fake, TM_NODE_ROOT, 0));
	shards = at(&fake, fake.shards);
	for (uint32_t i = 0; i < TM_SHARDS; i++) {
		uint64_t *entries = at(&fake, shards[i].directory & ~TM_DIRECTORY_DEPTH_MASK);

		entries[2] = entries[0];
		entries[3] = i % 2 ? entries[1] : 0; /* and some need not exist */
	}
	for (uint64_t address = 0x1000; address < 0x200000; address += 0x1000)
		if (*fake_entry(&fake, address))
			fake_block(&fake, address, 16, node);
	take(&fake, &image, &view);
	assert_int_equal(view.header->row_count, 1);
	assert_true(view.rows[0].count > 300 && view.rows[0].count < 0x1ff);
	free(image.bytes);
	fake_deinit(&fake);
}

static void nothing_traced_is_an_empty_image(void **state)
{
	struct tm_image_buffer image;
	struct tm_image_view view;
	struct tm_header *header;
	struct fake fake;

	(void)state;
	fake_init(&fake, 0);
	take(&fake, &image, &view);
	assert_int_equal(view.header->row_count, 0);
	free(image.bytes);
	header = at(&fake, fake.header);
	header->generation = 0;
	take(&fake, &image, &view);
	assert_int_equal(view.header->row_count, 0);
	assert_int_equal(image.size, sizeof(struct tm_image));
	free(image.bytes);
	fake_deinit(&fake);
}

/* ---- one block, counters --------------------------------------------------------------- */

/* A pool and its first item begin at one address: neither hides the other. */
static void blocks_of_several_domains_share_an_address(void **state)
{
	static struct tm_found_block block;
	struct tm_image_buffer image;
	struct tm_image_view view;
	struct tm_memory memory;
	uint32_t own, foreign;
	struct fake fake;
	int found;

	(void)state;
	fake_init(&fake, 1);
	memory = memory_of(&fake);
	own = fake_node(&fake, 0x1111, fake_node(&fake, TM_NODE_ROOT, 0));
	foreign = fake_node(&fake, 0x2222, fake_node(&fake, TM_NODE_ROOT | 7, 0));
	fake_foreign(&fake, 0x500000, 24, foreign);
	fake_block(&fake, 0x500000, 4096, own);
	fake_foreign(&fake, 0x700000, TM_MAX_SIZE, foreign);
	fake_block(&fake, 0x800000, 24, own);
	fake_foreign(&fake, 0x800000, 24, foreign);
	take(&fake, &image, &view);
	assert_int_equal(view.header->row_count, 5 - 1);
	assert_int_equal(row_of(&view, 24, 7)->count, 2);
	assert_int_equal(row_of(&view, TM_MAX_SIZE, 7)->count, 1);
	assert_int_equal(row_of(&view, 4096, 0)->count, 1);
	static const struct {
		uint64_t address, size;
		uint32_t domain;
	} cases[] = {{0x500000, 24, 7}, {0x500018, 4096, 0}, {0x800000, 24, 0}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_null(tm_image_find_block(&memory, fake.header, cases[i].address, &block,
						&found));
		assert_true(found);
		assert_int_equal(block.size, cases[i].size);
		assert_int_equal(block.domain, cases[i].domain);
	}
	free(image.bytes);
	fake_deinit(&fake);
}

static void a_block_is_found_by_any_address_in_it(void **state)
{
	static struct tm_found_block block;
	struct tm_memory memory;
	uint32_t root, leaf;
	struct fake fake;
	int found;

	(void)state;
	fake_init(&fake, 1);
	memory = memory_of(&fake);
	root = fake_node(&fake, TM_NODE_ROOT | TM_NODE_TRUNCATED | 7, 0);
	leaf = fake_node(&fake, 0x2222 | TM_NODE_EXACT, fake_node(&fake, 0x1111, root));
	fake_block(&fake, 0x500000, 0x300000, leaf); /* a pool … */
	fake_block(&fake, 0x600010, 0x20, leaf);     /* … and a block in it */
	fake_block(&fake, 0x900000, 0, leaf);
	static const struct {
		uint64_t address, start;
	} cases[] = {
		{0x500000, 0x500000}, {0x500001, 0x500000}, {0x7fffff, 0x500000},
		{0x600010, 0x600010}, {0x60002f, 0x600010}, {0x600030, 0x500000},
		{0x60000f, 0x500000}, {0x900000, 0x900000}, {0x900001, 0},
		{0x800000, 0},        {0x4fffff, 0},        {UINT64_MAX, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_null(tm_image_find_block(&memory, fake.header, cases[i].address, &block,
						&found));
		assert_int_equal(found, cases[i].start != 0);
		if (!found)
			continue;
		assert_int_equal(block.address, cases[i].start);
		assert_int_equal(block.domain, 7);
		assert_int_equal(block.truncated, 1);
		assert_int_equal(block.frame_count, 2);
		assert_true(block.frames[0] == (0x2222 | TM_NODE_EXACT));
		assert_int_equal(block.frames[1], 0x1111);
	}
	fake_deinit(&fake);
}

static void counters_are_exact_for_one_thread(void **state)
{
	struct tm_live_status status;
	struct tm_generation *generation;
	struct tm_counter *counters;
	struct tm_memory memory;
	struct tm_shard *shards;
	struct fake fake;

	(void)state;
	fake_init(&fake, 0);
	memory = memory_of(&fake);
	generation = at(&fake, fake.generation);
	generation->current = 1000;
	generation->peak = 1200;
	counters = at(&fake, fake.counters);
	counters[7] = (struct tm_counter){.room = 600, .highest = 500};
	shards = at(&fake, fake.shards);
	for (uint64_t i = 0; i < 11; i++)
		fake_block(&fake, 0x5000 + 4096 * i, 16, fake_node(&fake, TM_NODE_ROOT | i, 0));
	shards[40].untracked_frees = 9;
	assert_null(tm_image_status(&memory, fake.header, &status));
	assert_int_equal(status.counts.current, 900);
	assert_int_equal(status.counts.peak, 1500);
	assert_int_equal(status.blocks, 11);
	assert_int_equal(status.tracebacks, 11);
	assert_int_equal(status.untracked_frees, 9);
	counters[8].room = -10; /* of two threads, nobody knows what came first */
	assert_null(tm_image_status(&memory, fake.header, &status));
	assert_int_equal(status.counts.current, 910);
	assert_int_equal(status.counts.peak, 1200);
	counters[8].room = 5000;
	assert_null(tm_image_status(&memory, fake.header, &status));
	assert_int_equal(status.counts.current, 0);
	generation->current = INT64_MIN;
	struct tm_error *error = tm_image_status(&memory, fake.header, &status);

	assert_non_null(error);
	tm_error_free(error);
	fake_deinit(&fake);
}

/* ---- damage ------------------------------------------------------------------------------ */

static void damage_has_a_clear_line(void **state)
{
	struct tm_generation *generation;
	struct tm_header *header;
	struct tm_shard *shards;
	struct tm_node *nodes;
	struct fake fake;
	uint32_t node;
	uint64_t kept;

	(void)state;
	fake_init(&fake, 0);
	fake_modules(&fake);
	node = fake_node(&fake, 0x1111, fake_node(&fake, TM_NODE_ROOT, 0));
	fake_block(&fake, 0x5000, 64, node);
	header = at(&fake, fake.header);
	generation = at(&fake, fake.generation);
	shards = at(&fake, fake.shards);
	nodes = at(&fake, fake.nodes);

	kept = shards[3].directory;
	shards[3].directory |= 63;
	assert_damage(&fake, "the trace table is damaged: shard 3 names a directory of depth 63");
	shards[3].directory = shards[4].directory;
	assert_damage(&fake, "two segments overlap");
	shards[3].directory = BASE - 4096;
	assert_damage(&fake, "cannot read a directory at 0x7efffffff000");
	shards[3].directory = kept;

	nodes[node].parent = node; /* a circle */
	assert_damage(&fake, "a traceback is longer than 1000 frames");
	nodes[node].parent = 99;
	assert_damage(&fake, "node 99 is named, but there are 3");
	nodes[node].parent = 0;
	assert_damage(&fake, "node 0 is named");
	nodes[node].parent = node - 1;
	nodes[node - 1].address |= UINT64_C(1) << 40;
	assert_damage(&fake, "a domain has the number 1099511627776");
	nodes[node - 1].address = TM_NODE_ROOT;

	generation->node_count = UINT32_MAX;
	free(take_damaged(&fake));
	generation->node_count = 3;
	generation->limit = 1001;
	assert_damage(&fake, "its limit is 1001 frames");
	generation->limit = 10;
	generation->sample_period = TM_SAMPLE_MIN - 1;
	assert_damage(&fake, "it was sampled every 1023 bytes");
	generation->sample_period = TM_SAMPLE_MAX + 1;
	assert_damage(&fake, "it was sampled every");
	generation->sample_period = 0;
	kept = *fake_entry(&fake, 0x5000);
	*fake_entry(&fake, 0x5000) = BASE - 4096;
	assert_damage(&fake, "cannot read a segment at 0x7efffffff000");
	*fake_entry(&fake, 0x5000) = kept;

	((struct tm_module_list *)at(&fake, fake.modules))->count = 70000;
	assert_damage(&fake, "it lists 70000 modules");
	((struct tm_module_list *)at(&fake, fake.modules))->count = 2;

	header->version = 1;
	assert_damage(&fake, "has layout version 1, this plugin reads version 7");
	header->version = TM_LAYOUT_VERSION;
	header->self++;
	assert_damage(&fake, "does not describe itself");
	header->magic++;
	assert_damage(&fake, "no trace table begins at");
	fake_deinit(&fake);
}

static void a_traceback_may_have_a_thousand_frames(void **state)
{
	struct tm_image_buffer image;
	struct tm_image_view view;
	struct fake fake;
	uint32_t node;

	(void)state;
	fake_init(&fake, 0);
	node = fake_node(&fake, TM_NODE_ROOT, 0);
	for (int i = 0; i < 1000; i++)
		node = fake_node(&fake, 0x1000 + (uint64_t)i, node);
	fake_block(&fake, 0x5000, 64, node);
	take(&fake, &image, &view);
	assert_int_equal(view.nodes[view.rows[0].traceback].depth, 1000);
	free(image.bytes);
	fake_block(&fake, 0x5100, 64, fake_node(&fake, 0x1, node));
	assert_damage(&fake, "longer than 1000 frames");
	fake_deinit(&fake);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

/* Overwrites each word of each structure in turn, with each of these. */
static void no_damage_does_harm(void **state)
{
	static const uint64_t words[] = {
		0,          1,          63,
		UINT32_MAX, UINT64_MAX, UINT64_C(1) << 63,
		BASE,       BASE + 8,   UINT64_C(1) << 47,
	};
	static struct tm_found_block block;
	struct {
		uint64_t start;
		size_t size;
	} areas[6];
	struct tm_memory memory;
	uint32_t node, root;
	struct fake fake;
	int found;

	(void)state;
	fake_init(&fake, 1);
	fake_modules(&fake);
	memory = memory_of(&fake);
	root = fake_node(&fake, TM_NODE_ROOT, 0);
	node = fake_node(&fake, 0x1111, root);
	for (uint64_t i = 0; i < 50; i++)
		fake_block(&fake, 0x5000 + i * 256, 64 + i % 3, i % 2 ? node : root);
	areas[0].start = fake.header, areas[0].size = sizeof(struct tm_header);
	areas[1].start = fake.generation, areas[1].size = sizeof(struct tm_generation);
	areas[2].start = fake.shards, areas[2].size = 2 * sizeof(struct tm_shard);
	areas[3].start = fake.nodes, areas[3].size = 4 * sizeof(struct tm_node);
	areas[4].start = fake.modules, areas[4].size = 16 + 2 * sizeof(struct tm_module);
	areas[5].start = *fake_entry(&fake, 0x5000), areas[5].size = 512;
	for (size_t area = 0; area < 6; area++) {
		for (size_t place = 0; place + 8 <= areas[area].size; place += 8) {
			char *word = (char *)at(&fake, areas[area].start) + place;
			uint64_t kept;

			memcpy(&kept, word, 8);
			for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
				memcpy(word, &words[i], 8);
				free(take_damaged(&fake));
				tm_error_free(tm_image_find_block(&memory, fake.header, 0x5001,
								  &block, &found));
			}
			memcpy(word, &kept, 8);
		}
	}
	assert_null(take_damaged(&fake));
	fake_deinit(&fake);
}

static void damaged_images_are_refused(void **state)
{
	struct tm_image_buffer image;
	struct tm_image_view view;
	struct fake fake;
	uint64_t seed = 1;
	uint32_t node;
	char *copy;

	(void)state;
	fake_init(&fake, 0);
	fake_modules(&fake);
	node = fake_node(&fake, TM_NODE_ROOT, 0);
	for (uint64_t i = 0; i < 20; i++) {
		node = fake_node(&fake, 0x1000 + i, node);
		fake_block(&fake, 0x5000 + i * 64, i, node);
	}
	take(&fake, &image, &view);
	for (size_t size = 0; size < image.size; size++) {
		/* a copy of just that size, so that valgrind sees reads behind it */
		copy = malloc(size + 1);
		assert_non_null(copy);
		memcpy(copy, image.bytes, size);
		struct tm_error *error = tm_image_check(copy, size, &view);

		assert_non_null(error);
		tm_error_free(error);
		free(copy);
	}
	for (int i = 0; i < 50000; i++) {
		uint64_t value = next_random(&seed) % 3 ? next_random(&seed) % 64 : UINT64_MAX;
		size_t place = next_random(&seed) % (image.size - 8);

		copy = malloc(image.size);
		assert_non_null(copy);
		memcpy(copy, image.bytes, image.size);
		memcpy(copy + place, &value, 8);
		tm_error_free(tm_image_check(copy, image.size, &view));
		free(copy);
	}
	free(image.bytes);
	fake_deinit(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_blocks_are_one_row),
		cmocka_unit_test(equal_tracebacks_merge_whatever_their_nodes),
		cmocka_unit_test(free_and_misplaced_slots_do_not_count),
		cmocka_unit_test(entries_may_share_a_segment),
		cmocka_unit_test(nothing_traced_is_an_empty_image),
		cmocka_unit_test(blocks_of_several_domains_share_an_address),
		cmocka_unit_test(a_block_is_found_by_any_address_in_it),
		cmocka_unit_test(counters_are_exact_for_one_thread),
		cmocka_unit_test(damage_has_a_clear_line),
		cmocka_unit_test(a_traceback_may_have_a_thousand_frames),
		cmocka_unit_test(no_damage_does_harm),
		cmocka_unit_test(damaged_images_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
