/*
 * The unwinder where it might go wrong: stacks that are recalled, stack use, broken stacks, relocated prologues, forgotten rules.
 *
 * links: helper/unwind.c helper/fullwalk.c helper/stack.c helper/cfi.c
 *        helper/rule.c helper/expression.c helper/modules.c helper/maps.c
 */
#include "unwind_stacks.h"

/* ---- recalled stacks ---------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Paths, and what the walk of each found: its traceback is its number here + 1. */
static struct {
	struct tm_path path;
	struct tm_word words[TM_PATH_WORDS];
} paths[TM_PATHS];
static struct {
	uint64_t frames[MAX];
	size_t count;
	bool complete;
} walks[TM_PATHS];
static uint64_t walked, recalled;

/* A walk must find what the path says, if it says anything. */
static void walk_and_recall(const struct tm_registers *start, struct tm_stack *own, size_t limit)
{
	static struct tm_recall recall = {.size = sizeof(*paths)};
	static uint64_t addresses[MAX];
	struct tm_path *path;
	uint64_t place;
	uint32_t found;
	bool complete;
	size_t count;

	recall.paths = (uint64_t)paths;
	path = tm_path_at(&recall, start->rip, start->rsp, own);
	place = ((uint64_t)path - recall.paths) / sizeof(*paths);
	found = tm_recall(path, start->rip, start->rsp, limit, own);
	tm_path_begin(path, sizeof(*paths), &unwinder.log);
	count = tm_unwind(&unwinder, start, own, addresses, limit, &complete);
	if (found) {
		assert_int_equal(found, place + 1);
		assert_int_equal(count, walks[place].count);
		assert_int_equal(complete, walks[place].complete);
		assert_memory_equal(addresses, walks[place].frames, count * sizeof(*addresses));
		recalled++;
	}
	tm_path_end(path, &unwinder.log, start->rip, start->rsp, limit, (uint32_t)place + 1);
	tm_hint_set(&recall, &unwinder.log, start->rip, start->rsp);
	memcpy(walks[place].frames, addresses, count * sizeof(*addresses));
	walks[place].count = count;
	walks[place].complete = complete;
	walked++;
}

static __attribute__((noinline)) void leaf(void)
{
	static size_t limit = MAX;
	static struct tm_registers registers;
	volatile int times; /* so that all are the same code */

	if (next_random() % 16 == 0)
		limit = next_random() % 2 ? MAX : 1 + next_random() % 40;
	for (times = 0; times < 2; times++) {
		CAPTURE(&registers);
		registers.rbp_at = (uint64_t)&registers.rbp;
		walk_and_recall(&registers, &stack, limit);
	}
}

static void grow_tree(int depth);

#define TREE_FUNCTION(name, body)                             \
	static __attribute__((noinline)) void name(int depth) \
	{                                                     \
		body;                                         \
		grow_tree(depth);                             \
		BARRIER();                                    \
		if (next_random() % 2)                        \
			grow_tree(depth);                     \
		BARRIER();                                    \
	}

TREE_FUNCTION(tree_small, (void)0)
TREE_FUNCTION(tree_large, char b[300]; __asm__ volatile("" ::"r"(b) : "memory"))
TREE_FUNCTION(tree_variable, char *b = alloca(next_random() % 50 + 1); __asm__ volatile("" ::"r"(b)
											: "memory"))
TREE_FUNCTION(tree_aligned, char b[64] __attribute__((aligned(64))); __asm__ volatile("" ::"r"(b)
										      : "memory"))

static __attribute__((noinline)) void tree_through_rbx(int depth)
{
	if (depth % 8 == 0)
		through_rbx(leaf);
	grow_tree(depth);
	BARRIER();
}

static __attribute__((noinline)) void grow_tree(int depth)
{
	leaf();
	if (depth == 0)
		return;
	switch (next_random() % 9) {
	case 0:
	case 1:
		tree_small(depth - 1);
		break;
	case 2:
	case 3:
		tree_large(depth - 1);
		break;
	case 4:
	case 5:
		tree_variable(depth - 1);
		break;
	case 6:
		tree_aligned(depth - 1);
		break;
	case 7:
		tree_through_rbx(depth - 1);
		break;
	default:
		leaf();
	}
	BARRIER();
}

static void a_recalled_stack_is_the_one_that_is_there(void **state)
{
	int i, rounds = getenv("TM_TEST_FULL") && *getenv("TM_TEST_FULL") ? 3000 : 150;

	(void)state;
	walked = recalled = 0;
	for (i = 0; i < rounds; i++)
		grow_tree(i % 10 ? 14 : 40);
	assert_true(walked > 10000);
	assert_true(recalled > walked / 4);
}

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
	uint64_t words[32];
	struct tm_registers start;
	struct tm_stack range;
	struct tm_path *path;
	size_t limit;
	size_t count; /* frames that the last walk found */
};

static void walk_made_stack(struct made_stack *made)
{
	uint64_t addresses[16];
	bool complete;

	made->path = &paths[0].path;
	made->start.rsp = (uint64_t)made->words;
	made->start.rbp_at = (uint64_t)&made->start.rbp;
	made->range.low = (uint64_t)made->words;
	made->range.high = (uint64_t)(made->words + 32);
	tm_path_begin(made->path, sizeof(*paths), &unwinder.log);
	made->count =
		tm_unwind(&unwinder, &made->start, &made->range, addresses, made->limit, &complete);
	tm_path_end(made->path, &unwinder.log, made->start.rip, made->start.rsp, 1, 7);
}

static bool is_recalled(const struct made_stack *made)
{
	return tm_recall(made->path, made->start.rip, made->start.rsp, 1, &made->range) == 7;
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
	/* Known to be readable: less. */
	assert_false(is_recalled_with(&made, &made.range.high, made.range.high - 104));
	assert_false(is_recalled_with(&made, &made.range.low, made.range.low + 8));
	/* rbp where nothing is counted from it, and what is no part of the walk. */
	assert_true(is_recalled_with(&made, &made.start.rbp, 1));
	assert_true(is_recalled_with(&made, &words[0], 1));
	assert_true(is_recalled_with(&made, &words[14], 1));
	assert_true(is_recalled_with(&made, &words[16], 1));
	assert_int_equal(tm_recall(made.path, made.start.rip, made.start.rsp, 2, &made.range), 0);
	tm_unwind_forget_rules();
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
	struct tm_stack own = {start.rsp, start.rsp + TM_PAGE};
	uint64_t addresses[16];
	struct tm_path *path = &paths[0].path;
	bool complete;

	(void)state;
	start.rbp_at = (uint64_t)&start.rbp;
	*(uint64_t *)(memory + (1 << 20) - 8) = LAST;
	tm_path_begin(path, sizeof(*paths), &unwinder.log);
	assert_int_equal(tm_unwind(&unwinder, &start, &own, addresses, 16, &complete), 2);
	tm_path_end(path, &unwinder.log, start.rip, start.rsp, 1, 7);
	assert_true(own.high < start.rsp + (1 << 20));
	own.high = start.rsp + size;
	assert_int_equal(tm_recall(path, start.rip, start.rsp, 1, &own), 0);
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

/* ---- stack use --------------------------------------------------------- */

#define PAINT 0x7e7e7e7e7e7e7e7eu
#define PAINTED 4096u
#define MOST_STACK 1000u /* of hooks that may have 1 KiB, less what they use themselves */

static uint64_t deepest;

/* Unwinds on a painted stack; remembers how much of it was used at most. */
static __attribute__((noinline)) void measure(void)
{
	static struct tm_registers registers;
	static uint64_t addresses[MAX], low, i;
	static bool complete;
	uint64_t here;

	CAPTURE(&registers);
	registers.rbp_at = (uint64_t)&registers.rbp;
	__asm__ volatile("movq %%rsp, %0" : "=r"(here));
	low = here - PAINTED;
	for (i = 0; i < PAINTED - 256; i += 8)
		*(volatile uint64_t *)(low + i) = PAINT;
	tm_modules_follow_loader();
	tm_unwind(&unwinder, &registers, &stack, addresses, MAX, &complete);
	for (i = 0; i < PAINTED - 256 && *(volatile uint64_t *)(low + i) == PAINT; i += 8)
		;
	if (PAINTED - i > deepest)
		deepest = PAINTED - i;
	comparisons++;
}

static void measure_handler(int number)
{
	(void)number;
	measure();
}

static void little_stack_is_used_on_every_path(void **state)
{
	uint64_t hit = 0;
	volatile int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		deepest = 0;
		measure();
		hit = deepest;
	}
	tm_unwind_forget_rules();
	measure();
	through_rbx(measure);
	through_expressions(measure);
	tm_header.loader_events++;
	measure();
	memset(&stack, 0, sizeof(stack));
	tm_header.modules = 0; /* so that every address is unknown */
	tm_unwind_forget_rules();
	usleep(200000);
	measure();
	assert_true(tm_header.modules != 0);
	tm_unwind_forget_rules();
	catch_signal(SIGUSR1, measure_handler, 0);
	print_message("stack: %lu bytes on a hit, %lu at most\n", hit, deepest);
#ifdef __OPTIMIZE__
	assert_in_range(deepest, 100, MOST_STACK);
#endif
}

/* ---- stacks that lead nowhere ------------------------------------------ */

/* An address in some module's text, on the stack, or anywhere. */
static uint64_t random_word(uint64_t memory, uint64_t size)
{
	struct tm_module_list *list = (struct tm_module_list *)tm_header.modules;
	const struct tm_module *module;

	switch (next_random() % 8) {
	case 0:
		return next_random();
	case 1:
		return next_random() % 4096;
	case 2:
		return memory + size - next_random() % 64;
	case 3:
	case 4:
		return memory + next_random() % size / 8 * 8;
	default:
		module = &tm_module_array(list)[next_random() % list->count];
		return module->text_start + next_random() % (module->text_end - module->text_start);
	}
}

static void a_broken_stack_ends_the_walk(void **state)
{
	const uint64_t size = 8192;
	uint64_t memory, addresses[64];
	struct tm_registers registers = {.rbp_at = (uint64_t)&registers.rbp};
	struct tm_stack broken = {0, 0};
	int i, rounds = getenv("TM_TEST_FULL") && *getenv("TM_TEST_FULL") ? 1000000 : 100000;
	uint64_t *words;
	size_t at, longest = 0;
	bool complete;

	(void)state;
	memory = (uint64_t)mmap(NULL, size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect((void *)(memory + 4096), size, PROT_READ | PROT_WRITE);
	memory += 4096;
	words = (uint64_t *)memory;
	for (i = 0; i < rounds; i++) {
		uint64_t *register_words = &registers.rip;
		size_t count, word;

		for (at = 0; at < size / 8; at += i % 16 ? size / 16 : 1)
			words[(at + next_random()) % (size / 8)] = random_word(memory, size);
		if (next_random() % 4)
			for (word = 0; word < 8; word++)
				register_words[word] = random_word(memory, size);
		if (next_random() % 8 && i % 4)
			registers.rsp = memory + next_random() % size / 8 * 8;
		if (i % 64 == 0)
			memset(&broken, 0, sizeof(broken));
		walk_and_recall(&registers, &broken, 64);
		count = i % 4 ? tm_unwind(&unwinder, &registers, &broken, addresses, 64, &complete)
			      : tm_unwind_full(&unwinder, &registers,
					       tm_stack_begin(&broken, registers.rsp) ? &broken
										      : &stack,
					       addresses, 64, &complete);
		assert_in_range(count, 1, 64);
		if (count > longest)
			longest = count;
	}
	assert_true(longest > 4);
	compare();
}

/* ---- relocated prologues ---------------------------------------------- */

static void an_interrupted_relay_counts_as_its_function(void **state)
{
	static uint8_t region[128];
	static struct tm_relay_region relays[1];
	static struct tm_patch patches[2];
	struct tm_patch *patch = &patches[1];
	uint64_t start = (uint64_t)region;

	(void)state;
	relays[0] = (struct tm_relay_region){start, sizeof(region), sizeof(region)};
	patches[0].relay = start;
	patches[0].original = start + 16;
	patches[0].original_length = 8;
	patches[0].function = 0x111100;
	patch->function = 0x222200;
	patch->address = 0x222204;
	patch->relay = start + 32;
	patch->original = start + 48;
	patch->length = 7;
	patch->points = 2;
	patch->point_from[1] = 3;
	patch->point_to[1] = 9;
	patch->original_length = 18;
	region[48 + 13] = 0xe9;
	tm_header.relays = (uint64_t)relays;
	tm_header.patches = (uint64_t)patches;
	tm_header.relay_count = 1;
	tm_header.patch_count = 2;
	assert_int_equal(tm_unwind_original(0x5000), 0x5000);
	assert_int_equal(tm_unwind_original(start + 4), 0x111100);
	assert_int_equal(tm_unwind_original(start + 36), 0x222200);
	assert_int_equal(tm_unwind_original(start + 48), 0x222204);
	assert_int_equal(tm_unwind_original(start + 57), 0x222207);
	assert_int_equal(tm_unwind_original(start + 48 + 13), 0x22220b);
	tm_header.relay_count = tm_header.patch_count = 0;
}

static void forgetting_rules_changes_no_result(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 70000; i++) {
		tm_unwind_forget_rules();
		if (i % 5000 == 0 || i > 65530)
			recurse(i % 3);
		if (i == 65540)
			i = 69990;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_recalled_stack_is_the_one_that_is_there),
		cmocka_unit_test(a_stack_that_differs_is_not_recalled),
		cmocka_unit_test(the_first_frame_pointer_is_looked_at),
		cmocka_unit_test(a_realigned_frame_is_looked_at),
		cmocka_unit_test(a_frame_beyond_the_known_stack_is_not_remembered),
		cmocka_unit_test(what_is_left_off_may_differ),
		cmocka_unit_test(a_walk_with_special_frames_is_not_remembered),
		cmocka_unit_test(little_stack_is_used_on_every_path),
		cmocka_unit_test(a_broken_stack_ends_the_walk),
		cmocka_unit_test(an_interrupted_relay_counts_as_its_function),
		cmocka_unit_test(forgetting_rules_changes_no_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
