/*
 * links: helper/traceback.c helper/arena.c helper/arch/x86_64/system.S
 *
 * Interned tracebacks: equal ones get one id, different ones never do, ids
 * lead back to the addresses they were made of, by one hash and by their nodes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arena.h"
#include "lock.h"
#include "traceback.h"

struct tm_header tm_header;

#define OWNER 1u
#define LIMIT 64u

static struct tm_generation *new_generation(uint32_t id)
{
	struct tm_generation *generation = calloc(1, sizeof(*generation));

	generation->locks = (uint64_t)calloc(1, sizeof(struct tm_locks));
	generation->limit = LIMIT;
	generation->id = id;
	assert_int_equal(traceback_init(generation), 0);
	return generation;
}

static void free_generation(struct tm_generation *generation)
{
	arena_unmap_all(generation);
	free((void *)generation->locks);
	free(generation);
}

static uint32_t intern(struct tm_generation *generation, uint32_t domain, bool truncated,
		       const uint64_t *frames, uint32_t count)
{
	return traceback_intern(generation, OWNER, domain, truncated, frames, count);
}

/* As if it had been long ago that they were interned: each is then looked up by its nodes. */
static void forget_recent(struct tm_generation *generation)
{
	memset((void *)generation->index, 0, TM_RECENT_TRACEBACKS * sizeof(uint64_t));
}

/* From the id back to frames, domain and truncation. */
static void assert_traceback(const struct tm_generation *generation, uint32_t id, uint32_t domain,
			     bool truncated, const uint64_t *frames, uint32_t count)
{
	const struct tm_node *node = traceback_node(generation, id);
	uint32_t i;

	for (i = 0; i < count; i++) {
		assert_int_equal(node->address, frames[i]);
		assert_true(node->parent < generation->node_count);
		node = traceback_node(generation, node->parent);
	}
	assert_int_equal(node->address,
			 TM_NODE_ROOT | (truncated ? TM_NODE_TRUNCATED : 0) | domain);
	assert_int_equal(node->parent, 0);
}

/* The same frames have the same id, however they are found. */
static void equal_tracebacks_have_one_id(void **state)
{
	static const uint64_t first[] = {0x30, 0x20, 0x10};
	static const uint64_t second[] = {0x40, 0x20, 0x10};
	struct tm_generation *generation = new_generation(1);
	uint32_t id = intern(generation, 0, false, first, 3);
	uint32_t sibling = intern(generation, 0, false, second, 3);

	(void)state;
	assert_int_not_equal(id, 0);
	assert_int_not_equal(id, sibling);
	assert_int_equal(intern(generation, 0, false, first, 3), id);
	assert_int_equal(intern(generation, 0, false, second, 3), sibling);
	forget_recent(generation);
	assert_int_equal(intern(generation, 0, false, first, 3), id);
	/* A root, two shared callers, two leaves; id 0 is no node. */
	assert_int_equal(generation->node_count, 6);
	free_generation(generation);
}

/* What the hash leads to is looked at: two tracebacks may have the same. */
static void a_recent_traceback_is_confirmed(void **state)
{
	static const uint64_t frames[] = {0x40, 0x30, 0x20, 0x10};
	struct tm_generation *generation = new_generation(1);
	uint64_t *recent = (uint64_t *)generation->index;
	uint32_t ids[4], i, wrong, places = 0;

	(void)state;
	for (i = 0; i < 4; i++)
		ids[i] = intern(generation, 0, i == 3, frames, i < 3 ? 4 - i : 4);
	for (wrong = 1; wrong < generation->node_count; wrong++) {
		for (places = i = 0; i < TM_RECENT_TRACEBACKS; i++) {
			places += recent[i] != 0;
			if (recent[i])
				recent[i] = recent[i] >> 32 << 32 | wrong;
		}
		for (i = 0; i < 4; i++)
			assert_int_equal(intern(generation, 0, i == 3, frames, i < 3 ? 4 - i : 4),
					 ids[i]);
	}
	assert_int_equal(places, 4);
	free_generation(generation);
}

/* Domain and truncation belong to a traceback: they are told apart by its root. */
static void roots_tell_domain_and_truncation(void **state)
{
	static const uint64_t frames[] = {0x30, 0x20};
	struct tm_generation *generation = new_generation(1);
	uint32_t domain, truncated, id[3][2];

	(void)state;
	for (domain = 0; domain < 3; domain++)
		for (truncated = 0; truncated < 2; truncated++)
			id[domain][truncated] = intern(generation, domain, truncated, frames, 2);
	for (domain = 0; domain < 3; domain++)
		for (truncated = 0; truncated < 2; truncated++)
			assert_traceback(generation, id[domain][truncated], domain, truncated,
					 frames, 2);
	free_generation(generation);
}

/* A traceback without frames is its root alone. */
static void no_frames_is_a_root(void **state)
{
	struct tm_generation *generation = new_generation(1);

	(void)state;
	assert_traceback(generation, intern(generation, 1, false, NULL, 0), 1, false, NULL, 0);
	free_generation(generation);
}

/* Ids belong to one generation; the next one starts from its own. */
static void an_id_does_not_outlive_its_generation(void **state)
{
	static const uint64_t frames[] = {0x30, 0x20, 0x10};
	struct tm_generation *generation = new_generation(1);

	(void)state;
	intern(generation, 0, false, frames, 3);
	free_generation(generation);
	generation = new_generation(2);
	assert_traceback(generation, intern(generation, 0, false, frames, 3), 0, false, frames, 3);
	assert_int_equal(generation->node_count, 5);
	free_generation(generation);
}

#define TRACEBACKS 300000u

/* Many random stacks that share callers: each id leads back to its own frames. */
static void ids_lead_back_to_frames(void **state)
{
	static uint32_t ids[TRACEBACKS];
	struct tm_generation *generation = new_generation(1);
	uint64_t frames[LIMIT];
	uint32_t turn, i, pass, before = 0;

	(void)state;
	for (pass = 0; pass < 3; pass++) {
		uint64_t random = 88172645463325252u;

		if (pass == 1)
			forget_recent(generation);
		for (turn = 0; turn < TRACEBACKS; turn++) {
			uint32_t count;

			random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
			count = (uint32_t)(random >> 60) + 2;
			for (i = 0; i < count; i++)
				frames[count - 1 - i] =
					0x555500000000 + i * 4096 + ((random >> i * 3) & 7) * 16;
			if (pass == 0)
				ids[turn] = intern(generation, 0, false, frames, count);
			else if (pass == 1)
				assert_int_equal(intern(generation, 0, false, frames, count),
						 ids[turn]);
			else
				assert_traceback(generation, ids[turn], 0, false, frames, count);
		}
		if (pass == 1)
			assert_int_equal(generation->node_count, before);
		before = generation->node_count;
	}
	assert_true(before > TRACEBACKS / 2);
	free_generation(generation);
}

/* A thread that comes back while it holds the lock is refused; it must not wait for itself. */
static void refuses_its_own_lock(void **state)
{
	static const uint64_t frames[] = {0x30};
	struct tm_generation *generation = new_generation(1);

	(void)state;
	assert_true(lock_take(&tm_locks(generation)->intern.word, OWNER));
	assert_int_equal(intern(generation, 0, false, frames, 1), 0);
	lock_release(&tm_locks(generation)->intern.word);
	assert_int_not_equal(intern(generation, 0, false, frames, 1), 0);
	free_generation(generation);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_tracebacks_have_one_id),
		cmocka_unit_test(a_recent_traceback_is_confirmed),
		cmocka_unit_test(roots_tell_domain_and_truncation),
		cmocka_unit_test(no_frames_is_a_root),
		cmocka_unit_test(an_id_does_not_outlive_its_generation),
		cmocka_unit_test(ids_lead_back_to_frames),
		cmocka_unit_test(refuses_its_own_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
