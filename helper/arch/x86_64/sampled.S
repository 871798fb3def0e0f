/*
 * Most calls of malloc, free and their kind while sampling: what sample_takes()
 * and sample_may_hold() decide, before anything is saved.  A block that is not
 * recorded has nothing to do with the table, so the call goes on in the function
 * itself; else all is as it was on entry, and the stub goes on.
 *
 * A function that may call another allocator function gets the guard of hooks.c
 * meanwhile, or its block would have two chances.
 *
 * r11 holds the address of the struct tm_patch, 24 is the place of `original`
 * in it.  May use: rax and r10, which hold nothing when a function that is not
 * variadic is entered (System V ABI, 3.2.1).  The offsets are asserted in
 * sample.c.
 */
#include "thread.inc"

	.text

	.macro	function name
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.balign	16
\name:
	.cfi_startproc
	.endm

	.macro	end name
	.cfi_endproc
	.size	\name, . - \name
	.endm

	/* Takes what is allocated from sample_left; less than 0: `start` or `clear` came between. */
	.macro	count_down size, otherwise
	cmpq	\size, 40(%r10)
	jb	\otherwise
	subq	\size, 40(%r10)
	js	\otherwise
	.endm

	/* Goes on in the function when this is an allocator's call of itself. */
	.macro	nested otherwise
	cmpl	$2, (%r10) /* THREAD_IN_ORIGINAL */
	jne	\otherwise
	movl	88(%r11), %eax /* domain */
	cmpl	%eax, 32(%r10)
	jne	\otherwise
	cmpq	%rsp, 16(%r10) /* entry: is_abandoned() */
	jbe	\otherwise
	jmp	*24(%r11)
	.endm

	/* malloc(rdi), where it is sure to call no other one: see sample.h. */
	function tm_sampled_alloc
	cmpq	%r11, tm_sample_malloc(%rip)
	jne	tm_sampled_other
	find_thread %r10, %r10d, tm_recorded_alloc
	cmpl	$0, (%r10) /* state */
	jne	2f
	cmpq	tm_sample_least(%rip), %rdi
	jb	1f
	count_down %rdi, tm_recorded_alloc
	jmp	*24(%r11)
1:	testq	%rdi, %rdi
	je	tm_recorded_alloc
	jmp	*24(%r11)
2:	nested tm_recorded_alloc
	end tm_sampled_alloc

	/* calloc, and those with the size in rdi: operator new. */
	function tm_sampled_other
	find_thread %r10, %r10d, tm_recorded_alloc
	cmpl	$0, (%r10)
	jne	2f
	movq	%rdi, %rax
	cmpw	$0xff00, 67(%r11) /* size_argument: 0, count_argument: none */
	je	1f
	cmpw	$0x0001, 67(%r11) /* 1 and 0 */
	jne	tm_recorded_alloc
	imulq	%rsi, %rax /* overflows: the original fails, see requested_size() */
1:	cmpq	tm_sample_least(%rip), %rax
	jb	3f
	count_down %rax, tm_recorded_alloc
	jmp	tm_sampled_guarded
2:	nested tm_recorded_alloc
3:	testq	%rax, %rax
	je	tm_recorded_alloc
	jmp	tm_sampled_guarded
	end tm_sampled_other

	/* realloc(rdi, rsi): neither the old block is recorded nor the new one. */
	function tm_sampled_realloc
	movl	%edi, %eax
	shrl	$8, %eax
	movzwl	%ax, %eax
	leaq	tm_sample_filter(%rip), %r10
	cmpb	$0, (%r10,%rax)
	jne	tm_recorded_realloc
	cmpw	$0xff01, 67(%r11) /* size_argument: 1, count_argument: none */
	jne	tm_recorded_realloc
	cmpb	$0, 69(%r11) /* block_argument */
	jne	tm_recorded_realloc
	find_thread %r10, %r10d, tm_recorded_realloc
	cmpl	$0, (%r10)
	jne	2f
	cmpq	tm_sample_least(%rip), %rsi
	jb	1f
	count_down %rsi, tm_recorded_realloc
	jmp	tm_sampled_guarded
1:	testq	%rsi, %rsi
	je	tm_recorded_realloc
	jmp	tm_sampled_guarded
2:	nested tm_recorded_realloc
	end tm_sampled_realloc

	/* The original with the guard on, as guard_begin() and guard_leave() do it. */
	function tm_sampled_guarded
	.cfi_personality 0x1b, tm_personality /* as in entry.S */
	movq	%rsp, 16(%r10)
	pushq	%r10
	.cfi_adjust_cfa_offset 8
	movq	$0, 24(%r10) /* nested */
	movl	88(%r11), %eax
	movl	%eax, 32(%r10)
	movl	$2, (%r10)
	call	*24(%r11)
	popq	%r10
	.cfi_adjust_cfa_offset -8
	movl	$0, (%r10) /* THREAD_OUTSIDE */
	ret
	end tm_sampled_guarded

	/* free(rdi): sample_counter() */
	function tm_sampled_free
	movl	%edi, %eax
	shrl	$8, %eax
	movzwl	%ax, %eax
	leaq	tm_sample_filter(%rip), %r10
	cmpb	$0, (%r10,%rax)
	jne	tm_recorded_free
	cmpb	$0, 69(%r11) /* block_argument */
	jne	tm_recorded_free
	jmp	*24(%r11)
	end tm_sampled_free

	.section .note.GNU-stack, "", @progbits
