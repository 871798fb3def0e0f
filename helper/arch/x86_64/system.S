/* The raw system call, and the memory functions that a compiler may call. */
#include "function.inc"

	.text

	/* long tm_syscall(long number, long a, b, c, d, e, f) */
	function tm_syscall
	movq	%rdi, %rax
	movq	%rsi, %rdi
	movq	%rdx, %rsi
	movq	%rcx, %rdx
	movq	%r8, %r10
	movq	%r9, %r8
	movq	8(%rsp), %r9
	syscall
	ret
	end	tm_syscall

	/* void *tm_memcpy(void *to, const void *from, size_t size) */
	function tm_memcpy
	movq	%rdi, %rax
	movq	%rdx, %rcx
	rep movsb
	ret
	end	tm_memcpy

	/* void *tm_memset(void *to, int byte, size_t size) */
	function tm_memset
	movq	%rdi, %r8
	movl	%esi, %eax
	movq	%rdx, %rcx
	rep stosb
	movq	%r8, %rax
	ret
	end	tm_memset

	.section .note.GNU-stack, "", @progbits
