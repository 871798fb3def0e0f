/*
 * The largest blocks of a live table: their order, the limit, the question which
 * are wanted, and that no damage to the table does more than give one line.
 *
 * links: gdb-plugin/native/live_blocks.c gdb-plugin/native/image.c
 * gdb-plugin/native/image_check.c gdb-plugin/native/live_table.c gdb-plugin/native/error.c
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
#include "live_blocks.h"

#define MOST 64

struct taken {
	uint64_t addresses[MOST], sizes[MOST];
	size_t count, questions;
	uint64_t wanted_frame; /* 0: all are wanted */
	int ends_after;        /* blocks; -1: never */
};

static int take_block(void *context, const struct tm_found_block *block)
{
	struct taken *taken = context;

	if (taken->ends_after >= 0 && taken->count == (size_t)taken->ends_after)
		return -1;
	assert_true(taken->count < MOST);
	taken->addresses[taken->count] = block->address;
	taken->sizes[taken->count++] = block->size;
	return 0;
}

static int is_wanted(void *context, const struct tm_found_block *block)
{
	struct taken *taken = context;

	taken->questions++;
	return block->frame_count == 1 && block->frames[0] == taken->wanted_frame;
}

static struct tm_error *read_blocks(struct fake *fake, uint64_t limit, struct taken *taken)
{
	struct tm_memory memory = memory_of(fake);
	struct tm_block_reader reader = {
		.wanted = taken->wanted_frame ? is_wanted : NULL,
		.take = take_block,
		.context = taken,
	};

	return tm_live_blocks_read(&memory, fake->header, limit, &reader);
}

/* Fifty blocks of three sizes, of two tracebacks by turns. */
static void fake_many(struct fake *fake)
{
	uint32_t root, first, second;

	fake_init(fake, 1);
	fake_modules(fake);
	root = fake_node(fake, TM_NODE_ROOT, 0);
	first = fake_node(fake, 0x1111, root);
	second = fake_node(fake, 0x2222, root);
	for (uint64_t i = 0; i < 50; i++)
		fake_block(fake, 0x5000 + i * 256, 64 + i % 3, i % 2 ? first : second);
}

static void largest_come_first(void **state)
{
	struct fake fake;

	(void)state;
	fake_many(&fake);
	for (uint64_t limit = 0; limit <= 60; limit++) {
		struct taken taken = {.ends_after = -1};

		assert_null(read_blocks(&fake, limit, &taken));
		assert_int_equal(taken.count, limit < 50 ? limit : 50);
		for (size_t i = 1; i < taken.count; i++)
			assert_true(taken.sizes[i - 1] > taken.sizes[i] ||
				    (taken.sizes[i - 1] == taken.sizes[i] &&
				     taken.addresses[i - 1] < taken.addresses[i]));
		if (limit)
			assert_int_equal(taken.addresses[0], 0x5200);
	}
	fake_deinit(&fake);
}

static void each_traceback_is_asked_about_once(void **state)
{
	struct taken taken = {.wanted_frame = 0x1111, .ends_after = -1};
	struct fake fake;

	(void)state;
	fake_many(&fake);
	assert_null(read_blocks(&fake, 40, &taken));
	assert_int_equal(taken.questions, 2);
	assert_int_equal(taken.count, 25);
	for (size_t i = 0; i < taken.count; i++)
		assert_int_equal(taken.addresses[i] & 0x100, 0x100);
	fake_deinit(&fake);
}

static void whoever_takes_can_end_it(void **state)
{
	struct taken taken = {.ends_after = 3};
	struct tm_error *error;
	struct fake fake;

	(void)state;
	fake_many(&fake);
	error = read_blocks(&fake, 10, &taken);
	assert_non_null(error);
	tm_error_free(error);
	assert_int_equal(taken.count, 3);
	fake_deinit(&fake);
}

static void nothing_traced_is_no_block(void **state)
{
	struct taken taken = {.ends_after = -1};
	struct fake fake;

	(void)state;
	fake_init(&fake, 0);
	assert_null(read_blocks(&fake, 10, &taken));
	((struct tm_header *)at(&fake, fake.header))->generation = 0;
	assert_null(read_blocks(&fake, 10, &taken));
	assert_int_equal(taken.count, 0);
	fake_deinit(&fake);
}

static void no_damage_does_harm(void **state)
{
	static const uint64_t words[] = {0, 1, 63, UINT32_MAX, UINT64_MAX, BASE, UINT64_C(1) << 47};
	struct fake fake;

	(void)state;
	fake_many(&fake);
	const struct {
		uint64_t start;
		size_t size;
	} areas[] = {
		{fake.header, sizeof(struct tm_header)},
		{fake.generation, sizeof(struct tm_generation)},
		{fake.shards, 2 * sizeof(struct tm_shard)},
		{fake.nodes, 4 * sizeof(struct tm_node)},
		{*fake_entry(&fake, 0x5000), 512},
	};

	for (size_t area = 0; area < sizeof(areas) / sizeof(areas[0]); area++) {
		for (size_t place = 0; place + 8 <= areas[area].size; place += 8) {
			char *word = (char *)at(&fake, areas[area].start) + place;
			uint64_t kept;

			memcpy(&kept, word, 8);
			for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
				struct taken taken = {.wanted_frame = i % 2 ? 0x1111 : 0,
						      .ends_after = -1};
				struct tm_error *error;

				memcpy(word, &words[i], 8);
				error = read_blocks(&fake, 20, &taken);
				if (error)
					assert_null(strchr(error->message, '\n'));
				tm_error_free(error);
			}
			memcpy(word, &kept, 8);
		}
	}
	fake_deinit(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(largest_come_first),
		cmocka_unit_test(each_traceback_is_asked_about_once),
		cmocka_unit_test(whoever_takes_can_end_it),
		cmocka_unit_test(nothing_traced_is_no_block),
		cmocka_unit_test(no_damage_does_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
