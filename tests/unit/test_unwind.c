/*
 * The unwinder in its own process: stacks of many kinds, frame by frame
 * against glibc's backtrace(), and stacks that lead nowhere.
 *
 * links: helper/unwind.c helper/fullwalk.c helper/stack.c helper/cfi.c
 *        helper/rule.c helper/expression.c helper/modules.c helper/maps.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "helper_stubs.h"
#include "modules.h"
#include "unwind.h"

#define MAX 512
#define ADDRESS(frame) ((frame)&TM_NODE_ADDRESS_MASK)

/* The registers here, as if a call just returned to this place. */
#define CAPTURE(registers)                                                                     \
	__asm__ volatile("leaq 1f(%%rip), %%rax\n1:\tmovq %%rax, 0(%0)\n\tmovq %%rsp, 8(%0)\n\t"  \
			 "movq %%rbp, 16(%0)\n\tmovq %%rbx, 24(%0)\n\tmovq %%r12, 32(%0)\n\t"     \
			 "movq %%r13, 40(%0)\n\tmovq %%r14, 48(%0)\n\tmovq %%r15, 56(%0)"         \
			 :                                                                     \
			 : "r"(registers)                                                      \
			 : "rax", "memory")

static __thread struct tm_unwinder unwinder;
static __thread struct tm_stack stack;

/* The last comparison. */
static uint64_t frames[MAX];
static size_t frame_count;
static bool frames_complete;
static size_t frames_exact;
static volatile int comparisons;

/* Unwinds from here, twice (cold and from the rule cache), and compares. */
static __attribute__((noinline)) void compare(void)
{
	struct tm_registers registers;
	uint64_t again[MAX];
	void *expected[MAX];
	int count = backtrace(expected, MAX);
	bool complete;
	size_t i;

	CAPTURE(&registers);
	frame_count = tm_unwind(&unwinder, &registers, &stack, frames, MAX, &frames_complete);
	assert_true(frames_complete);
	assert_int_equal(tm_unwind(&unwinder, &registers, &stack, again, MAX, &complete),
			 frame_count);
	assert_memory_equal(again, frames, frame_count * sizeof(*frames));
	assert_int_equal(frame_count, count);
	frames_exact = 0;
	for (i = 1; i < frame_count; i++) {
		assert_int_equal(ADDRESS(frames[i]), expected[i]);
		frames_exact += !!(frames[i] & TM_NODE_EXACT);
	}
	comparisons++;
}

#define BARRIER() __asm__ volatile("" ::: "memory")

static __attribute__((noinline)) int recurse(int depth)
{
	int result = depth;

	if (depth)
		result += recurse(depth - 1);
	else
		compare();
	BARRIER();
	return result;
}

static void recursion_is_followed_to_the_outermost_frame(void **state)
{
	(void)state;
	recurse(100);
	assert_true(frame_count > 100);
	assert_int_equal(frames_exact, 0);
}

static void a_hit_costs_no_system_call(void **state)
{
	struct tm_registers registers;
	uint64_t before, addresses[MAX];
	bool complete;
	volatile int i; /* so that both rounds are the same code */

	(void)state;
	for (i = 0; i < 2; i++) {
		before = test_syscalls;
		CAPTURE(&registers);
		tm_unwind(&unwinder, &registers, &stack, addresses, MAX, &complete);
	}
	assert_int_equal(test_syscalls, before);
}

static void the_limit_is_kept_and_told(void **state)
{
	struct tm_registers registers;
	uint64_t all[MAX], some[MAX];
	bool complete;
	size_t count, limit;

	(void)state;
	CAPTURE(&registers);
	count = tm_unwind(&unwinder, &registers, &stack, all, MAX, &complete);
	assert_true(complete);
	for (limit = 0; limit <= count + 1; limit++) {
		size_t expected = limit < count ? limit : count;

		memset(some, 0x5a, sizeof(some));
		assert_int_equal(
			tm_unwind(&unwinder, &registers, &stack, some, limit, &complete),
			expected);
		assert_int_equal(complete, limit >= count);
		assert_memory_equal(some, all, expected * sizeof(*all));
		assert_int_equal(some[expected], UINT64_C(0x5a5a5a5a5a5a5a5a));
	}
}

static int by_value(const void *a, const void *b)
{
	static int calls;

	if (calls++ == 0)
		compare();
	return *(const int *)a - *(const int *)b;
}

static void a_callback_from_the_c_library_is_followed(void **state)
{
	int values[] = {3, 1, 2, 5, 4};
	int before = comparisons;

	(void)state;
	qsort(values, 5, sizeof(int), by_value);
	assert_int_equal(comparisons, before + 1);
}

/* ---- signals ---------------------------------------------------------- */

static void handler(int number)
{
	(void)number;
	compare();
}

static void second_handler(int number)
{
	(void)number;
	compare();
	raise(SIGUSR1);
}

static __attribute__((noinline)) void catch(int number, void (*function)(int), int flags)
{
	struct sigaction action = {.sa_handler = function, .sa_flags = flags};
	struct sigaction old;
	int before = comparisons;

	sigaction(number, &action, &old);
	raise(number);
	sigaction(number, &old, NULL);
	assert_true(comparisons > before);
}

static void a_signal_handler_shows_what_it_interrupted(void **state)
{
	(void)state;
	catch(SIGUSR1, handler, 0);
	assert_int_equal(frames_exact, 1);
}

static void a_handler_on_its_own_stack_leads_back(void **state)
{
	stack_t own = {.ss_size = 65536, .ss_sp = malloc(65536)}, old;
	struct sigaction inner = {.sa_handler = handler, .sa_flags = SA_ONSTACK};

	(void)state;
	sigaltstack(&own, &old);
	catch(SIGUSR1, handler, SA_ONSTACK);
	assert_int_equal(frames_exact, 1);
	sigaction(SIGUSR1, &inner, NULL);
	catch(SIGUSR2, second_handler, SA_ONSTACK);
	assert_int_equal(frames_exact, 2);
	sigaltstack(&old, NULL);
	free(own.ss_sp);
	compare();
}

/* Every instruction of some calls, by the trap flag: PLT stubs, prologues, epilogues. */
static uint64_t outer[MAX];
static size_t outer_count;
static volatile int stepping, traps, wrong_traps, plt_traps;
static uint64_t first_wrong;

static void trap_handler(int number, siginfo_t *info, void *context)
{
	static uint64_t found[MAX];
	ucontext_t *machine = context;
	uint64_t rip = (uint64_t)machine->uc_mcontext.gregs[REG_RIP];
	struct tm_registers registers;
	size_t count, i;
	bool complete, same;

	(void)number, (void)info;
	if (!stepping) {
		machine->uc_mcontext.gregs[REG_EFL] &= ~0x100;
		return;
	}
	CAPTURE(&registers);
	count = tm_unwind(&unwinder, &registers, &stack, found, MAX, &complete);
	/* handler, restorer, the instruction, …, then the frames of the test. */
	same = complete && count >= outer_count + 2 && found[2] == (rip | TM_NODE_EXACT);
	for (i = 1; same && i < outer_count; i++)
		same = found[count - i] == outer[outer_count - i];
	if (!same && !wrong_traps++)
		first_wrong = rip;
	plt_traps += *(const uint16_t *)rip == 0x25ff; /* jmp *…(%rip) */
	traps++;
}

static __attribute__((noinline)) void calls_to_step_through(void)
{
	char text[64];
	int values[] = {3, 1, 2};

	snprintf(text, sizeof(text), "%d %s %p", 42, "text", (void *)text);
	qsort(values, 3, sizeof(int), (int (*)(const void *, const void *))strcmp);
	free(malloc(strlen(text)));
	BARRIER();
}

static void every_instruction_of_a_call_is_a_good_start(void **state)
{
	struct sigaction action = {.sa_sigaction = trap_handler, .sa_flags = SA_SIGINFO}, old;
	struct tm_registers registers;
	bool complete;

	(void)state;
	sigaction(SIGTRAP, &action, &old);
	CAPTURE(&registers);
	outer_count = tm_unwind(&unwinder, &registers, &stack, outer, MAX, &complete);
	stepping = 1;
	__asm__ volatile("subq $128, %%rsp\n\tpushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\t"
			 "leaq 128(%%rsp), %%rsp" ::
				 : "memory", "cc");
	calls_to_step_through();
	stepping = 0;
	sigaction(SIGTRAP, &old, NULL);
	if (wrong_traps)
		print_error("first wrong at %#lx\n", first_wrong);
	assert_int_equal(wrong_traps, 0);
	assert_true(traps > 1000);
	assert_true(plt_traps > 0);
}

/* ---- unusual frames --------------------------------------------------- */

static uint64_t rule_kind_of(uint64_t return_address)
{
	unwinder.walk.key = return_address;
	unwinder.walk.exact = false;
	return tm_unwind_rule(&unwinder) & TM_RULE_KIND_MASK;
}

static __attribute__((noinline, force_align_arg_pointer)) int realigned(int size)
{
	char aligned[64] __attribute__((aligned(64)));
	char *variable = alloca((size_t)size);

	memset(variable, 1, (size_t)size);
	memset(aligned, 2, sizeof(aligned));
	compare();
	BARRIER();
	return aligned[0] + variable[size - 1];
}

static void a_realigned_frame_is_stepped_over(void **state)
{
	(void)state;
	assert_int_equal(realigned(100), 3);
	assert_int_equal(realigned(30000), 3);
#ifndef __clang__
	assert_int_equal(rule_kind_of(frames[1]), TM_RULE_REALIGNED);
#endif
}

/* Its CFA is counted from rbx, and rbp is not what it was. */
__asm__(".text\n.type through_rbx, @function\nthrough_rbx:\n"
	".cfi_startproc\n\tpushq %rbx\n.cfi_def_cfa_offset 16\n.cfi_offset rbx, -16\n"
	"\tpushq %rbp\n.cfi_def_cfa_offset 24\n.cfi_offset rbp, -24\n"
	"\tmovq %rsp, %rbx\n.cfi_def_cfa_register rbx\n\tsubq $256, %rsp\n\tandq $-64, %rsp\n"
	"\txorl %ebp, %ebp\n\tcall *%rdi\n\tmovq %rbx, %rsp\n.cfi_def_cfa_register rsp\n"
	"\tpopq %rbp\n.cfi_def_cfa_offset 16\n\tpopq %rbx\n.cfi_def_cfa_offset 8\n\tret\n"
	".cfi_endproc\n.size through_rbx, . - through_rbx");
void through_rbx(void (*function)(void));

/* Its CFA and its rbp are expressions. */
__asm__(".text\n.type through_expressions, @function\nthrough_expressions:\n"
	".cfi_startproc\n\tpushq %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset rbp, -16\n"
	"\tsubq $32, %rsp\n"
	/* CFA = rsp + 3 * 16; rbp at CFA - 8 - 8 */
	".cfi_escape 0x0f, 6, 0x77, 0, 0x33, 0x34, 0x24, 0x22\n"
	".cfi_escape 0x10, 6, 4, 0x38, 0x1c, 0x38, 0x1c\n"
	"\tcall *%rdi\n\taddq $32, %rsp\n.cfi_def_cfa rsp, 16\n.cfi_offset rbp, -16\n"
	"\tpopq %rbp\n.cfi_def_cfa_offset 8\n\tret\n"
	".cfi_endproc\n.size through_expressions, . - through_expressions");
void through_expressions(void (*function)(void));

static void frames_that_need_more_registers_are_walked_in_full(void **state)
{
	(void)state;
	through_rbx(compare);
	assert_int_equal(rule_kind_of(frames[1]), TM_RULE_FULL);
	through_expressions(compare);
	assert_int_equal(rule_kind_of(frames[1]), TM_RULE_FULL);
	catch(SIGUSR1, handler, 0);
}

static void full_compare(void)
{
	struct tm_registers registers;
	uint64_t fast[MAX], full[MAX];
	bool complete;
	size_t count;

	CAPTURE(&registers);
	count = tm_unwind(&unwinder, &registers, &stack, fast, MAX, &complete);
	assert_int_equal(
		tm_unwind_full(&unwinder, &registers, &stack, full, MAX, &complete), count);
	assert_true(complete);
	assert_memory_equal(full, fast, count * sizeof(*fast));
	assert_int_equal(tm_unwind_full(&unwinder, &registers, &stack, full, 2, &complete), 2);
	assert_false(complete);
}

static void full_handler(int number)
{
	(void)number;
	full_compare();
	comparisons++;
}

static void the_full_walk_agrees_with_the_fast_one(void **state)
{
	stack_t own = {.ss_size = 65536, .ss_sp = malloc(65536)}, old;

	(void)state;
	full_compare();
	through_rbx(full_compare);
	catch(SIGUSR1, full_handler, 0);
	sigaltstack(&own, &old);
	catch(SIGUSR1, full_handler, SA_ONSTACK);
	sigaltstack(&old, NULL);
	free(own.ss_sp);
}

static __attribute__((noinline)) void large_frame(size_t bytes)
{
	volatile char *memory = alloca(bytes);

	memory[0] = memory[bytes - 1] = 1;
	compare();
	BARRIER();
}

static void large_frames_are_stepped_over(void **state)
{
	(void)state;
	large_frame(100000);
	memset(&stack, 0, sizeof(stack));
	large_frame(3000000);
	memset(&stack, 0, sizeof(stack));
	recurse(10);
}

/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
static const uint8_t jit_code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};

static void check_jit_frames(void)
{
	struct tm_registers registers;
	uint64_t found[MAX];
	bool complete;
	size_t count, i;

	CAPTURE(&registers);
	count = tm_unwind(&unwinder, &registers, &stack, found, MAX, &complete);
	assert_true(complete);
	assert_true(count > outer_count);
	for (i = 1; i < outer_count; i++)
		assert_int_equal(found[count - i], outer[outer_count - i]);
	comparisons++;
}

static void code_without_rows_is_stepped_over_by_its_frame_pointer(void **state)
{
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct tm_registers registers;
	int before = comparisons;
	bool complete;

	(void)state;
	memcpy(code, jit_code, sizeof(jit_code));
	mprotect(code, 4096, PROT_READ | PROT_EXEC);
	tm_modules_refresh();
	CAPTURE(&registers);
	outer_count = tm_unwind(&unwinder, &registers, &stack, outer, MAX, &complete);
	((void (*)(void (*)(void)))code)(check_jit_frames);
	assert_int_equal(comparisons, before + 1);
	munmap(code, 4096);
}

static void *thread_main(void *argument)
{
	(void)argument;
	recurse(5);
	return NULL;
}

static void a_thread_ends_at_its_start(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, thread_main, NULL), 0);
	pthread_join(thread, NULL);
	assert_true(frame_count >= 8);
}

static ucontext_t here, there;

static void coroutine(void)
{
	compare();
	swapcontext(&there, &here);
}

static void a_coroutine_ends_at_its_start(void **state)
{
	uint8_t *memory = mmap(NULL, 32768, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	mprotect(memory + 8192, 16384, PROT_READ | PROT_WRITE);
	getcontext(&there);
	there.uc_stack.ss_sp = memory + 8192;
	there.uc_stack.ss_size = 16384;
	there.uc_link = &here;
	makecontext(&there, coroutine, 0);
	swapcontext(&here, &there);
	compare();
	munmap(memory, 32768);
}

/* ---- the trail of the last walk ---------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static struct tm_unwinder forgetful;
static uint64_t leaves, same_frames, all_frames;
static uint64_t last[MAX]; /* what the walk before found */
static size_t last_count;

/* With the trail of the walk before, and without any: the same frames. */
static __attribute__((noinline)) void leaf(void)
{
	static size_t limit = MAX;
	uint64_t with[MAX], without[MAX];
	bool complete_with, complete_without;
	struct tm_registers registers;
	size_t count;

	if (next_random() % 16 == 0)
		limit = next_random() % 2 ? MAX : 1 + next_random() % 40;

	CAPTURE(&registers);
	count = tm_unwind(&unwinder, &registers, &stack, with, limit, &complete_with);
	forgetful.trail.count = 0;
	assert_int_equal(tm_unwind(&forgetful, &registers, &stack, without, limit,
				   &complete_without),
			 count);
	assert_int_equal(complete_with, complete_without);
	assert_memory_equal(with, without, count * sizeof(*with));
	assert_true(unwinder.same <= count && unwinder.same <= last_count);
	assert_memory_equal(with + count - unwinder.same, last + last_count - unwinder.same,
			    unwinder.same * sizeof(*with));
	same_frames += unwinder.same;
	all_frames += count;
	memcpy(last, with, sizeof(last));
	last_count = count;
	leaves++;
}

static void grow_tree(int depth);

#define TREE_FUNCTION(name, body)                                                              \
	static __attribute__((noinline)) void name(int depth)                                  \
	{                                                                                      \
		body;                                                                          \
		grow_tree(depth);                                                              \
		BARRIER();                                                                     \
		if (next_random() % 2)                                                         \
			grow_tree(depth);                                                      \
		BARRIER();                                                                     \
	}

TREE_FUNCTION(tree_small, (void)0)
TREE_FUNCTION(tree_large, char b[300]; __asm__ volatile("" ::"r"(b) : "memory"))
TREE_FUNCTION(tree_variable, char *b = alloca(next_random() % 50 + 1);
	      __asm__ volatile("" ::"r"(b) : "memory"))
TREE_FUNCTION(tree_aligned, char b[64] __attribute__((aligned(64)));
	      __asm__ volatile("" ::"r"(b) : "memory"))

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
	case 1: tree_small(depth - 1); break;
	case 2:
	case 3: tree_large(depth - 1); break;
	case 4:
	case 5: tree_variable(depth - 1); break;
	case 6: tree_aligned(depth - 1); break;
	case 7: tree_through_rbx(depth - 1); break;
	default: leaf();
	}
	BARRIER();
}

static void a_walk_that_follows_the_last_one_finds_the_same(void **state)
{
	int i, rounds = getenv("TM_TEST_FULL") && *getenv("TM_TEST_FULL") ? 3000 : 400;

	(void)state;
	unwinder.trail.ending = TM_ENDING_OTHER; /* the walk before was another test's */
	for (i = 0; i < rounds; i++)
		grow_tree(i % 10 ? 14 : 40);
	assert_true(same_frames > all_frames / 4);
	for (i = 0; i < 3; i++) {
		recurse(200); /* longer than a trail */
		recurse(i);
	}
	a_hit_costs_no_system_call(state);
	assert_true(leaves > 10000);
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
	__asm__ volatile("movq %%rsp, %0" : "=r"(here));
	low = here - PAINTED;
	for (i = 0; i < PAINTED - 256; i += 8)
		*(volatile uint64_t *)(low + i) = PAINT;
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
	catch(SIGUSR1, measure_handler, 0);
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
	case 0: return next_random();
	case 1: return next_random() % 4096;
	case 2: return memory + size - next_random() % 64;
	case 3:
	case 4: return memory + next_random() % size / 8 * 8;
	default:
		module = &tm_module_array(list)[next_random() % list->count];
		return module->text_start +
		       next_random() % (module->text_end - module->text_start);
	}
}

static void a_broken_stack_ends_the_walk(void **state)
{
	const uint64_t size = 8192;
	uint64_t memory, addresses[64];
	struct tm_registers registers;
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
		for (word = 0; word < 8; word++)
			register_words[word] = random_word(memory, size);
		if (next_random() % 8)
			registers.rsp = memory + next_random() % size / 8 * 8;
		if (i % 64 == 0)
			memset(&broken, 0, sizeof(broken));
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
		cmocka_unit_test(recursion_is_followed_to_the_outermost_frame),
		cmocka_unit_test(a_hit_costs_no_system_call),
		cmocka_unit_test(the_limit_is_kept_and_told),
		cmocka_unit_test(a_callback_from_the_c_library_is_followed),
		cmocka_unit_test(a_signal_handler_shows_what_it_interrupted),
		cmocka_unit_test(a_handler_on_its_own_stack_leads_back),
		cmocka_unit_test(every_instruction_of_a_call_is_a_good_start),
		cmocka_unit_test(a_realigned_frame_is_stepped_over),
		cmocka_unit_test(frames_that_need_more_registers_are_walked_in_full),
		cmocka_unit_test(the_full_walk_agrees_with_the_fast_one),
		cmocka_unit_test(large_frames_are_stepped_over),
		cmocka_unit_test(code_without_rows_is_stepped_over_by_its_frame_pointer),
		cmocka_unit_test(a_thread_ends_at_its_start),
		cmocka_unit_test(a_coroutine_ends_at_its_start),
		cmocka_unit_test(a_walk_that_follows_the_last_one_finds_the_same),
		cmocka_unit_test(little_stack_is_used_on_every_path),
		cmocka_unit_test(a_broken_stack_ends_the_walk),
		cmocka_unit_test(an_interrupted_relay_counts_as_its_function),
		cmocka_unit_test(forgetting_rules_changes_no_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
