/*
 * Which stub each redirected function leads to, in each mode.
 *
 * links: helper/route.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "helper_stubs.h"
#include "route.h"
#include "sample.h"

/* The stubs: places, never called. */
#define STUB(name) const uint8_t name[1] TM_HIDDEN = {0}
STUB(tm_entry_alloc);
STUB(tm_entry_free);
STUB(tm_entry_realloc);
STUB(tm_entry_usual_alloc);
STUB(tm_entry_usual_calloc);
STUB(tm_entry_usual_free);
STUB(tm_entry_usual_free_leaf);
STUB(tm_sampled_malloc);
STUB(tm_sampled_malloc_guarded);
STUB(tm_sampled_malloc_words);
STUB(tm_sampled_malloc_guarded_words);
STUB(tm_sampled_malloc_least);
STUB(tm_sampled_malloc_guarded_least);
STUB(tm_sampled_calloc);
STUB(tm_sampled_calloc_guarded);
STUB(tm_sampled_calloc_words);
STUB(tm_sampled_calloc_guarded_words);
STUB(tm_sampled_calloc_least);
STUB(tm_sampled_calloc_guarded_least);
STUB(tm_sampled_realloc);
STUB(tm_sampled_realloc_guarded);
STUB(tm_sampled_realloc_words);
STUB(tm_sampled_realloc_guarded_words);
STUB(tm_sampled_realloc_least);
STUB(tm_sampled_realloc_guarded_least);
STUB(tm_sampled_free);

uint8_t *tm_sample_filter;
bool tm_sample_in_words;

#define NONE TM_NO_ARGUMENT
#define FIRST_ENTRY 1234u /* what the debugger wrote */

static struct tm_patch patches[TM_MAX_PATCHES];
static struct tm_generation generation;

static void add(const char *name, uint8_t shape, uint8_t size, uint8_t count, uint8_t block)
{
	struct tm_patch *patch = &patches[tm_header.patch_count++];

	*patch = (struct tm_patch){.shape = shape,
				   .size_argument = size,
				   .count_argument = count,
				   .block_argument = block,
				   .length = 5,
				   .active = 1,
				   .entry = FIRST_ENTRY};
	strncpy(patch->name, name, sizeof(patch->name));
}

enum { MALLOC, CALLOC, REALLOC, FREE, NEW, ALIGNED, ARRAY, STORE, LOADER };

static int setup(void **state)
{
	(void)state;
	tm_header.patches = (uint64_t)patches;
	tm_header.patch_count = 0;
	tm_header.generation = (uint64_t)&generation;
	tm_header.state = TM_STATE_TRACING;
	generation = (struct tm_generation){0};
	add("malloc", TM_SHAPE_ALLOC, 0, NONE, NONE);
	add("calloc", TM_SHAPE_ALLOC, 1, 0, NONE);
	add("realloc", TM_SHAPE_REALLOC, 1, NONE, 0);
	add("free", TM_SHAPE_FREE, NONE, NONE, 0);
	add("_Znwm", TM_SHAPE_ALLOC, 0, NONE, NONE);
	add("aligned_alloc", TM_SHAPE_ALLOC, 1, NONE, NONE);
	add("reallocarray", TM_SHAPE_REALLOC, 2, 1, 0);
	add("posix_memalign", TM_SHAPE_STORE, 2, NONE, 0);
	add("_dl_debug_state", TM_SHAPE_LOADER, NONE, NONE, NONE);
	patches[CALLOC].is_leaf = 1;
	return 0;
}

static void assert_leads(int number, const uint8_t *stub)
{
	assert_int_equal(patches[number].entry, (uint64_t)stub);
}

static void every_block(void **state)
{
	(void)state;
	tm_route_all();
	assert_leads(MALLOC, tm_entry_usual_alloc);
	assert_leads(CALLOC, tm_entry_usual_calloc);
	assert_leads(REALLOC, tm_entry_realloc);
	assert_leads(FREE, tm_entry_usual_free);
	assert_leads(NEW, tm_entry_usual_alloc);
	assert_leads(ALIGNED, tm_entry_alloc);
	assert_int_equal(patches[STORE].entry, FIRST_ENTRY);
	assert_int_equal(patches[LOADER].entry, FIRST_ENTRY);
	patches[FREE].is_leaf = 1;
	tm_route_all();
	assert_leads(FREE, tm_entry_usual_free_leaf);
	patches[CALLOC].keeps_registers = 1;
	patches[CALLOC].entry = FIRST_ENTRY;
	patches[FREE].domain = patches[MALLOC].domain = 100;
	tm_route_all();
	assert_leads(MALLOC, tm_entry_alloc);
	assert_leads(FREE, tm_entry_free);
	assert_int_equal(patches[CALLOC].entry, FIRST_ENTRY);
}

static void a_sample(void **state)
{
	(void)state;
	generation.filter = 1;
	generation.sample_period = 4096;
	tm_route_all();
	assert_leads(MALLOC, tm_sampled_malloc);
	assert_leads(CALLOC, tm_sampled_calloc);
	assert_leads(REALLOC, tm_sampled_realloc_guarded);
	assert_leads(FREE, tm_sampled_free);
	assert_leads(NEW, tm_sampled_malloc_guarded);
	assert_leads(ALIGNED, tm_entry_alloc);
	assert_leads(ARRAY, tm_entry_realloc);
	assert_int_equal(patches[STORE].entry, FIRST_ENTRY);
	assert_int_equal(patches[LOADER].entry, FIRST_ENTRY);
}

/* Then either may be the other's. */
static void two_mallocs(void **state)
{
	(void)state;
	generation.filter = 1;
	add("je_malloc", TM_SHAPE_ALLOC, 0, NONE, NONE);
	tm_route_new();
	assert_leads(MALLOC, tm_sampled_malloc_guarded);
	assert_int_equal(tm_routed, tm_header.patch_count);
	patches[MALLOC].is_leaf = 1;
	tm_route_all();
	assert_leads(MALLOC, tm_sampled_malloc);
	assert_leads(LOADER + 1, tm_sampled_malloc_guarded);
}

static void none_below_a_size(void **state)
{
	(void)state;
	generation.filter = 1;
	generation.min_size = 100;
	tm_route_all();
	assert_leads(MALLOC, tm_sampled_malloc_least);
	assert_leads(CALLOC, tm_sampled_calloc_least);
	assert_leads(REALLOC, tm_sampled_realloc_guarded_least);
	assert_leads(NEW, tm_sampled_malloc_guarded_least);
	assert_leads(FREE, tm_sampled_free);
}

static void nothing(void **state)
{
	(void)state;
	tm_header.state = TM_STATE_IDLE;
	tm_header.generation = 0;
	tm_route_all();
	assert_leads(MALLOC, tm_entry_alloc);
	assert_leads(REALLOC, tm_entry_realloc);
	assert_leads(FREE, tm_entry_free);
}

/* Words of the threads' own. */
static void words(void **state)
{
	(void)state;
	generation.filter = 1;
	tm_sample_in_words = true;
	tm_route_all();
	assert_leads(MALLOC, tm_sampled_malloc_words);
	assert_leads(CALLOC, tm_sampled_calloc_words);
	assert_leads(REALLOC, tm_sampled_realloc_guarded_words);
	assert_leads(NEW, tm_sampled_malloc_guarded_words);
	assert_leads(FREE, tm_sampled_free);
	generation.filter = 0;
	tm_route_all();
	assert_leads(MALLOC, tm_entry_usual_alloc);
	tm_sample_in_words = false;
}

/* Of libtm-preload.so: it leads to the function itself when nothing is traced. */
static struct tm_patch *stand_in(int number)
{
	struct tm_patch *patch = &patches[number];

	patch->length = 0;
	patch->function = 1000;
	patch->relay = 5;
	patch->original = 7;
	return patch;
}

static void a_stub_that_stands_in(void **state)
{
	struct tm_patch *patch = stand_in(MALLOC);

	(void)state;
	patch->active = 0; /* it was not called yet */
	tm_route_all();
	assert_leads(MALLOC, tm_entry_usual_alloc);
	assert_int_equal(patch->relay, 5);
	assert_int_equal(patch->lead, 1000 + TM_STUB_LOAD);
	patch->active = 1;
	tm_route_all();
	assert_int_equal(patch->relay, 1000 + TM_STUB_LOAD);
	tm_header.state = TM_STATE_IDLE;
	tm_route_all();
	assert_int_equal(patch->relay, 7);
}

/* A debugger redirected what it stands in for: then it would count twice. */
static void a_stub_of_a_redirected_function(void **state)
{
	struct tm_patch *patch = stand_in(FREE);

	(void)state;
	patches[MALLOC].function = patch->original;
	tm_route_all();
	assert_int_equal(patch->relay, patch->original);
	patches[MALLOC].active = 0;
	tm_route_all();
	assert_int_equal(patch->relay, 1000 + TM_STUB_LOAD);
}

static void assert_short(const struct tm_patch *patch, bool is_short)
{
	tm_route_all();
	assert_int_equal(patch->relay, is_short ? patch->short_way : 1000 + TM_STUB_LOAD);
	assert_int_equal(patch->lead, patch->relay);
}

static void a_short_way_of_a_stub(void **state)
{
	struct tm_patch *patch = stand_in(CALLOC), *release = stand_in(FREE);

	(void)state;
	patch->short_way = release->short_way = 2000;
	tm_sample_filter = (uint8_t *)&generation;
	assert_short(patch, false); /* every block is recorded */
	assert_short(release, false);
	generation.filter = 1;
	assert_short(patch, false); /* nothing is in words */
	assert_short(release, true);
	assert_int_equal(release->filter, (uint64_t)&generation);
	tm_sample_in_words = true;
	assert_short(patch, true);
	patch->is_leaf = 0;
	assert_short(patch, false); /* it may call another */
	patch->is_leaf = 1;
	patch->short_way = release->short_way = 0;
	assert_short(patch, false);
	assert_short(release, false);
	tm_sample_in_words = false;
}

static void a_list_that_was_overwritten(void **state)
{
	(void)state;
	tm_header.patch_count = TM_MAX_PATCHES + 1;
	tm_route_all();
	assert_int_equal(patches[MALLOC].entry, FIRST_ENTRY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_block, setup),
		cmocka_unit_test_setup(a_sample, setup),
		cmocka_unit_test_setup(two_mallocs, setup),
		cmocka_unit_test_setup(none_below_a_size, setup),
		cmocka_unit_test_setup(nothing, setup),
		cmocka_unit_test_setup(words, setup),
		cmocka_unit_test_setup(a_stub_that_stands_in, setup),
		cmocka_unit_test_setup(a_stub_of_a_redirected_function, setup),
		cmocka_unit_test_setup(a_short_way_of_a_stub, setup),
		cmocka_unit_test_setup(a_list_that_was_overwritten, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
