/* The canary: an allocator of one block that is redirected before any of the program's. */
#include "function.inc"

	.text

	/*
	 * void *tm_canary_alloc(size_t size), void tm_canary_free(void *block):
	 * an allocator of one block.  Redirected like any other, and called
	 * before the program's own are, to see that redirection works here.
	 */
	function tm_canary_alloc
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	leaq	tm_canary_block(%rip), %rax
	movq	%rdi, %rbx
	popq	%rbx
	.cfi_adjust_cfa_offset -8
	ret
	end	tm_canary_alloc

	function tm_canary_free
	testq	%rdi, %rdi
	je	1f
	leaq	tm_canary_block(%rip), %rax
1:	ret
	end	tm_canary_free

	.local	tm_canary_block
	.comm	tm_canary_block, 64, 16

	.section .note.GNU-stack, "", @progbits
