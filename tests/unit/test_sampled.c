/*
 * The stubs' decision while sampling, in machine code: which calls go on in the
 * function itself, whatever state the thread's record is found in.
 *
 * links: helper/sample.c helper/arch/x86_64/sampled.S
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch.h"
#include "helper_stubs.h"
#include "sample.h"

#define PASSED 1u   /* the function itself was called, as it would be without tm */
#define RECORDED 2u /* back in the stub, which builds its frame */

/* What sampled.S goes on to. */
__asm__(".text\n"
	".globl tm_recorded_alloc, tm_recorded_realloc, tm_recorded_free, tm_personality\n"
	".hidden tm_recorded_alloc, tm_recorded_realloc, tm_recorded_free, tm_personality\n"
	"tm_recorded_alloc:\ntm_recorded_realloc:\ntm_recorded_free:\ntm_personality:\n"
	"\tmovl $2, %eax\n\tret\noriginal:\n\tmovl $1, %eax\n\tret\n");
extern const uint8_t original[];
extern const uint8_t tm_sampled_alloc[], tm_sampled_other[], tm_sampled_realloc[];

static struct tm_thread thread;
static struct tm_thread_entry *entry;
static struct tm_patch patch;

static uint64_t call(const uint8_t *code, uint64_t first, uint64_t second)
{
	uint64_t result;

	__asm__ volatile("movq %%rsp, %%rbx\n\tsubq $256, %%rsp\n\tandq $-16, %%rsp\n\t"
			 "movq %[patch], %%r11\n\tcall *%[code]\n\tmovq %%rbx, %%rsp"
			 : "=a"(result), "+D"(first), "+S"(second)
			 : [code] "r"(code), [patch] "r"(&patch)
			 : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory");
	return result;
}

/* A block of this size, with so much left: malloc, operator new, realloc. */
static void assert_each(uint64_t size, uint64_t left, uint64_t result)
{
	thread.sample_left = left;
	tm_sample_malloc = (uint64_t)&patch;
	patch.size_argument = 0;
	assert_int_equal(call(tm_sampled_alloc, size, 0), result);
	thread.sample_left = left;
	assert_int_equal(call(tm_sampled_other, size, 0), result);
	thread.sample_left = left;
	patch.size_argument = 1;
	assert_int_equal(call(tm_sampled_realloc, 0x1000, size), result);
	assert_int_equal(thread.state, THREAD_OUTSIDE);
}

static int setup(void **state)
{
	uint64_t pointer = tm_thread_pointer();

	(void)state;
	patch.original = (uint64_t)original;
	patch.count_argument = TM_NO_ARGUMENT;
	tm_header.threads = (uint64_t)&tm_wiped_memory;
	entry = &tm_wiped_memory.threads[thread_hash(pointer)];
	*entry = (struct tm_thread_entry){pointer, (uint64_t)&thread};
	tm_sample_least = 1;
	return 0;
}

static void a_block_before_the_point_is_passed(void **state)
{
	(void)state;
	assert_each(100, 100, PASSED);
	assert_int_equal(thread.sample_left, 0);
	assert_each(100, 99, RECORDED);
	assert_int_equal(thread.sample_left, 99);
	assert_each(UINT64_MAX, 100, RECORDED);
	assert_each(0, 100, RECORDED);
}

/* `clear` set it to 0 when the thread stood before the subtraction: it draws anew. */
static void less_than_nothing_left_is_not_a_gap(void **state)
{
	struct tm_generation generation = {.sample_period = 4096};

	(void)state;
	assert_each(100, (uint64_t)-100, RECORDED);
	thread.sample_left = (uint64_t)-100;
	thread.sample_random = 0;
	(void)sample_takes(&generation, &thread, 100);
	assert_true(thread.sample_left < 4096 * 64);
	assert_int_not_equal(thread.sample_random, 0);
}

/* Another thread may take the record of one that is gone away while this one looks at it. */
static void a_record_that_goes_is_no_fault(void **state)
{
	(void)state;
	entry->record = 0;
	assert_each(100, 100, RECORDED);
	entry->record = (uint64_t)&thread;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_before_the_point_is_passed),
		cmocka_unit_test(less_than_nothing_left_is_not_a_gap),
		cmocka_unit_test(a_record_that_goes_is_no_fault),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
