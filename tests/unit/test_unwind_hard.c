/*
 * The unwinder where it might go wrong: random stacks that are recalled or that
 * join remembered ones, stack use, broken stacks, relocated prologues, forgotten
 * rules.
 *
 * links: helper/unwind.c helper/join.c helper/fullwalk.c helper/stack.c helper/cfi.c
 *        helper/rule.c helper/expression.c helper/modules.c helper/maps.c
 *        helper/object.c helper/lists.c helper/links.c
 */
#include "unwind_stacks.h"
#include "join.h"

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
static union {
	struct tm_path path;
	uint64_t words[(sizeof(struct tm_path) + 2 * TM_PATH_WORDS * sizeof(struct tm_word)) / 8];
} paths[TM_PATHS];
static struct tm_shape shapes[TM_PATHS];
static struct {
	uint64_t frames[MAX];
	size_t count;
	bool complete;
} walks[TM_PATHS];
static uint64_t walked, recalled, joined;

/* Joints are hints: any may be wrong, and say that what it names has not changed. */
static void spoil_joints(struct tm_recall *recall)
{
	unsigned int i;

	for (i = 0; i < TM_JOINTS / 16; i++) {
		uint64_t *joint = &recall->joints[next_random() % TM_JOINTS];
		uint64_t path = next_random() % TM_PATHS, word = *joint >> TM_JOINT_WORD;

		if (next_random() % 2)
			path = (*joint >> TM_JOINT_PATH) % TM_PATHS;
		if (next_random() % 2)
			word += next_random() % 3;
		*joint = (uint32_t)*joint | path << TM_JOINT_PATH | word << TM_JOINT_WORD |
			 (uint64_t)shapes[path].made << TM_JOINT_MADE;
	}
}

/*
 * What a walk has found, and what it says that it depended on, must be what it would be without
 * joining another one; and the outer part of the traceback that of the one that was joined.
 */
static void check_joined(const struct tm_recall *recall, const struct tm_registers *start,
			 struct tm_stack *own, size_t limit, const uint64_t *addresses,
			 size_t count, bool complete)
{
	static struct tm_unwinder alone;
	static struct tm_word words[TM_PATH_WORDS];
	static uint64_t expected[MAX];
	const struct tm_log *log = &unwinder.log;
	uint64_t place;
	bool whole;

	alone.log.words = words;
	alone.log.end = words + TM_PATH_WORDS;
	assert_int_equal(tm_unwind(&alone, start, own, expected, limit, &whole), count);
	assert_int_equal(complete, whole);
	assert_memory_equal(addresses, expected, count * sizeof(*addresses));
	assert_true(alone.log.whole || !log->whole);
	if (!log->whole) /* what was found out of the stack has made more of it known */
		return;
	assert_int_equal(log->nonzero_at, alone.log.nonzero_at);
	assert_int_equal(log->next - log->words, alone.log.next - words);
	assert_memory_equal(log->words, words, (size_t)((char *)log->next - (char *)log->words));
	if (!log->joined)
		return;
	place = ((uint64_t)log->joined - recall->paths) / sizeof(*paths);
	assert_int_equal(walks[place].complete, complete);
	assert_int_equal(walks[place].count - log->skipped, count - log->fresh);
	assert_memory_equal(walks[place].frames + log->skipped, addresses + log->fresh,
			    (count - log->fresh) * sizeof(*addresses));
	joined++;
}

/* A walk must find what the path says, if it says anything. */
static void walk_and_recall(const struct tm_registers *start, struct tm_stack *own, size_t limit)
{
	static struct tm_recall recall = {.size = sizeof(*paths),
					  .place_size = TM_WAYS * sizeof(*paths),
					  .last_place = TM_PLACES - 1};
	static const struct tm_generation generation;
	static uint64_t addresses[MAX];
	struct tm_path *path;
	uint64_t place, stamp;
	uint32_t found;
	bool complete;
	size_t count;

	recall.paths = (uint64_t)paths;
	recall.shapes = (uint64_t)shapes;
	path = tm_path_at(&recall, start->rip, start->rsp);
	stamp = tm_recall_stamp(&generation, own);
	found = tm_recall(path, start->rip, start->rsp, stamp, (uint32_t)limit);
	if (!found) {
		found = tm_recall_second(&recall, path, start->rip, start->rsp, stamp,
					 (uint32_t)limit);
		path = (struct tm_path *)recall.chosen;
	}
	place = ((uint64_t)path - recall.paths) / sizeof(*paths);
	if (next_random() % 4 == 0)
		spoil_joints(&recall);
	tm_path_begin(path, MAX, &unwinder.log);
	tm_join_begin(&recall, path, &generation, &unwinder.log);
	count = tm_unwind(&unwinder, start, own, addresses, limit, &complete);
	check_joined(&recall, start, own, limit, addresses, count, complete);
	if (found) {
		assert_int_equal(found, place + 1);
		assert_int_equal(count, walks[place].count);
		assert_int_equal(complete, walks[place].complete);
		assert_memory_equal(addresses, walks[place].frames, count * sizeof(*addresses));
		recalled++;
	}
	tm_join_end(&recall, &unwinder.log, count);
	tm_path_end(path, &unwinder.log, start->rip, start->rsp,
		    tm_path_stamp(&generation, own, &unwinder.log), (uint32_t)limit,
		    (uint32_t)place + 1);
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
	walked = recalled = joined = 0;
	for (i = 0; i < rounds; i++)
		grow_tree(i % 10 ? 14 : 40);
	assert_true(walked > 10000);
	assert_true(recalled > walked / 4);
	assert_true(joined > walked / 4);
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
	for (i = 0; !tm_header.modules && i < 100000; i++) {
		usleep(1000); /* not before a multiple of the time that the last look took */
		measure();
	}
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
	struct tm_stack broken = {0, 0, 0};
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
		if (tm_is_readable(registers.rsp - 8)) /* where it was called from */
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
		cmocka_unit_test(little_stack_is_used_on_every_path),
		cmocka_unit_test(a_broken_stack_ends_the_walk),
		cmocka_unit_test(an_interrupted_relay_counts_as_its_function),
		cmocka_unit_test(forgetting_rules_changes_no_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
