/*
 * The stubs' decision while sampling, in machine code: which calls go on in the
 * function itself, and that those which do not find all as it was.
 *
 * links: helper/sample.c helper/arena.c helper/thread.c helper/segment.c helper/arch/x86_64/sampled.S
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch.h"
#include "helper_stubs.h"
#include "route.h"
#include "sample.h"

#define PASSED 1u  /* the function itself was called, as it would be without tm */
#define GUARDED 2u /* likewise, with the guard on */
#define CHOSEN 3u  /* the stubs that build a frame: of a new block … */
#define GENERIC 4u /* … and of one that may be recorded … */
#define DOUBTED 5u /* … and where the guard is not as usual */

static struct tm_thread thread;

/* What sampled.S goes on to; the original says whether it runs guarded. */
__asm__(".text\n"
	".globl tm_entry_chosen, tm_entry_passed, tm_entry_realloc, tm_entry_free\n"
	".hidden tm_entry_chosen, tm_entry_passed, tm_entry_realloc, tm_entry_free\n"
	".globl tm_personality\n.hidden tm_personality\n"
	"tm_entry_passed:\n\tmovl $5, %eax\n\tret\n"
	"tm_entry_chosen:\n\tmovl $3, %eax\n\tret\n"
	"tm_entry_realloc:\ntm_entry_free:\ntm_personality:\n\tmovl $4, %eax\n\tret\n"
	"original:\n\tmovl $1, %eax\n\tcmpl $2, guard_state(%rip)\n\tjne 1f\n"
	"\tmovl $2, %eax\n1:\tret\n"
	".set guard_state, thread\n");
extern const uint8_t original[];

#define STUB(name) extern const uint8_t name[]
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

uint32_t tm_routed;
static struct tm_patch patch;
static uint64_t *left;

void tm_route_all(void)
{
}

static uint64_t call(const uint8_t *code, uint64_t first, uint64_t second)
{
	uint64_t result, after_first = first, after_second = second;

	__asm__ volatile("movq %%rsp, %%rbx\n\tsubq $256, %%rsp\n\tandq $-16, %%rsp\n\t"
			 "movq %[patch], %%r11\n\tcall *%[code]\n\tmovq %%rbx, %%rsp"
			 : "=a"(result), "+D"(after_first), "+S"(after_second)
			 : [code] "r"(code), [patch] "r"(&patch)
			 : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory");
	assert_int_equal(after_first, first);
	assert_int_equal(after_second, second);
	return result;
}

static void assert_call(const uint8_t *code, uint64_t first, uint64_t second, uint64_t before,
			uint64_t result, uint64_t after)
{
	*left = before;
	assert_int_equal(call(code, first, second), result);
	assert_int_equal(*left, after);
	assert_int_equal(thread.state, THREAD_OUTSIDE);
}

/* A block of this size by each stub that makes one; calloc gets it in parts of 1 byte. */
static void assert_each(uint64_t size, uint64_t before, bool passes, uint64_t after)
{
	const uint8_t *const plain[] = {tm_sampled_malloc,       tm_sampled_calloc,
					tm_sampled_realloc,      tm_sampled_malloc_least,
					tm_sampled_calloc_least, tm_sampled_realloc_least};
	const uint8_t *const guarded[] = {
		tm_sampled_malloc_guarded,       tm_sampled_calloc_guarded,
		tm_sampled_realloc_guarded,      tm_sampled_malloc_guarded_least,
		tm_sampled_calloc_guarded_least, tm_sampled_realloc_guarded_least};
	size_t i;

	for (i = 0; i < 6; i++) {
		uint64_t first = i % 3 == 0 ? size : i % 3 == 1 ? 1 : 0x1000;

		assert_call(plain[i], first, size, before, passes ? PASSED : CHOSEN, after);
		assert_call(guarded[i], first, size, before, passes ? GUARDED : CHOSEN, after);
	}
}

/* The same where what is left is in the thread's own word. */
static void assert_each_word(uint64_t size, uint64_t before, bool passes, uint64_t after)
{
	const uint8_t *const plain[] = {tm_sampled_malloc_words, tm_sampled_calloc_words,
					tm_sampled_realloc_words};
	const uint8_t *const guarded[] = {tm_sampled_malloc_guarded_words,
					  tm_sampled_calloc_guarded_words,
					  tm_sampled_realloc_guarded_words};
	uint64_t *slot = left;
	size_t i;

	*slot = 0;
	left = (uint64_t *)(tm_thread_pointer() + TM_WORD_LEFT);
	for (i = 0; i < 3; i++) {
		uint64_t first = i == 0 ? size : i == 1 ? 1 : 0x1000;

		assert_call(plain[i], first, size, before, passes ? PASSED : CHOSEN, after);
		assert_call(guarded[i], first, size, before, passes ? GUARDED : CHOSEN, after);
	}
	*left = 0;
	left = slot;
	assert_int_equal(*slot, 0);
}

static int setup(void **state)
{
	uint64_t pointer = tm_thread_pointer();

	(void)state;
	patch.original = (uint64_t)original;
	tm_header.threads = (uint64_t)&tm_wiped_memory;
	tm_wiped_memory.threads[thread_hash(pointer)] =
		(struct tm_thread_entry){pointer, (uint64_t)&thread};
	assert_true(sample_reserve());
	tm_sample_slots->owner[sample_index(pointer)] = pointer;
	left = sample_left(pointer);
	assert_non_null(left);
	return 0;
}

static void a_block_before_the_point_is_passed(void **state)
{
	(void)state;
	assert_each(100, 101, true, 1);
	assert_each_word(100, 101, true, 1);
	assert_each(100, 100, false, 100);
	assert_each_word(100, 100, false, 100);
	assert_each(100, 0, false, 0); /* nothing was drawn yet */
	assert_each_word(100, 0, false, 0);
	assert_each(1, UINT64_MAX, true, UINT64_MAX - 1);
	assert_each_word(1, INT64_MAX, true, INT64_MAX - 1);
	assert_each_word(100, (uint64_t)-14, false, (uint64_t)-14); /* see count_down */
}

static void a_block_of_no_bytes_weighs_one(void **state)
{
	(void)state;
	assert_each(0, 2, true, 1);
	assert_each_word(0, 2, true, 1);
	assert_each(0, 1, false, 1);
	assert_each_word(0, 1, false, 1);
}

static void an_enormous_block_does_not_wrap(void **state)
{
	(void)state;
	assert_each(UINT64_MAX, 100, false, 100);
	assert_each_word(UINT64_MAX, 100, false, 100);
	assert_each(UINT64_C(1) << 63, 100, false, 100);
	assert_each_word(UINT64_C(1) << 63, 100, false, 100);
	assert_call(tm_sampled_calloc, 10, 10, 101, PASSED, 1);
}

static void blocks_below_the_least_do_not_count(void **state)
{
	(void)state;
	tm_sample_least = 100;
	assert_call(tm_sampled_malloc_least, 99, 0, 1, PASSED, 1);
	assert_call(tm_sampled_malloc_least, 100, 0, 1, CHOSEN, 1);
	assert_call(tm_sampled_calloc_least, 9, 11, 1, PASSED, 1);
	assert_call(tm_sampled_calloc_guarded_least, 10, 10, 1, CHOSEN, 1);
	assert_call(tm_sampled_realloc_guarded_least, 0, 99, 1, GUARDED, 1);
	tm_sample_least = 0;
}

/* `clear`, or another thread with the same place. */
static void a_place_of_another_is_let_alone(void **state)
{
	uint64_t *owner = &tm_sample_slots->owner[sample_index(tm_thread_pointer())], own = *owner;

	(void)state;
	*owner = own + (1 << 24);
	assert_each(100, 1000, false, 1000);
	*owner = own;
}

/* Another thread may take the record of one that is gone away while this one looks at it. */
static void a_record_that_goes_is_no_fault(void **state)
{
	struct tm_thread_entry *entry = &tm_wiped_memory.threads[thread_hash(tm_thread_pointer())];

	(void)state;
	entry->record = 0;
	assert_call(tm_sampled_malloc_guarded, 100, 0, 1000, DOUBTED, 900);
	entry->record = (uint64_t)&thread;
}

static void assert_guarded(uint32_t thread_state, uint32_t domain, uint64_t place, uint64_t result)
{
	thread.state = thread_state;
	thread.domain = domain;
	thread.entry = place;
	*left = 1000;
	assert_int_equal(call(tm_sampled_malloc_guarded, 100, 0), result);
	assert_int_equal(*left, 900);
	assert_int_equal(thread.state, thread_state);
	thread.state = THREAD_OUTSIDE;
}

static void only_a_call_of_itself_goes_on_without_a_guard(void **state)
{
	(void)state;
	/* guard_state is THREAD_IN_ORIGINAL, so the original says that it is guarded: by the outer. */
	assert_guarded(THREAD_IN_ORIGINAL, 0, UINT64_MAX, GUARDED);
	assert_guarded(THREAD_IN_ORIGINAL, 7, UINT64_MAX, DOUBTED);
	assert_guarded(THREAD_IN_ORIGINAL, 0, 0, DOUBTED); /* a longjmp left it behind */
	assert_guarded(THREAD_IN_HELPER, 0, UINT64_MAX, DOUBTED);
	assert_guarded(THREAD_SUSPECT, 0, UINT64_MAX, DOUBTED);
	assert_guarded(THREAD_IN_USUAL, 0, UINT64_MAX, DOUBTED);
}

static void what_may_be_recorded_is_looked_for(void **state)
{
	const uint64_t block = 0x7f1234567890;

	(void)state;
	assert_int_equal(call(tm_sampled_free, block, 0), PASSED);
	sample_count((uint64_t)tm_sample_filter, block, +1);
	assert_int_equal(call(tm_sampled_free, block, 0), GENERIC);
	assert_int_equal(call(tm_sampled_free, block + 0x1000, 0), PASSED);
	assert_call(tm_sampled_realloc, block, 100, 1000, GENERIC, 1000);
	assert_call(tm_sampled_realloc_guarded, block, 100, 1000, GENERIC, 1000);
	sample_count((uint64_t)tm_sample_filter, block, -1);
	assert_call(tm_sampled_realloc, block, 100, 1000, PASSED, 900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_before_the_point_is_passed),
		cmocka_unit_test(a_block_of_no_bytes_weighs_one),
		cmocka_unit_test(an_enormous_block_does_not_wrap),
		cmocka_unit_test(blocks_below_the_least_do_not_count),
		cmocka_unit_test(a_place_of_another_is_let_alone),
		cmocka_unit_test(a_record_that_goes_is_no_fault),
		cmocka_unit_test(only_a_call_of_itself_goes_on_without_a_guard),
		cmocka_unit_test(what_may_be_recorded_is_looked_for),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
