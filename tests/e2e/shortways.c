/*
 * Calls malloc, calloc, realloc and free one after another, and looks whether a value in each
 * register that a called function keeps, and each argument, are what they must be.  Prints how
 * many were not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 1000u

static int wrong;

__attribute__((noinline)) void one_round(void)
{
	__asm__ volatile("");
}

/* Calls a function with two arguments while the registers that it must keep hold known values. */
static void *call(void *function, uint64_t first, uint64_t second)
{
	uint64_t result, changed;

	__asm__ volatile("movq $11, %%rbx\n\tmovq $12, %%r12\n\tmovq $13, %%r13\n\t"
			 "movq $14, %%r14\n\tmovq $15, %%r15\n\t"
			 "call *%[function]\n\t"
			 "subq $11, %%rbx\n\tsubq $12, %%r12\n\tsubq $13, %%r13\n\t"
			 "subq $14, %%r14\n\tsubq $15, %%r15\n\t"
			 "orq %%r12, %%rbx\n\torq %%r13, %%rbx\n\torq %%r14, %%rbx\n\t"
			 "orq %%r15, %%rbx\n\tmovq %%rbx, %[changed]"
			 : "=a"(result), [changed] "=D"(changed), "+S"(second)
			 : [function] "a"(function), "1"(first)
			 : "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
			   "r15", "cc", "memory");
	wrong += changed != 0;
	return (void *)result;
}

static void check(const uint8_t *block, uint8_t byte)
{
	unsigned int i;

	for (i = 0; i < SIZE; i++)
		wrong += block[i] != byte;
}

int main(void)
{
	static const uint8_t zeros[SIZE];
	int round;

	for (round = 0; round < 400; round++) {
		uint8_t *block, *other;

		one_round();
		block = call(malloc, SIZE, 0);
		memset(block, 7, SIZE);
		other = call(calloc, SIZE / 4, 4);
		check(other, 0);
		wrong += memcmp(other, zeros, SIZE) != 0;
		memset(other, 9, SIZE);
		block = call(realloc, (uint64_t)block, 3ul * SIZE);
		check(block, 7);
		check(other, 9);
		call(free, (uint64_t)block, 0);
		call(free, (uint64_t)other, 0);
	}
	printf("wrong: %d\n", wrong);
	return 0;
}
