/*
 * A function with an allocator's name that is too short to be redirected.
 * May use libc.
 */
#include <stdlib.h>

__asm__(".text\n"
	".globl cfree\n"
	".type cfree, @function\n"
	"cfree: ret\n"
	".size cfree, . - cfree\n"
	"behind: xorl %eax, %eax\n"
	"ret\n"
	"nop\n");

void cfree(void *block);

int main(void)
{
	cfree(malloc(10));
	return 0;
}
