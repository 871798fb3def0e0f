/*
 * Most calls of malloc and free while sampling: what sample_takes() and
 * sample_may_hold() decide, before anything is saved.  A block that is not
 * recorded has nothing to do with the helper, so the call goes on in the
 * function itself and returns to its caller; else all is as it was on entry,
 * and the stub goes on.
 *
 * r11 holds the address of the struct tm_patch, 24 is the place of `original`
 * in it.  May use: rax and r10, which hold nothing when a function that is not
 * variadic is entered (System V ABI, 3.2.1).  The offsets are asserted in
 * sample.c.
 */
	.text

	/* malloc(rdi), where no allocator function calls another one: see sample.h. */
	.globl	tm_sampled_alloc
	.hidden	tm_sampled_alloc
	.type	tm_sampled_alloc, @function
	.balign	16
tm_sampled_alloc:
	.cfi_startproc
	cmpq	%r11, tm_sample_malloc(%rip)
	jne	tm_recorded_alloc
	movq	%fs:0, %rax
	movabsq	$0x9e3779b97f4a7c15, %r10 /* thread_hash() */
	imulq	%rax, %r10
	shrq	$50, %r10
	shlq	$4, %r10
	addq	tm_header+104(%rip), %r10 /* threads */
	cmpq	%rax, 24(%r10)
	jne	tm_recorded_alloc
	movq	32(%r10), %r10 /* record */
	cmpl	$0, (%r10) /* state */
	jne	tm_recorded_alloc
	cmpq	tm_sample_least(%rip), %rdi
	jb	1f
	movq	40(%r10), %rax /* sample_left */
	subq	%rdi, %rax
	jb	tm_recorded_alloc
	testq	%rdi, %rdi
	je	tm_recorded_alloc
	movq	%rax, 40(%r10)
1:	jmp	*24(%r11)
	.cfi_endproc
	.size	tm_sampled_alloc, . - tm_sampled_alloc

	/* free(rdi) of domain 0: sample_counter() */
	.globl	tm_sampled_free
	.hidden	tm_sampled_free
	.type	tm_sampled_free, @function
	.balign	16
tm_sampled_free:
	.cfi_startproc
	movq	%rdi, %rax
	shrq	$4, %rax
	movq	%rax, %r10
	shrq	$16, %r10
	xorl	%r10d, %eax
	movzwl	%ax, %eax
	leaq	tm_sample_filter(%rip), %r10
	cmpb	$0, (%r10,%rax)
	jne	tm_recorded_free
	cmpb	$0, 69(%r11) /* block_argument */
	jne	tm_recorded_free
	cmpl	$0, 88(%r11) /* domain */
	jne	tm_recorded_free
	jmp	*24(%r11)
	.cfi_endproc
	.size	tm_sampled_free, . - tm_sampled_free

	.section .note.GNU-stack, "", @progbits
