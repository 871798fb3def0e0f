/*
 * Stacks to unwind, and the comparison with glibc's backtrace(), for tests of
 * the unwinder in its own process.
 *
 * Include it in one file of a test program.
 */
#ifndef TM_TEST_UNWIND_STACKS_H
#define TM_TEST_UNWIND_STACKS_H

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
#include <sys/syscall.h>
#include <ucontext.h>

#include "helper_stubs.h"
#include "modules.h"
#include "recall.h"

#define MAX 512
#define ADDRESS(frame) ((frame)&TM_NODE_ADDRESS_MASK)

/* The registers here, as if a call just returned to this place. */
#define CAPTURE(registers)                                                                       \
	__asm__ volatile("leaq 1f(%%rip), %%rax\n1:\tmovq %%rax, 0(%0)\n\tmovq %%rsp, 8(%0)\n\t" \
			 "movq %%rbp, 16(%0)\n\tmovq %%rbx, 24(%0)\n\tmovq %%r12, 32(%0)\n\t"    \
			 "movq %%r13, 40(%0)\n\tmovq %%r14, 48(%0)\n\tmovq %%r15, 56(%0)"        \
			 :                                                                       \
			 : "r"(registers)                                                        \
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

static __attribute__((noinline)) void catch_signal(int number, void (*function)(int), int flags)
{
	struct sigaction action = {.sa_handler = function, .sa_flags = flags};
	struct sigaction old;
	int before = comparisons;

	sigaction(number, &action, &old);
	raise(number);
	sigaction(number, &old, NULL);
	assert_true(comparisons > before);
}

#endif
