/*
 * links: helper/arena.c helper/thread.c helper/segment.c
 *
 * A thread whose stacks come back too late to be remembered gets more places for them,
 * and none that would not help.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "helper_stubs.h"
#include "join.h"
#include "thread.h"

/* Whether a turn of so many walks, of so many stacks one after the other, asks for more. */
static bool asks(struct tm_recall *recall, uint32_t stacks, uint32_t walks, uint64_t *next)
{
	bool asked = false;
	uint32_t i;

	for (i = 0; i < walks; i++, ++*next)
		asked |= tm_walks_again(recall, 0x7ffe0000 + *next % stacks * 16,
					(uint32_t)(*next % stacks) + 1);
	return asked;
}

static void stacks_that_come_back_ask_for_places(void **state)
{
	struct tm_recall *recall = calloc(1, sizeof(*recall));
	uint64_t next = 0;

	(void)state;
	assert_false(asks(recall, 1500, TM_WALKED - 1, &next));
	assert_true(asks(recall, 1500, 1, &next));
	assert_false(asks(recall, 1500, TM_WALKED - 1, &next));
	assert_true(asks(recall, 1500, 1, &next));
	/* So many that no number of places would do. */
	assert_false(asks(recall, 100000, 30 * TM_WALKED, &next));
	free(recall);
}

/* Writes all that a thread has room for, and reads it back. */
static void use_all(const struct tm_thread *thread, uint32_t places, uint32_t frames)
{
	const struct tm_recall *recall = &thread->recall;
	uint64_t paths = (uint64_t)places * TM_WAYS, i;

	assert_int_equal(recall->last_place, places - 1);
	assert_int_equal(recall->place_size, TM_WAYS * recall->size);
	assert_int_equal(thread->capacity, frames);
	for (i = 0; i < paths; i++) {
		struct tm_path *path = (struct tm_path *)(recall->paths + i * recall->size);
		struct tm_shape *shape = tm_joint_shape(recall, i << TM_JOINT_PATH);

		assert_int_equal(path->rip | shape->words, 0);
		path->rip = i + 1;
		path->words[tm_path_room(frames) + TM_PATH_GROUP - 2].value = i;
		shape->words = (uint16_t)i;
		shape->frames = (uint16_t)i;
	}
	for (i = 0; i < frames; i++)
		((uint64_t *)thread->frames)[i] = ~i;
	for (i = 0; i < paths; i++) {
		struct tm_path *path = (struct tm_path *)(recall->paths + i * recall->size);
		struct tm_shape *shape = tm_joint_shape(recall, i << TM_JOINT_PATH);

		assert_int_equal(path->rip, i + 1);
		assert_int_equal(path->words[tm_path_room(frames) + TM_PATH_GROUP - 2].value, i);
		assert_int_equal(shape->words, (uint16_t)i);
		assert_int_equal(shape->frames, (uint16_t)i);
	}
	for (i = 0; i < TM_JOINTS; i++)
		assert_int_equal(recall->joints[i], 0);
}

static void all_places_have_room(void **state)
{
	struct tm_thread *thread = calloc(1, sizeof(*thread));
	uint32_t places;

	(void)state;
	assert_true(thread_reserve(thread, 10));
	for (places = TM_PLACES; places <= TM_MOST_PLACES; places *= 4) {
		use_all(thread, places, 10);
		thread->recall.joints[7] = UINT64_MAX;
		thread_remember_more(thread);
	}
	assert_int_equal(thread->recall.last_place, TM_MOST_PLACES - 1);
	assert_int_equal(thread->recall.joints[7], UINT64_MAX);
	/* A higher limit begins anew. */
	assert_true(thread_reserve(thread, 300));
	use_all(thread, TM_PLACES, 300);
	assert_true(thread_reserve(thread, 20));
	assert_int_equal(thread->capacity, 300);
	free(thread);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stacks_that_come_back_ask_for_places),
		cmocka_unit_test(all_places_have_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
