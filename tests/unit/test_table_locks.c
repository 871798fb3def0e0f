/*
 * links: helper/table.c helper/split.c helper/segment.c helper/table_check.c helper/traceback.c
 *        helper/arena.c helper/thread.c
 *
 * Who may do what to the trace table at the same time: what was looked up before a
 * split is not used after it, nobody uses a bucket that another thread holds, and
 * what a parent's threads held is free in a child of fork.
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
#include "thread.h"
#include "traceback.h"

#define PROCESS (7u << TM_BUCKET_LOCK_SHIFT)
#define OWNER (PROCESS | 1)
#define ADDRESS UINT64_C(0x555500000010)

static enum table_result put_long(struct tm_generation *generation, uint32_t owner,
				  uint64_t address, uint64_t size)
{
	const struct tm_block block = {address, size, 1, 0};
	uint64_t replaced;

	return table_put(generation, owner, &block, &replaced);
}

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* An address of the first shard, on this side of its first split that goes by `depth` bits. */
static uint64_t address_on_side(uint32_t depth, uint32_t side)
{
	for (;;) {
		uint64_t address =
			next_random(&random_state) & TM_ADDRESS_MASK >> 1 & ~UINT64_C(15);

		if (tm_shard_index(address) == 0 && tm_directory_index(address, depth) == side &&
		    address > 1)
			return address;
	}
}

/* Puts others of its kind until the segment of an address is another one, or its half. */
static void split(struct tm_generation *generation, uint64_t address, uint32_t depth)
{
	uint32_t side = tm_directory_index(address, depth);
	uint64_t entry = *entry_of(generation, tm_hash(address)) & TM_SEGMENT_BITS_MASK;

	while ((*entry_of(generation, tm_hash(address)) & TM_SEGMENT_BITS_MASK) == entry)
		assert_int_equal(put_long(generation, OWNER, address_on_side(depth, side), 8),
				 TABLE_NONE);
}

static bool is_valid(const struct tm_generation *generation)
{
	uint64_t blocks;

	return table_is_valid(generation, &blocks);
}

/* The half of a segment that goes may be looked up before, and used after. */
static void what_was_looked_up_before_a_split_is_not_used(void **state)
{
	uint32_t turn;

	(void)state;
	for (turn = 0; turn < 20; turn++) {
		struct tm_generation *generation = new_generation();
		uint64_t address = address_on_side(1, 1), there = address_on_side(1, 1), size;
		struct usual_place place, of_there;
		struct tm_block found;

		assert_true(
			table_put_usual(generation, OWNER, there, &(uint64_t){24}, &(uint32_t){3}));
		place = usual_place(generation, address);
		of_there = usual_place(generation, there);
		split(generation, address, 0);
		assert_ptr_not_equal(usual_place(generation, address).bucket, place.bucket);
		assert_false(usual_put_at(place, OWNER, address, &(uint64_t){40}, &(uint32_t){2}));
		assert_false(table_find(generation, address, 0, &found));
		assert_false(usual_take_at(of_there.bucket, OWNER, there, &size));
		assert_true(table_find(generation, there, 0, &found));
		assert_int_equal(table_take(generation, OWNER, there, 0, &found), TABLE_FOUND);
		assert_int_equal(found.size, 24);
		assert_int_equal(put_long(generation, OWNER, address, 40), TABLE_NONE);
		assert_true(is_valid(generation));
		free_generation(generation);
	}
}

/* A directory that was doubled for one segment is not right any more for the others either. */
static void what_a_doubled_directory_said_is_not_used(void **state)
{
	const uint64_t depth = 4; /* one more than a directory begins with */
	struct tm_generation *generation = new_generation();
	uint64_t address = address_on_side(1, 0), word = generation->directories[0], size;
	uint64_t other = address_on_side((uint32_t)depth, 15);
	struct usual_place place = usual_place(generation, address);
	struct tm_block found;

	(void)state;
	while (generation->directories[0] == word)
		split(generation, other, (uint32_t)depth);
	assert_false(usual_put_at(place, OWNER, address, &(uint64_t){40}, &(uint32_t){2}));

	/* Who read the old word before, and its entry only now. */
	place.entry = *place.at;
	place.bucket =
		bucket_at(entry_segment(place.entry), tm_first_bucket(address, tm_hash(address)));
	assert_false(usual_put_at(place, OWNER, address, &(uint64_t){40}, &(uint32_t){2}));
	assert_false(usual_take_at(place.bucket, OWNER, address, &size));

	assert_true(table_put_usual(generation, OWNER, address, &(uint64_t){40}, &(uint32_t){2}));
	assert_true(table_find(generation, address, 0, &found));
	assert_true(is_valid(generation));
	free_generation(generation);
}

/* A child of fork that was made in the middle of a doubling has its parent's old word. */
static void the_old_directory_is_given_up_in_a_child(void **state)
{
	struct tm_generation *generation = new_generation();
	uint64_t address = address_on_side(1, 0), word = generation->directories[0];
	struct tm_block found;

	(void)state;
	while (generation->directories[0] == word)
		split(generation, address_on_side(4, 15), 4);
	generation->directories[0] = word;
	memset((void *)generation->locks, 0, sizeof(struct tm_locks));
	assert_false(table_put_usual(generation, OWNER, address, &(uint64_t){40}, &(uint32_t){2}));
	assert_int_equal(put_long(generation, OWNER, address, 40), TABLE_NONE);
	assert_int_not_equal(generation->directories[0], word);
	assert_true(table_find(generation, address, 0, &found));
	assert_true(is_valid(generation));
	free_generation(generation);
}

struct waiting {
	struct tm_generation *generation;
	uint64_t address;
	enum table_result result;
};

static void *put_in_a_thread(void *context)
{
	struct waiting *waiting = context;

	waiting->result = put_long(waiting->generation, PROCESS | 2, waiting->address, 40);
	return NULL;
}

/* The short way leaves a bucket that is held to the long way, which waits for it. */
static void nobody_uses_a_bucket_that_is_held(void **state)
{
	struct tm_generation *generation = new_generation();
	struct waiting waiting = {generation, ADDRESS + 16, TABLE_DROPPED};
	struct tm_bucket *bucket = usual_place(generation, ADDRESS).bucket;
	struct tm_block found;
	pthread_t thread;
	uint64_t size;

	(void)state;
	assert_ptr_equal(usual_place(generation, waiting.address).bucket, bucket);
	assert_true(table_put_usual(generation, OWNER, ADDRESS, &(uint64_t){24}, &(uint32_t){3}));
	bucket_lock(bucket, OWNER);
	thread_self()->state = THREAD_IN_HELPER; /* who waits for long asks whether anybody is */
	assert_false(table_put_usual(generation, PROCESS | 2, waiting.address, &(uint64_t){40},
				     &(uint32_t){2}));
	assert_false(table_take_usual(generation, PROCESS | 2, ADDRESS, &size));
	assert_true(table_find(generation, ADDRESS, 0, &found)); /* readers need no lock */
	assert_int_equal(pthread_create(&thread, NULL, put_in_a_thread, &waiting), 0);
	/* Until it has the lock of the shard and can do nothing but wait. */
	while (load_relaxed(&shard_lock_of(generation, tm_hash(ADDRESS))->word) != (PROCESS | 2))
		lock_wait(250);
	assert_false(table_find(generation, waiting.address, 0, &found));
	bucket_unlock(bucket);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(waiting.result, TABLE_NONE);
	assert_true(table_find(generation, waiting.address, 0, &found));
	assert_true(table_take_usual(generation, OWNER, ADDRESS, &size));
	assert_int_equal(size, 24);
	assert_true(is_valid(generation));
	thread_self()->state = THREAD_OUTSIDE;
	memset(&tm_wiped_memory, 0, sizeof(tm_wiped_memory));
	free_generation(generation);
}

/* The call of a signal handler that interrupted its thread there is refused, in the end. */
static void a_nested_call_does_not_wait_for_ever(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_bucket *bucket = usual_place(generation, ADDRESS).bucket;
	struct tm_lock *lock = shard_lock_of(generation, tm_hash(ADDRESS));
	struct tm_block found;

	(void)state;
	assert_true(table_put_usual(generation, OWNER, ADDRESS, &(uint64_t){24}, &(uint32_t){3}));
	bucket_lock(bucket, OWNER);
	assert_int_equal(put_long(generation, OWNER | TM_OWNER_NESTED, ADDRESS + 16, 40),
			 TABLE_DROPPED);
	assert_int_equal(table_take(generation, OWNER | TM_OWNER_NESTED, ADDRESS, 0, &found),
			 TABLE_DROPPED);
	bucket_unlock(bucket);
	/* Of the shard another thread may have the lock, and wait for the bucket. */
	assert_true(shard_lock(generation, lock, PROCESS | 2));
	assert_int_equal(put_long(generation, OWNER | TM_OWNER_NESTED, ADDRESS + 16, 40),
			 TABLE_DROPPED);
	shard_unlock(lock);
	assert_int_equal(put_long(generation, OWNER | TM_OWNER_NESTED, ADDRESS + 16, 40),
			 TABLE_NONE);
	assert_true(is_valid(generation));
	free_generation(generation);
}

/* A handler left the thread's hook by siglongjmp: nobody is inside one who could unlock it. */
static void a_bucket_that_was_left_locked_is_taken(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_bucket *bucket = usual_place(generation, ADDRESS).bucket;
	uint32_t owner = thread_self()->owner;

	(void)state;
	thread_self()->state = THREAD_IN_HELPER;
	bucket_lock(bucket, owner);
	assert_int_equal(put_long(generation, owner, ADDRESS, 40), TABLE_NONE);
	assert_true(is_valid(generation));
	thread_self()->state = THREAD_OUTSIDE;
	memset(&tm_wiped_memory, 0, sizeof(tm_wiped_memory));
	free_generation(generation);
}

/* With counts in it, and without: the child takes it, and leaves it unlocked. */
static void what_a_parent_held_is_free_in_a_child(void **state)
{
	const uint32_t parent = 9u << TM_BUCKET_LOCK_SHIFT | 1;
	uint32_t passed;

	(void)state;
	for (passed = 0; passed < 2; passed++) {
		struct tm_generation *generation = new_generation();
		struct tm_bucket *bucket = usual_place(generation, ADDRESS).bucket;
		uint32_t others = (tm_passed_shift(tm_hash(ADDRESS)) + 3) % 24;
		struct tm_block found;
		uint64_t size;

		assert_true(table_put_usual(generation, parent, ADDRESS, &(uint64_t){24},
					    &(uint32_t){3}));
		bucket->passed = passed << others;
		bucket_lock(bucket, parent);
		assert_int_equal(bucket->passed, passed << others | (parent & TM_BUCKET_LOCK));
		assert_int_equal(table_take(generation, OWNER, ADDRESS, 0, &found), TABLE_FOUND);
		assert_int_equal(bucket->passed, passed << others);
		bucket_lock(bucket, parent);
		assert_int_equal(put_long(generation, OWNER, ADDRESS, 24), TABLE_NONE);
		assert_int_equal(bucket->passed, passed << others);
		assert_true(table_take_usual(generation, OWNER, ADDRESS, &size));
		assert_true(table_put_usual(generation, OWNER, ADDRESS, &(uint64_t){24},
					    &(uint32_t){3}));
		assert_int_equal(bucket->passed, passed << others);
		free_generation(generation);
	}
}

/* All that a child of fork finds of its parent's threads is that their memory is empty. */
static void a_child_is_not_numbered_like_its_parent(void **state)
{
	struct tm_generation *generation = new_generation();
	struct tm_bucket *bucket = usual_place(generation, ADDRESS).bucket;
	uint32_t turn, number, first = 0, before = 0;
	uint64_t size;

	(void)state;
	tm_header.generation = (uint64_t)generation;
	for (turn = 0; turn <= 2 * TM_PROCESSES; turn++) {
		uint32_t owner;

		memset(&tm_wiped_memory, 0, sizeof(tm_wiped_memory));
		owner = thread_self()->owner;
		number = owner >> TM_BUCKET_LOCK_SHIFT;
		assert_in_range(number, 1, TM_PROCESSES);
		assert_int_not_equal(number, before);
		assert_int_equal(tm_wiped()->process, number);
		before = number;
		if (turn == 0) {
			first = number;
			bucket_lock(bucket, owner); /* and its thread is never seen again */
		} else if (number == first && turn <= TM_PROCESSES) {
			assert_true(table_put_usual(generation, owner, ADDRESS, &(uint64_t){24},
						    &(uint32_t){3}));
			assert_true(table_take_usual(generation, owner, ADDRESS, &size));
		}
	}
	tm_header.generation = 0;
	memset(&tm_wiped_memory, 0, sizeof(tm_wiped_memory));
	free_generation(generation);
}

#define THREADS 4u
#define BLOCKS 20000u
#define TURNS 200000u

struct worker {
	pthread_t thread;
	struct tm_generation *generation;
	uint32_t owner, wrong;
	uint64_t number, live;
	uint16_t sizes[BLOCKS]; /* size + 1, 0: absent */
};

/* Puts and takes blocks between those of the others: in the same buckets. */
static void *work(void *context)
{
	struct worker *self = context;
	uint64_t state = 88172645463325252u + self->number, turn, size;
	struct tm_block found;

	for (turn = 0; turn < TURNS; turn++) {
		uint64_t i = next_random(&state) % BLOCKS;
		uint64_t address = ADDRESS + (i * THREADS + self->number) * 32;

		if (self->sizes[i]) {
			found.size = UINT64_MAX;
			if (!table_take_usual(self->generation, self->owner, address, &found.size))
				self->wrong += table_take(self->generation, self->owner, address, 0,
							  &found) != TABLE_FOUND;
			self->wrong += found.size != self->sizes[i] - 1u;
			self->sizes[i] = 0;
			self->live--;
		} else {
			size = next_random(&state) % 40000; /* some take two slots */
			if (!table_put_usual(self->generation, self->owner, address,
					     &(uint64_t){size}, &(uint32_t){1}))
				self->wrong += put_long(self->generation, self->owner, address,
							size) != TABLE_NONE;
			self->sizes[i] = (uint16_t)(size + 1);
			self->live++;
		}
	}
	return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
	static struct worker workers[THREADS];
	struct tm_generation *generation = new_generation();
	uint64_t blocks, live = 0;
	uint32_t i;

	(void)state;
	for (i = 0; i < THREADS; i++) {
		workers[i].generation = generation;
		workers[i].owner = PROCESS | (i + 1);
		workers[i].number = i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
		assert_int_equal(workers[i].wrong, 0);
		live += workers[i].live;
	}
	assert_true(table_is_valid(generation, &blocks));
	assert_int_equal(blocks, live);
	free_generation(generation);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_looked_up_before_a_split_is_not_used),
		cmocka_unit_test(what_a_doubled_directory_said_is_not_used),
		cmocka_unit_test(the_old_directory_is_given_up_in_a_child),
		cmocka_unit_test(nobody_uses_a_bucket_that_is_held),
		cmocka_unit_test(a_nested_call_does_not_wait_for_ever),
		cmocka_unit_test(a_bucket_that_was_left_locked_is_taken),
		cmocka_unit_test(what_a_parent_held_is_free_in_a_child),
		cmocka_unit_test(a_child_is_not_numbered_like_its_parent),
		cmocka_unit_test(threads_do_not_disturb_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
