/*
 * Remembered stacks, hand-made ones: recalled when they are there again, and
 * not when anything differs that their walk depended on.
 *
 * links: helper/unwind.c helper/join.c helper/fullwalk.c helper/stack.c helper/cfi.c
 *        helper/rule.c helper/expression.c helper/modules.c helper/maps.c
 *        helper/object.c helper/lists.c helper/links.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>

#include "helper_stubs.h"
#include "modules.h"
#include "join.h"

static struct tm_unwinder unwinder;
static struct tm_generation generation = {.id = 3};

#define FRAMES 16 /* that a path has room for */
static union {
	struct tm_path path;
	uint64_t words[(sizeof(struct tm_path) + 2 * TM_PATH_WORDS * sizeof(struct tm_word)) / 8];
} paths[TM_PATHS];

/*
 * Frames of a hand-made stack, by return address: after_plain's is 4 words long
 * and keeps rbp in the first, after_framed's is counted from rbp, after_aligned's
 * is realigned and its CFA stored below rbp, after_huge's is a MiB long,
 * after_last's has no caller.
 */
__asm__(".text\n.type plain, @function\nplain:\n.cfi_startproc\n.cfi_def_cfa_offset 32\n"
	".cfi_offset rbp, -32\n\tnop\nafter_plain:\tnop\n.cfi_endproc\n.size plain, . - plain\n"
	".type framed, @function\nframed:\n.cfi_startproc\n.cfi_def_cfa rbp, 16\n"
	".cfi_offset rbp, -16\n\tnop\nafter_framed:\tnop\n.cfi_endproc\n.size framed, . - framed\n"
	".type aligned, @function\naligned:\n.cfi_startproc\n.cfi_escape 0x0f, 3, 0x76, 0x78, 6\n"
	".cfi_escape 0x10, 6, 2, 0x76, 0\n\tnop\nafter_aligned:\tnop\n.cfi_endproc\n"
	".size aligned, . - aligned\n.type huge, @function\nhuge:\n.cfi_startproc\n"
	".cfi_def_cfa_offset 1048576\n\tnop\nafter_huge:\tnop\n.cfi_endproc\n.size huge, . - huge\n"
	".type final, @function\nfinal:\n.cfi_startproc\n.cfi_undefined rip\n\tnop\n"
	"after_last:\tnop\n.cfi_endproc\n.size final, . - final");
extern const uint8_t after_plain[], after_framed[], after_aligned[], after_huge[], after_last[];

#define PLAIN ((uint64_t)after_plain)
#define FRAMED ((uint64_t)after_framed)
#define ALIGNED ((uint64_t)after_aligned)
#define HUGE_ONE ((uint64_t)after_huge)
#define LAST ((uint64_t)after_last)

/* The stack at words, and the one path that remembers it. */
struct made_stack {
	size_t limit;
	uint64_t words[32];
	struct tm_registers start;
	struct tm_stack range;
	struct tm_path *path;
	size_t count; /* frames that the last walk found */
} __attribute__((aligned(512)));

static void walk_in(struct made_stack *made, struct tm_path *path)
{
	uint64_t addresses[16];
	bool complete;

	made->path = path;
	made->start.rsp = (uint64_t)made->words;
	made->start.rbp_at = (uint64_t)&made->start.rbp;
	made->range.low = (uint64_t)made->words;
	made->range.high = (uint64_t)(made->words + 32);
	tm_path_begin(made->path, FRAMES, &unwinder.log);
	made->count =
		tm_unwind(&unwinder, &made->start, &made->range, addresses, made->limit, &complete);
	tm_path_end(made->path, &unwinder.log, made->start.rip, made->start.rsp,
		    tm_path_stamp(&generation, &made->range, &unwinder.log), 1, 7);
}

static void walk_made_stack(struct made_stack *made)
{
	walk_in(made, &paths[0].path);
}

static bool is_recalled(const struct made_stack *made)
{
	return tm_recall(made->path, made->start.rip, made->start.rsp,
			 tm_recall_stamp(&generation, &made->range), 1) == 7;
}

/* Whether the stack is still recalled with another value in a place; puts the old one back. */
static bool is_recalled_with(const struct made_stack *made, uint64_t *place, uint64_t value)
{
	uint64_t old = *place;
	bool result;

	assert_true(is_recalled(made));
	*place = value;
	result = is_recalled(made);
	*place = old;
	return result;
}

/* plain, plain, framed (rbp from the second), framed, plain, last */
static void make_stack(struct made_stack *made)
{
	uint64_t *words = made->words;

	memset(made, 0, sizeof(*made));
	made->start.rip = PLAIN;
	words[3] = PLAIN;
	words[4] = (uint64_t)&words[10];
	words[7] = FRAMED;
	words[10] = (uint64_t)&words[14];
	words[11] = FRAMED;
	words[15] = PLAIN;
	words[19] = LAST;
	made->limit = 16;
}

static void a_stack_that_differs_is_not_recalled(void **state)
{
	struct made_stack made;
	uint64_t *words = made.words;

	(void)state;
	make_stack(&made);
	walk_made_stack(&made);
	assert_int_equal(made.count, 6);
	/* One frame in the middle, of the same size; a frame pointer; the last frame. */
	assert_false(is_recalled_with(&made, &words[3], PLAIN + 1));
	assert_false(is_recalled_with(&made, &words[4], (uint64_t)&words[14]));
	assert_false(is_recalled_with(&made, &words[10], (uint64_t)&words[18]));
	assert_false(is_recalled_with(&made, &words[11], PLAIN));
	assert_false(is_recalled_with(&made, &words[19], PLAIN));
	assert_false(is_recalled_with(&made, &made.start.rip, FRAMED));
	assert_false(is_recalled_with(&made, &made.start.rsp, made.start.rsp + 8));
	/* Known to be readable: something else. */
	assert_false(is_recalled_with(&made, &made.range.changes, made.range.changes + 1));
	/* rbp where nothing is counted from it, and what is no part of the walk. */
	assert_true(is_recalled_with(&made, &made.start.rbp, 1));
	assert_true(is_recalled_with(&made, &words[0], 1));
	assert_true(is_recalled_with(&made, &words[14], 1));
	assert_true(is_recalled_with(&made, &words[16], 1));
	assert_int_equal(tm_recall(made.path, made.start.rip, made.start.rsp,
				   tm_recall_stamp(&generation, &made.range), 2),
			 0);
	generation.id++;
	assert_false(is_recalled(&made));
	generation.id--;
	/* The usual way asks for malloc's alone, and where every block is recorded. */
	assert_true(is_recalled(&made));
	assert_false(tm_path_is(made.path, made.start.rip, made.start.rsp,
				tm_recall_stamp(&generation, &made.range)));
	generation.filter = 1;
	assert_false(is_recalled(&made));
	generation.filter = 0;
	assert_true(is_recalled(&made));
	tm_unwind_forget_rules();
	assert_false(is_recalled(&made));
	walk_made_stack(&made);
	assert_true(is_recalled(&made));
	tm_modules_loader_event(false);
	assert_false(is_recalled(&made));
}

/* The frame pointer that the walk begins with. */
static void the_first_frame_pointer_is_looked_at(void **state)
{
	struct made_stack made;

	(void)state;
	make_stack(&made);
	made.start.rip = FRAMED;
	made.start.rbp = (uint64_t)&made.words[2];
	walk_made_stack(&made);
	assert_false(is_recalled_with(&made, &made.start.rbp, (uint64_t)&made.words[6]));
	assert_false(is_recalled_with(&made, &made.words[4], (uint64_t)&made.words[14]));
	assert_true(is_recalled_with(&made, &made.words[2], 1));
}

static void the_outermost_frame_alone_is_recalled(void **state)
{
	struct made_stack made;

	(void)state;
	make_stack(&made);
	made.start.rip = LAST;
	memset(paths, 0, sizeof(paths));
	walk_made_stack(&made);
	assert_int_equal(made.count, 1);
	assert_true(is_recalled(&made));
	assert_true(is_recalled_with(&made, &made.words[3], 1));
}

/* Callers of one wrapper have places of their own, a few bytes apart as they may be. */
static void the_second_caller_chooses_the_place(void **state)
{
	static struct tm_recall recall = {.size = sizeof(*paths),
					  .place_size = TM_WAYS * sizeof(*paths),
					  .last_place = TM_PLACES - 1};
	static bool taken[TM_PLACES];
	struct made_stack made;
	unsigned int i, places = 0;

	(void)state;
	make_stack(&made);
	walk_made_stack(&made);
	recall.paths = (uint64_t)paths;
	tm_hint_set(&recall, &unwinder.log, made.start.rip, made.start.rsp);
	for (i = 0; i < TM_PLACES; i++) {
		const struct tm_path *path;
		uint64_t place;

		made.words[3] = PLAIN + 16 * i;
		path = tm_path_at(&recall, made.start.rip, made.start.rsp);
		place = ((uint64_t)path - recall.paths) / sizeof(*paths) / TM_WAYS;
		places += !taken[place];
		taken[place] = true;
	}
	assert_true(places > TM_PLACES / 3);
}

/* Two stacks of one place are both remembered; the one that is met often comes to be the first. */
static void a_place_has_two_paths(void **state)
{
	static struct tm_recall recall = {.size = sizeof(*paths),
					  .place_size = TM_WAYS * sizeof(*paths),
					  .last_place = TM_PLACES - 1};
	struct made_stack stacks[2];
	struct tm_path *first = &paths[0].path;
	uint64_t stamp;
	unsigned int i;

	(void)state;
	memset(paths, 0, sizeof(paths));
	recall.paths = (uint64_t)paths;
	for (i = 0; i < 2; i++) {
		make_stack(&stacks[i]);
		stamp = tm_recall_stamp(&generation, &stacks[i].range);
		assert_int_equal(tm_recall_second(&recall, first, PLAIN, (uint64_t)stacks[i].words,
						  stamp, 1),
				 0);
		walk_in(&stacks[i], (struct tm_path *)recall.chosen);
		assert_ptr_equal(stacks[i].path, &paths[i].path);
	}
	assert_true(is_recalled(&stacks[0]));
	stamp = tm_recall_stamp(&generation, &stacks[1].range);
	for (i = 1; i < TM_MOVED; i++) {
		assert_int_equal(tm_recall_second(&recall, first, PLAIN, (uint64_t)stacks[1].words,
						  stamp, 1),
				 7);
		assert_ptr_equal((void *)recall.chosen, &paths[1].path);
	}
	assert_int_equal(
		tm_recall_second(&recall, first, PLAIN, (uint64_t)stacks[1].words, stamp, 1), 0);
	assert_ptr_equal((void *)recall.chosen, first);
}

/* Where it looks for the second caller, there may be no stack any more. */
static void the_place_is_chosen_without_a_fault(void **state)
{
	static struct tm_recall recall = {.size = sizeof(*paths),
					  .place_size = TM_WAYS * sizeof(*paths),
					  .last_place = TM_PLACES - 1};
	uint8_t *memory =
		mmap(NULL, 2 * TM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t at;

	(void)state;
	recall.paths = (uint64_t)paths;
	recall.hint[tm_hint_index(PLAIN)] = 40;
	munmap(memory + TM_PAGE, TM_PAGE);
	for (at = 8; at <= TM_PAGE; at += 4)
		assert_non_null(tm_path_at(&recall, PLAIN, (uint64_t)memory + at));
}

static void a_realigned_frame_is_looked_at(void **state)
{
	struct made_stack made;
	uint64_t *words = made.words;

	(void)state;
	make_stack(&made);
	made.start.rip = ALIGNED;
	made.start.rbp = (uint64_t)&words[2];
	words[1] = (uint64_t)&words[4];
	words[2] = (uint64_t)&words[5];
	words[3] = FRAMED;
	words[6] = LAST;
	words[8] = words[7] = PLAIN;
	walk_made_stack(&made);
	assert_int_equal(made.count, 3);
	assert_false(is_recalled_with(&made, &made.start.rbp, (uint64_t)&words[4]));
	assert_false(is_recalled_with(&made, &words[1], (uint64_t)&words[8]));
	assert_false(is_recalled_with(&made, &words[2], (uint64_t)&words[6]));
	assert_false(is_recalled_with(&made, &words[3], LAST));
	assert_true(is_recalled_with(&made, &words[0], 1));
}

/* Behind a large frame the stack is only known for the time of a walk. */
static void a_frame_beyond_the_known_stack_is_not_remembered(void **state)
{
	const uint64_t size = 2u << 20;
	uint8_t *memory =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct tm_registers start = {.rip = HUGE_ONE, .rsp = (uint64_t)memory};
	struct tm_stack own = {start.rsp, start.rsp + TM_PAGE, 0};
	uint64_t addresses[16];
	struct tm_path *path = &paths[0].path;
	bool complete;

	(void)state;
	start.rbp_at = (uint64_t)&start.rbp;
	*(uint64_t *)(memory + (1 << 20) - 8) = LAST;
	tm_path_begin(path, FRAMES, &unwinder.log);
	assert_int_equal(tm_unwind(&unwinder, &start, &own, addresses, 16, &complete), 2);
	tm_path_end(path, &unwinder.log, start.rip, start.rsp,
		    tm_path_stamp(&generation, &own, &unwinder.log), 1, 7);
	assert_true(own.high < start.rsp + (1 << 20));
	assert_int_equal(
		tm_recall(path, start.rip, start.rsp, tm_recall_stamp(&generation, &own), 1), 0);
	munmap(memory, size);
}

/* Behind the limit it only matters that there are frames. */
static void what_is_left_off_may_differ(void **state)
{
	struct made_stack made;
	uint64_t *words = made.words;

	(void)state;
	make_stack(&made);
	made.limit = 4;
	walk_made_stack(&made);
	assert_int_equal(made.count, 4);
	assert_true(is_recalled_with(&made, &words[15], FRAMED));
	assert_false(is_recalled_with(&made, &words[15], 0));
	assert_false(is_recalled_with(&made, &words[11], PLAIN));
	made.limit = 1;
	walk_made_stack(&made);
	assert_true(is_recalled_with(&made, &words[3], FRAMED));
	assert_false(is_recalled_with(&made, &words[3], 0));
}

/* There is room for so many addresses as the limit says: none for the 0 that ends the stack. */
static void what_is_joined_ends_at_the_limit(void **state)
{
	static struct tm_recall recall = {.size = sizeof(*paths)};
	static struct tm_shape shapes[2];
	struct tm_registers start = {.rip = PLAIN};
	struct made_stack made;
	uint64_t addresses[8];
	unsigned int i;
	bool complete;

	(void)state;
	make_stack(&made);
	memset(made.words, 0, sizeof(made.words));
	memset(paths, 0, sizeof(paths));
	for (i = 3; i < 20; i += 4)
		made.words[i] = PLAIN;
	made.range.low = (uint64_t)made.words;
	made.range.high = (uint64_t)(made.words + 32);
	recall.paths = (uint64_t)paths;
	recall.shapes = (uint64_t)shapes;
	start.rbp_at = (uint64_t)&start.rbp;
	for (i = 0; i < 2; i++) {
		size_t limit = i ? 6 : 7, found = i ? 6 : 5;

		start.rsp = (uint64_t)&made.words[i ? 0 : 4];
		addresses[limit] = UINT64_MAX;
		tm_path_begin(&paths[i != 0].path, FRAMES, &unwinder.log);
		tm_join_begin(&recall, &paths[i != 0].path, &generation, &unwinder.log);
		assert_int_equal(tm_unwind(&unwinder, &start, &made.range, addresses, limit,
					   &complete),
				 found);
		assert_true(complete);
		assert_int_equal(addresses[limit], UINT64_MAX);
		if (i == 0) {
			tm_join_end(&recall, &unwinder.log, found);
			tm_path_end(&paths[0].path, &unwinder.log, start.rip, start.rsp,
				    tm_path_stamp(&generation, &made.range, &unwinder.log), 1, 7);
		}
	}
	unwinder.log.recall = NULL;
}

/* What a walk cannot tell from its words alone is not remembered. */
static void a_walk_with_special_frames_is_not_remembered(void **state)
{
	struct made_stack made;

	(void)state;
	make_stack(&made);
	made.words[19] = (uint64_t)made.words; /* where no code is */
	walk_made_stack(&made);
	assert_false(is_recalled(&made));
	make_stack(&made);
	made.words[10] = (uint64_t)&made.words[40]; /* beyond what can be read for sure */
	walk_made_stack(&made);
	assert_false(is_recalled(&made));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stack_that_differs_is_not_recalled),
		cmocka_unit_test(the_first_frame_pointer_is_looked_at),
		cmocka_unit_test(the_outermost_frame_alone_is_recalled),
		cmocka_unit_test(the_second_caller_chooses_the_place),
		cmocka_unit_test(a_place_has_two_paths),
		cmocka_unit_test(the_place_is_chosen_without_a_fault),
		cmocka_unit_test(a_realigned_frame_is_looked_at),
		cmocka_unit_test(a_frame_beyond_the_known_stack_is_not_remembered),
		cmocka_unit_test(what_is_left_off_may_differ),
		cmocka_unit_test(what_is_joined_ends_at_the_limit),
		cmocka_unit_test(a_walk_with_special_frames_is_not_remembered),
	};

	tm_modules_refresh();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
