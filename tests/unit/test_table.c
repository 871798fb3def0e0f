/*
 * links: helper/table.c helper/segment.c helper/split.c helper/table_check.c helper/traceback.c
 *        helper/arena.c helper/thread.c helper/arch/x86_64/system.S
 *
 * The trace table against a plain model: what was put is found, what was taken
 * is gone, whatever the addresses look like, and the table keeps the
 * invariants of tm_layout.h at every size.
 */
#define TM_VECTORS
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "new_table.h"
#include "segment.h"
#include "table_usual.h"
#include "traceback.h"

struct tm_header tm_header;
struct tm_wiped tm_wiped_memory;

#define OWNER (7u << TM_BUCKET_LOCK_SHIFT | 1)

/* As the hooks do it: the short way, or the long one. */
static enum table_result put(struct tm_generation *generation, uint64_t address, uint64_t size,
			     uint32_t traceback, uint64_t *replaced)
{
	struct tm_block block = {address, size, traceback, 0};

	*replaced = 0;
	if (table_put_usual(generation, OWNER, address, &size, &traceback))
		return TABLE_NONE;
	return table_put(generation, OWNER, &block, replaced);
}

static enum table_result take(struct tm_generation *generation, uint64_t address,
			      struct tm_block *ret)
{
	ret->address = address;
	if (table_take_usual(generation, OWNER, address, &ret->size))
		return TABLE_FOUND;
	return table_take(generation, OWNER, address, 0, ret);
}

static bool is_valid(const struct tm_generation *generation)
{
	uint64_t blocks;

	return table_is_valid(generation, &blocks);
}

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* A slot keeps address, size and traceback exactly, up to their largest values. */
static void keeps_all_fields(void **state)
{
	static const struct tm_block blocks[] = {
		{0x10, 0, 1, 0},
		{0x7fffdeadbee0, 1, UINT32_MAX, 0},
		{TM_ADDRESS_MASK, TM_MAX_SIZE, 7, 0},
		{0x2, UINT64_C(1) << 32, 9, 0},
		{0x3, TM_KEY_LARGE - 1, 11, 0},
		{0x4, TM_KEY_LARGE, 12, 0},
		{0x5, TM_KEY_LARGE + 1, 13, 0},
	};
	struct tm_generation *generation = new_generation();
	struct tm_block found;
	uint64_t replaced;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
		assert_int_equal(table_put(generation, OWNER, &blocks[i], &replaced), TABLE_NONE);
	for (i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		assert_true(table_find(generation, blocks[i].address, 0, &found));
		assert_int_equal(found.size, blocks[i].size);
		assert_int_equal(found.traceback, blocks[i].traceback);
		assert_int_equal(table_take(generation, OWNER, blocks[i].address, 0, &found),
				 TABLE_FOUND);
		assert_int_equal(found.size, blocks[i].size);
		assert_false(table_find(generation, blocks[i].address, 0, &found));
	}
	free_generation(generation);
}

/* An address that is put again replaces its record and tells the old size. */
static void replaces_an_address(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_block found;
	uint64_t replaced;

	(void)state;
	assert_int_equal(put(generation, 0x1000, 24, 5, &replaced), TABLE_NONE);
	assert_int_equal(replaced, 0);
	assert_int_equal(put(generation, 0x1000, 99, 6, &replaced), TABLE_FOUND);
	assert_int_equal(replaced, 24);
	assert_int_equal(table_take(generation, OWNER, 0x1000, 0, &found), TABLE_FOUND);
	assert_int_equal(found.size, 99);
	assert_int_equal(found.traceback, 6);
	assert_true(is_valid(generation));
	free_generation(generation);
}

/* A traceback in this domain, of two frames of its own. */
static uint32_t traceback_in(struct tm_generation *generation, uint32_t domain, uint64_t frame,
			     bool truncated)
{
	const uint64_t frames[] = {frame, 0x401000};

	generation->limit = 2;
	return traceback_intern(generation, OWNER, domain, truncated, frames, 2);
}

/* Records of several domains at one address live beside each other, and go one by one. */
static void keeps_domains_apart(void **state)
{
	static const uint32_t domains[] = {0, 1, 7, UINT32_MAX};
	struct tm_generation *generation = new_generation();
	struct tm_block block = {.address = 0x7f0000001000}, found;
	uint64_t replaced;
	uint32_t i, round;

	(void)state;
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 4; i++) {
			block.domain = domains[i];
			block.size = TM_MAX_SIZE - i - 10 * round;
			block.traceback =
				traceback_in(generation, domains[i], 0x402000 + round, round & 1);
			assert_int_equal(table_put(generation, OWNER, &block, &replaced),
					 round ? TABLE_FOUND : TABLE_NONE);
			assert_int_equal(replaced, round ? block.size + 10 : 0);
		}
	}
	assert_true(is_valid(generation));
	assert_true(table_find(generation, block.address, 0, &found));
	assert_int_equal(found.size, TM_MAX_SIZE - 20);
	assert_int_equal(table_take(generation, OWNER, block.address, 2, &found), TABLE_NONE);
	for (i = 4; i-- > 0;) {
		assert_int_equal(table_take(generation, OWNER, block.address, domains[i], &found),
				 TABLE_FOUND);
		assert_int_equal(found.size, TM_MAX_SIZE - i - 20);
		assert_int_equal(found.domain, domains[i]);
		assert_int_equal(table_take(generation, OWNER, block.address, domains[i], &found),
				 TABLE_NONE);
		assert_true(is_valid(generation));
	}
	assert_false(table_find(generation, block.address, 0, &found));
	free_generation(generation);
}

/* More records of one address than a segment holds: refused, nothing else happens. */
static void refuses_an_address_of_too_many_domains(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_block block = {.address = 0x7f0000001000, .size = 1}, found;
	uint64_t replaced, memory;
	uint32_t stored = 0;

	(void)state;
	for (block.domain = 1;; block.domain++) {
		block.traceback = traceback_in(generation, block.domain, 0x402000, false);
		if (table_put(generation, OWNER, &block, &replaced) != TABLE_NONE)
			break;
		stored++;
	}
	assert_int_equal(stored, TM_SEGMENT_BUCKETS * TM_BUCKET_SLOTS);
	memory = generation->memory;
	assert_int_equal(table_put(generation, OWNER, &block, &replaced), TABLE_DROPPED);
	assert_int_equal(generation->memory, memory);
	assert_true(is_valid(generation));
	assert_int_equal(table_take(generation, OWNER, 0x7f0000001000, 3, &found), TABLE_FOUND);
	block = (struct tm_block){0x7f0000001000, 5, 1, 0};
	assert_int_equal(table_put(generation, OWNER, &block, &replaced), TABLE_NONE);
	free_generation(generation);
}

/* What a slot cannot hold is refused, not cut. */
static void refuses_what_does_not_fit(void **state)
{
	struct tm_generation *generation = new_generation();
	uint64_t replaced;

	(void)state;
	assert_int_equal(put(generation, 0, 1, 1, &replaced), TABLE_DROPPED);
	assert_int_equal(put(generation, tm_key_address(TM_KEY_SIZE), 1, 1, &replaced),
			 TABLE_DROPPED);
	assert_int_equal(put(generation, TM_ADDRESS_MASK + 1, 1, 1, &replaced), TABLE_DROPPED);
	assert_int_equal(put(generation, 0x1000, TM_MAX_SIZE + 1, 1, &replaced), TABLE_DROPPED);
	free_generation(generation);
}

/* A search without the lock may take half of a size for a traceback. */
static void any_number_may_be_asked_for_its_domain(void **state)
{
	struct tm_generation *generation = new_generation();
	uint32_t known = traceback_in(generation, 7, 0x402000, false);

	(void)state;
	assert_int_equal(traceback_domain(generation, known), 7);
	assert_int_equal(traceback_domain(generation, known + 1), 0);
	assert_int_equal(traceback_domain(generation, UINT32_MAX), 0);
	assert_int_equal(traceback_domain(generation, 5 * TM_NODES_PER_CHUNK), 0);
	free_generation(generation);
}

/* A free of an unknown address is counted in its shard. */
static void counts_untracked_frees(void **state)
{
	struct tm_generation *generation = new_generation();
	const struct tm_shard *shards = (const struct tm_shard *)generation->shards;
	struct tm_block found;

	(void)state;
	assert_int_equal(table_take(generation, OWNER, 0x5000, 0, &found), TABLE_NONE);
	assert_int_equal(shards[tm_shard_index(0x5000)].untracked_frees, 1);
	free_generation(generation);
}

/* A thread that comes back while it holds the shard is refused; it must not wait for itself. */
static void refuses_its_own_lock(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_lock *lock = shard_lock_of(generation, tm_hash(0x1000));
	const struct tm_block block = {0x1000, 8, 1, 0};
	struct tm_block found;
	uint64_t replaced;

	(void)state;
	assert_true(shard_lock(generation, lock, OWNER));
	assert_int_equal(table_put(generation, OWNER, &block, &replaced), TABLE_DROPPED);
	assert_int_equal(table_take(generation, OWNER, 0x1000, 0, &found), TABLE_DROPPED);
	shard_unlock(lock);
	assert_int_equal(table_put(generation, OWNER, &block, &replaced), TABLE_NONE);
	free_generation(generation);
}

/* A page can hold a block at each of its bytes. */
static void holds_a_page_full_of_bytes(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_block found;
	uint64_t replaced, i;

	(void)state;
	for (i = 0; i < 3 * 4096; i++)
		assert_int_equal(put(generation, 0x7f0000000000 + i, 1, 1, &replaced), TABLE_NONE);
	assert_true(is_valid(generation));
	for (i = 0; i < 3 * 4096; i++)
		assert_true(table_find(generation, 0x7f0000000000 + i, 0, &found));
	free_generation(generation);
}

/* Every other block of a long run freed and put back, many times: the dead do not pile up. */
static void survives_churn_in_place(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_block found;
	uint64_t replaced, memory, turn, i;

	(void)state;
	for (i = 0; i < 20000; i++)
		put(generation, 0x555500000000 + i * 48, i, 3, &replaced);
	memory = generation->memory;
	for (turn = 0; turn < 50; turn++) {
		for (i = turn & 1; i < 20000; i += 2)
			assert_int_equal(take(generation, 0x555500000000 + i * 48, &found),
					 TABLE_FOUND);
		for (i = turn & 1; i < 20000; i += 2)
			assert_int_equal(put(generation, 0x555500000000 + i * 48, i, 3, &replaced),
					 TABLE_NONE);
	}
	assert_true(is_valid(generation));
	assert_true(generation->memory <= 2 * memory);
	free_generation(generation);
}

/*
 * Blocks in strides whose multiples have hashes close to each other: 46,368 is a
 * Fibonacci number, the others are its parts.  Whole segments fill up on one side.
 */
static void keeps_all_blocks_of_unlucky_strides(void **state)
{
	static const uint64_t strides[] = {2016, 6624, 23184, 46368, 92736};
	struct tm_block found;
	uint64_t replaced, i;
	size_t s;

	(void)state;
	for (s = 0; s < sizeof(strides) / sizeof(strides[0]); s++) {
		struct tm_generation *generation = new_generation();

		for (i = 0; i < 20000; i++)
			assert_int_equal(put(generation, 0x555555900010 + i * strides[s],
					     strides[s] - 16, 1, &replaced),
					 TABLE_NONE);
		assert_true(is_valid(generation));
		for (i = 0; i < 20000; i++)
			assert_true(
				table_find(generation, 0x555555900010 + i * strides[s], 0, &found));
		free_generation(generation);
	}
}

/* A child of fork finds where new memory begins, but not yet where it ends. */
static void uses_no_memory_without_an_end(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_shard *shards = (struct tm_shard *)generation->shards;
	uint64_t replaced, i;

	(void)state;
	for (i = 0; i < TM_SHARDS; i++) {
		shards[i].arena = 0x10000;
		shards[i].arena_end = 0;
	}
	for (i = 0; i < 100000; i++)
		assert_int_equal(put(generation, 0x555500000000 + i * 64, 40, 1, &replaced),
				 TABLE_NONE);
	assert_true(is_valid(generation));
	free_generation(generation);
}

/* An address of the first shard, on this side of its first split. */
static uint64_t address_on_side(uint32_t side)
{
	for (;;) {
		uint64_t address = next_random() & TM_ADDRESS_MASK;

		if (tm_shard_index(address) == 0 && tm_directory_index(address, 1) == side &&
		    address > 1)
			return address;
	}
}

/* A full segment whose records all go to the new one, large ones among small ones. */
static void loses_nothing_in_a_lopsided_split(void **state)
{
	uint64_t replaced, blocks, stored, turn;

	(void)state;
	for (turn = 0; turn < 100; turn++) {
		struct tm_generation *generation = new_generation();
		const struct tm_shard *shard = (const struct tm_shard *)generation->shards;

		for (stored = 0; shard->segment_count == 1; stored++)
			assert_int_equal(put(generation, address_on_side(1),
					     next_random() % 3 ? TM_KEY_LARGE : 8, 1, &replaced),
					 TABLE_NONE);
		assert_true(table_is_valid(generation, &blocks));
		assert_int_equal(blocks, stored);
		free_generation(generation);
	}
}

/* An address of the first shard. */
static uint64_t address_of_first_shard(void)
{
	return address_on_side(next_random() & 1);
}

/* The rest of a record that was about to be stored, or removed. */
static void add_size_alone(struct tm_segment *segment)
{
	uint32_t i;

	for (i = 0; i < TM_SEGMENT_BUCKETS; i++)
		if (!segment->bucket[i].key[0])
			segment->bucket[i].key[0] = TM_KEY_SIZE;
}

/*
 * A child of fork may find a segment as it was before its split, which is published:
 * the records that went count in the new one alone, and go at the next split.
 */
static void a_split_that_fork_interrupted_is_finished(void **state)
{
	static struct tm_segment before;
	uint64_t replaced, blocks, stored, turn, address = 0;
	struct tm_block found;

	(void)state;
	for (turn = 0; turn < 20; turn++) {
		struct tm_generation *generation = new_generation();
		const struct tm_shard *shard = (const struct tm_shard *)generation->shards;
		struct tm_segment *first =
			(struct tm_segment *)(*(uint64_t *)(shard->directory &
							    ~TM_DIRECTORY_DEPTH_MASK) &
					      ~TM_SEGMENT_DEPTH_MASK);

		for (stored = 0; shard->segment_count == 1; stored++) {
			before = *first;
			address = address_of_first_shard();
			put(generation, address, stored % 5 ? 8 : TM_KEY_LARGE, 1, &replaced);
		}
		*first = before;
		add_size_alone(first);
		put(generation, address, 8, 1, &replaced);
		for (; shard->segment_count < 8; stored++)
			put(generation, address_of_first_shard(), 8, 1, &replaced);
		assert_true(table_is_valid(generation, &blocks));
		assert_int_equal(blocks, stored);
		assert_true(table_find(generation, address, 0, &found));
		free_generation(generation);
	}
}

#define MODEL 200000u

/* Random puts and takes against an array that remembers what must be there. */
static void agrees_with_a_model(void **state)
{
	static uint32_t model[MODEL]; /* size + 1, 0: absent */
	struct tm_generation *generation = new_generation();
	struct tm_block found;
	uint64_t replaced, turn, live = 0, blocks;

	(void)state;
	memset(model, 0, sizeof(model));
	for (turn = 0; turn < 2000000; turn++) {
		uint32_t i = (uint32_t)(next_random() % MODEL);
		/* Dense runs, large strides and odd addresses, as allocators make them. */
		uint64_t address = i < MODEL / 2       ? 0x555555559000 + i * 32u
				   : i < MODEL / 4 * 3 ? 0x7f1200000000 + i * 8208u
						       : 0x7f4400000001 + i * 3u;
		uint32_t size = (uint32_t)next_random() >> 8;

		if (model[i] && next_random() % 4) {
			assert_int_equal(turn & 1 ? take(generation, address, &found)
						  : table_take(generation, OWNER, address, 0,
							       &found),
					 TABLE_FOUND);
			assert_int_equal(found.size, model[i] - 1);
			model[i] = 0;
			live--;
		} else {
			enum table_result result = put(generation, address, size, i, &replaced);

			assert_int_equal(result, model[i] ? TABLE_FOUND : TABLE_NONE);
			assert_int_equal(replaced, model[i] ? model[i] - 1 : 0);
			live += !model[i];
			model[i] = size + 1;
		}
		if (turn % 400000 == 0)
			assert_true(is_valid(generation));
	}
	assert_true(is_valid(generation));
	assert_true(table_is_valid(generation, &blocks));
	assert_int_equal(blocks, live);
	free_generation(generation);
}

/*
 * Of the blocks of a heap, however dense, few find their first bucket full.  What the
 * limit is for: an unlucky factor in tm_hash makes it a half.
 */
static void a_heap_is_spread_evenly(void **state)
{
	static const uint64_t chunks[] = {32, 48, 64, 96, 144, 208};
	const uint64_t blocks = 200000;
	uint64_t replaced, i, further = 0;
	const uint64_t size = 24;
	const uint32_t traceback = 1;
	size_t c;

	(void)state;
	for (c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
		struct tm_generation *generation = new_generation();

		for (i = 0; i < blocks; i++) {
			uint64_t address = 0x555555900010 + i * chunks[c];

			if (table_put_usual(generation, OWNER, address, &size, &traceback))
				continue;
			put(generation, address, 24, 1, &replaced);
			further++;
		}
		free_generation(generation);
	}
	print_message("%.3f of the blocks of a heap are not usual ones\n",
		      (double)further / (double)(blocks * c));
	assert_true(further * 5 < blocks * c);
}

/* A live block costs at most 24 bytes, growth and all (plus the start of an empty table). */
static void costs_24_bytes_a_block(void **state)
{
	struct tm_generation *generation = new_generation();
	uint64_t replaced, i, empty = generation->memory;

	(void)state;
	for (i = 1; i <= 1000000; i++)
		put(generation, 0x555500000000 + i * 64, 40, 1, &replaced);
	print_message("%.1f bytes a block at 1,000,000 blocks\n",
		      (double)(generation->memory - empty) / 1e6);
	assert_true(generation->memory - empty <= 24 * UINT64_C(1000000));
	free_generation(generation);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_all_fields),
		cmocka_unit_test(replaces_an_address),
		cmocka_unit_test(keeps_domains_apart),
		cmocka_unit_test(refuses_an_address_of_too_many_domains),
		cmocka_unit_test(refuses_what_does_not_fit),
		cmocka_unit_test(any_number_may_be_asked_for_its_domain),
		cmocka_unit_test(counts_untracked_frees),
		cmocka_unit_test(refuses_its_own_lock),
		cmocka_unit_test(holds_a_page_full_of_bytes),
		cmocka_unit_test(survives_churn_in_place),
		cmocka_unit_test(keeps_all_blocks_of_unlucky_strides),
		cmocka_unit_test(loses_nothing_in_a_lopsided_split),
		cmocka_unit_test(a_split_that_fork_interrupted_is_finished),
		cmocka_unit_test(uses_no_memory_without_an_end),
		cmocka_unit_test(agrees_with_a_model),
		cmocka_unit_test(a_heap_is_spread_evenly),
		cmocka_unit_test(costs_24_bytes_a_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
