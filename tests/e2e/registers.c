/*
 * Allocators that leave most registers alone, and a caller that counts on it, as gcc's
 * -fipa-ra makes callers: a pool, and a malloc of the program's own.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 1000

static char room[1 << 24] __attribute__((aligned(16)));
char *next_block = room;

void *pool_alloc(size_t size);
void pool_free(void *block);
void *malloc(size_t size);
void free(void *block);
void call_checked(void *function, uint64_t argument, uint64_t *registers);

/* Those that allocate change rax alone, those that free nothing. */
__asm__(".macro allocator alloc free\n"
	"	.globl \\alloc, \\free\n"
	"	.type \\alloc, @function\n"
	"	.type \\free, @function\n"
	"\\alloc:	movq	next_block(%rip), %rax\n"
	"	addq	%rdi, next_block(%rip)\n"
	"	andq	$-16, next_block(%rip)\n"
	"	addq	$16, next_block(%rip)\n"
	"	ret\n"
	"	.size \\alloc, . - \\alloc\n"
	"\\free:	cmpq	%rdi, next_block(%rip)\n"
	"	nop\n"
	"	ret\n"
	"	.size \\free, . - \\free\n"
	"	.endm\n"
	"	.text\n"
	"	allocator pool_alloc pool_free\n"
	"	allocator malloc free\n");

/* Calls function(argument) with known values in the other registers, and stores all of them after. */
__asm__("	.globl call_checked\n"
	"	.type call_checked, @function\n"
	"call_checked:\n"
	"	.cfi_startproc\n"
	"	pushq	%rbx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset rbx, 0\n"
	"	pushq	%rbp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	.cfi_rel_offset rbp, 0\n"
	"	pushq	%r12\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	movq	%rdi, %rbx\n"
	"	movq	%rdx, %rbp\n"
	"	movq	%rsi, %rdi\n"
	"	movq	$100, %rax\n"
	"	movq	$101, %rcx\n"
	"	movq	$102, %rdx\n"
	"	movq	$103, %rsi\n"
	"	movq	$104, %r8\n"
	"	movq	$105, %r9\n"
	"	movq	$106, %r10\n"
	"	movq	$107, %r11\n"
	"	call	*%rbx\n"
	"	movq	%rax, (%rbp)\n"
	"	movq	%rcx, 8(%rbp)\n"
	"	movq	%rdx, 16(%rbp)\n"
	"	movq	%rsi, 24(%rbp)\n"
	"	movq	%r8, 32(%rbp)\n"
	"	movq	%r9, 40(%rbp)\n"
	"	movq	%r10, 48(%rbp)\n"
	"	movq	%r11, 56(%rbp)\n"
	"	movq	%rdi, 64(%rbp)\n"
	"	popq	%r12\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rbp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq	%rbx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size call_checked, . - call_checked\n");

void *calloc(size_t count, size_t size)
{
	return memset(malloc(count * size), 0, count * size);
}

void *realloc(void *block, size_t size)
{
	void *larger = malloc(size);

	return block ? memcpy(larger, block, size) : larger;
}

static unsigned int changed;

static void check(void *function, uint64_t argument, int is_free)
{
	uint64_t registers[9];
	unsigned int i;

	call_checked(function, argument, registers);
	for (i = is_free ? 0 : 1; i < 8; i++)
		changed |= (registers[i] != 100 + i) << i;
	changed |= (registers[8] != argument) << 8;
}

__attribute__((noinline)) static void one_round(void)
{
	check(pool_alloc, 48, 0);
	check(pool_free, 16, 1);
	check(malloc, 32, 0);
	check(free, 16, 1);
}

int main(void)
{
	unsigned int i;

	for (i = 0; i < ROUNDS; i++)
		one_round();
	printf("registers changed: %#x\n", changed);
	return changed != 0;
}
