/*
 * A generation with an empty trace table, for unit tests that link the table.
 *
 * Include it after cmocka.h.
 */
#ifndef TM_TEST_NEW_TABLE_H
#define TM_TEST_NEW_TABLE_H

#include "arena.h"
#include "segment.h"
#include "table.h"
#include "traceback.h"

static struct tm_generation *new_generation(void)
{
	struct tm_generation *generation = calloc(1, sizeof(*generation));

	generation->locks = (uint64_t)calloc(1, sizeof(struct tm_locks));
	assert_int_equal(table_init(generation), 0);
	assert_int_equal(traceback_init(generation), 0);
	return generation;
}

static void free_generation(struct tm_generation *generation)
{
	arena_unmap_all(generation);
	free((void *)generation->locks);
	free(generation);
}

#endif
