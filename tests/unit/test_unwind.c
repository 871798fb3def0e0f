/*
 * The unwinder in its own process: stacks of many kinds, frame by frame
 * against glibc's backtrace().
 *
 * links: helper/unwind.c helper/join.c helper/fullwalk.c helper/stack.c helper/cfi.c
 *        helper/rule.c helper/expression.c helper/modules.c helper/maps.c
 *        helper/object.c helper/lists.c helper/links.c
 */
#include "unwind_stacks.h"

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
		assert_int_equal(tm_unwind(&unwinder, &registers, &stack, some, limit, &complete),
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

static void a_signal_handler_shows_what_it_interrupted(void **state)
{
	(void)state;
	catch_signal(SIGUSR1, handler, 0);
	assert_int_equal(frames_exact, 1);
}

static void a_handler_on_its_own_stack_leads_back(void **state)
{
	stack_t own = {.ss_size = 65536, .ss_sp = malloc(65536)}, old;
	struct sigaction inner = {.sa_handler = handler, .sa_flags = SA_ONSTACK};

	(void)state;
	sigaltstack(&own, &old);
	catch_signal(SIGUSR1, handler, SA_ONSTACK);
	assert_int_equal(frames_exact, 1);
	sigaction(SIGUSR1, &inner, NULL);
	catch_signal(SIGUSR2, second_handler, SA_ONSTACK);
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

static void frames_that_need_more_registers_are_walked_in_full(void **state)
{
	(void)state;
	through_rbx(compare);
	assert_int_equal(rule_kind_of(frames[1]), TM_RULE_FULL);
	through_expressions(compare);
	assert_int_equal(rule_kind_of(frames[1]), TM_RULE_FULL);
	catch_signal(SIGUSR1, handler, 0);
}

static void full_compare(void)
{
	struct tm_registers registers;
	uint64_t fast[MAX], full[MAX];
	bool complete;
	size_t count;

	CAPTURE(&registers);
	count = tm_unwind(&unwinder, &registers, &stack, fast, MAX, &complete);
	assert_int_equal(tm_unwind_full(&unwinder, &registers, &stack, full, MAX, &complete),
			 count);
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
	catch_signal(SIGUSR1, full_handler, 0);
	sigaltstack(&own, &old);
	catch_signal(SIGUSR1, full_handler, SA_ONSTACK);
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
	uint8_t *code =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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

/* mov $15, %rax; syscall: what musl returns to from a handler, without rows. */
static const uint8_t restorer_code[] = {0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05};

struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static void jit_handler(int number)
{
	(void)number;
	check_jit_frames();
}

static void a_signal_s_return_is_known_by_its_code(void **state)
{
	uint8_t *code =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kernel_sigaction action = {jit_handler, 0x04000000, code, 0};
	struct tm_registers registers;
	int before = comparisons;
	bool complete;

	(void)state;
	memcpy(code, restorer_code, sizeof(restorer_code));
	mprotect(code, 4096, PROT_READ | PROT_EXEC);
	tm_modules_refresh();
	CAPTURE(&registers);
	outer_count = tm_unwind(&unwinder, &registers, &stack, outer, MAX, &complete);
	assert_int_equal(syscall(SYS_rt_sigaction, SIGUSR2, &action, NULL, 8), 0);
	raise(SIGUSR2);
	signal(SIGUSR2, SIG_DFL);
	assert_int_equal(comparisons, before + 1);
	munmap(code, 4096);
	tm_modules_refresh();
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
		cmocka_unit_test(a_signal_s_return_is_known_by_its_code),
		cmocka_unit_test(a_thread_ends_at_its_start),
		cmocka_unit_test(a_coroutine_ends_at_its_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
