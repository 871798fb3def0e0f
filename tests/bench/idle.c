/*
 * What instructions alone cost, to be preloaded: HALF more in each malloc and
 * in each free, one after the other in their own registers, which read and
 * write no memory.
 *
 * A processor looks a few hundred instructions ahead.  Where a program waits
 * for memory, its next accesses are under way meanwhile, as far as they are in
 * that window; whatever stands between two of them costs more than its own
 * time.  So the cost at large live sets is to be read beside this one.
 */
#define _GNU_SOURCE
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void __libc_free(void *block);

static inline void idle(void)
{
	/* Three chains, so that several instructions are done in a cycle. */
	__asm__ volatile(".rept %c0 / 3\n\t"
			 "lea 1(%%rax), %%rax\n\t"
			 "lea 1(%%rcx), %%rcx\n\t"
			 "lea 1(%%rdx), %%rdx\n\t"
			 ".endr" ::"i"(HALF)
			 : "rax", "rcx", "rdx");
}

void *malloc(size_t size)
{
	idle();
	return __libc_malloc(size);
}

void free(void *block)
{
	idle();
	__libc_free(block);
}
