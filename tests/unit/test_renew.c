/*
 * links: helper/table.c helper/split.c helper/segment.c helper/table_check.c helper/traceback.c
 *        helper/arena.c helper/thread.c
 *
 * A segment of the trace table whose searches have become long gives its records to
 * another one: none is lost or found twice, whoever uses the table at that time.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "helper_stubs.h"
#include "new_table.h"
#include "segment.h"
#include "table_usual.h"
#include "traceback.h"

#define PROCESS (7u << TM_BUCKET_LOCK_SHIFT)
#define OWNER (PROCESS | 1)
#define GROUP UINT64_C(0x555500004000) /* of 8 KiB, blocks of 16 bytes in it */
#define BLOCKS 512u
#define ENOUGH 100u /* long searches, more than it takes */

static uint64_t address_of(uint32_t block)
{
	return GROUP + block * UINT64_C(16);
}

/* As the hooks do it. */
static void put(struct tm_generation *generation, uint32_t owner, uint32_t block, uint64_t size)
{
	struct tm_block what = {address_of(block), size, block + 1, 0};
	uint64_t replaced;

	if (!table_put_usual(generation, owner, what.address, &what.size, &what.traceback))
		assert_int_equal(table_put(generation, owner, &what, &replaced), TABLE_NONE);
}

static uint64_t take(struct tm_generation *generation, uint32_t owner, uint32_t block)
{
	struct tm_block found = {.size = 0};

	if (!table_take_usual(generation, owner, address_of(block), &found.size) &&
	    table_take(generation, owner, address_of(block), 0, &found) != TABLE_FOUND)
		return UINT64_MAX;
	return found.size;
}

/* Sizes of every kind; those of two slots are few, or there is no room. */
static uint64_t size_of(uint32_t block)
{
	return block % 50 ? block : 1u << 20 | block;
}

static struct tm_shard *shard(struct tm_generation *generation)
{
	return &shards_of(generation)[tm_shard_index(GROUP)];
}

static void renew(struct tm_generation *generation, uint32_t owner)
{
	uint64_t hash = tm_hash(GROUP);
	struct tm_lock *lock = shard_lock_of(generation, hash);

	assert_true(shard_lock(generation, lock, owner));
	segment_renew(generation, shard(generation), owner, hash);
	shard_unlock(lock);
}

/* Every second one of the blocks is there, with its size and traceback, and nothing else. */
static void assert_half_is_there(struct tm_generation *generation)
{
	struct tm_block found;
	uint64_t blocks;
	uint32_t i;

	assert_true(table_is_valid(generation, &blocks));
	assert_int_equal(blocks, BLOCKS / 2);
	for (i = 0; i < BLOCKS; i++) {
		assert_int_equal(table_find(generation, address_of(i), 0, &found), i % 2);
		if (i % 2) {
			assert_int_equal(found.size, size_of(i));
			assert_int_equal(found.traceback, i + 1);
		}
	}
}

static struct tm_generation *half_full(void)
{
	struct tm_generation *generation = new_generation();
	uint32_t i;

	for (i = 1; i < BLOCKS; i += 2)
		put(generation, OWNER, i, size_of(i));
	return generation;
}

/* Counts that came to their highest value stay, and all searches of their kind are long. */
static void long_searches_come_to_an_end(void **state)
{
	struct tm_generation *generation = half_full();
	uint64_t segments = shard(generation)->segment_count, size = 8;
	uint32_t turn, i, traceback = 1;

	(void)state;
	for (turn = 0; turn < 3; turn++) { /* the third time it is the first segment again */
		struct tm_segment *segment = entry_segment(*entry_of(generation, tm_hash(GROUP)));

		for (i = 0; i < TM_SEGMENT_BUCKETS; i++)
			segment->bucket[i].passed = TM_PASSED_MANY
						    << tm_passed_shift(tm_hash(GROUP));
		assert_half_is_there(generation);
		assert_false(table_put_usual(generation, OWNER, GROUP, &size, &traceback));
		for (i = 0; i < ENOUGH; i++) {
			put(generation, OWNER, 0, size);
			assert_int_equal(take(generation, OWNER, 0), size);
		}
		assert_half_is_there(generation);
		assert_true(table_put_usual(generation, OWNER, GROUP, &size, &traceback));
		assert_int_equal(take(generation, OWNER, 0), size);
	}
	assert_int_equal(shard(generation)->segment_count, segments + 1);
	free_generation(generation);
}

static void the_empty_segment_is_used_again(void **state)
{
	struct tm_generation *generation = half_full();
	uint64_t segments = shard(generation)->segment_count;
	struct tm_segment *before, *after;
	uint32_t i;

	(void)state;
	for (i = 0; i < 20; i++) {
		before = entry_segment(*entry_of(generation, tm_hash(GROUP)));
		renew(generation, OWNER);
		after = entry_segment(*entry_of(generation, tm_hash(GROUP)));
		assert_ptr_not_equal(before, after);
		assert_half_is_there(generation);
	}
	assert_int_equal(shard(generation)->segment_count, segments + 1);
	free_generation(generation);
}

static void what_was_looked_up_before_is_not_used(void **state)
{
	struct tm_generation *generation = half_full();
	struct usual_place of_none = usual_place(generation, address_of(2));
	struct usual_place of_one = usual_place(generation, address_of(3));
	uint32_t traceback = 1;
	uint64_t size = 8;

	(void)state;
	renew(generation, OWNER);
	assert_false(usual_put_at(of_none, OWNER, address_of(2), &size, &traceback));
	assert_false(usual_take_at(of_one.bucket, OWNER, address_of(3), &size));
	assert_half_is_there(generation);
	free_generation(generation);
}

/* Of an empty segment as well: a thread that knows it from before may hold a bucket. */
static void a_bucket_that_is_held_is_waited_for(void **state)
{
	struct tm_generation *generation = half_full();
	struct tm_segment *empty = entry_segment(*entry_of(generation, tm_hash(GROUP)));
	struct tm_segment *segment;

	(void)state;
	renew(generation, OWNER);
	segment = entry_segment(*entry_of(generation, tm_hash(GROUP)));
	assert_ptr_not_equal(segment, empty);
	bucket_lock(&empty->bucket[5], PROCESS | 9);
	renew(generation, OWNER | TM_OWNER_NESTED); /* which waits for a tenth of a second */
	assert_ptr_equal(entry_segment(*entry_of(generation, tm_hash(GROUP))), segment);
	bucket_unlock(&empty->bucket[5]);
	bucket_lock(&segment->bucket[5], PROCESS | 9);
	renew(generation, OWNER | TM_OWNER_NESTED);
	assert_ptr_equal(entry_segment(*entry_of(generation, tm_hash(GROUP))), segment);
	bucket_unlock(&segment->bucket[5]);
	assert_half_is_there(generation);
	renew(generation, OWNER);
	assert_ptr_equal(entry_segment(*entry_of(generation, tm_hash(GROUP))), empty);
	assert_half_is_there(generation);
	free_generation(generation);
}

#define THREADS 3u
#define TURNS 50000u

struct worker {
	pthread_t thread;
	struct tm_generation *generation;
	uint32_t number, wrong;
	bool live[BLOCKS];
};

static uint32_t working; /* atomically */

/* Each has blocks of its own, in the same buckets as the others'. */
static void *work(void *context)
{
	struct worker *self = context;
	uint32_t owner = PROCESS | (self->number + 2), random = self->number + 1;
	uint32_t turn;

	for (turn = 0; turn < TURNS; turn++) {
		uint32_t block = (random = random * 1664525 + 1013904223) >> 23;

		block -= block % THREADS;
		block += self->number;
		if (block >= BLOCKS)
			continue;
		if (self->live[block])
			self->wrong += take(self->generation, owner, block) != size_of(block);
		else
			put(self->generation, owner, block, size_of(block));
		self->live[block] = !self->live[block];
	}
	__atomic_fetch_sub(&working, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void others_put_and_take_meanwhile(void **state)
{
	static struct worker workers[THREADS];
	struct tm_generation *generation = new_generation();
	uint64_t blocks, live = 0;
	uint32_t i, block;

	(void)state;
	working = THREADS;
	for (i = 0; i < THREADS; i++) {
		workers[i].generation = generation;
		workers[i].number = i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	while (__atomic_load_n(&working, __ATOMIC_RELAXED))
		renew(generation, OWNER);
	for (i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
		assert_int_equal(workers[i].wrong, 0);
		for (block = 0; block < BLOCKS; block++) {
			struct tm_block found;

			live += workers[i].live[block];
			if (workers[i].live[block])
				assert_true(table_find(generation, address_of(block), 0, &found));
		}
	}
	assert_true(table_is_valid(generation, &blocks));
	assert_int_equal(blocks, live);
	free_generation(generation);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_searches_come_to_an_end),
		cmocka_unit_test(the_empty_segment_is_used_again),
		cmocka_unit_test(what_was_looked_up_before_is_not_used),
		cmocka_unit_test(a_bucket_that_is_held_is_waited_for),
		cmocka_unit_test(others_put_and_take_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
