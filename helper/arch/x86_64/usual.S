/*
 * The entry stubs of malloc, calloc and free, and all that have their arguments, to
 * which their relays lead while every call is recorded (route.c).  They do without a
 * struct tm_entry, and say all that guard.h does in one word.  Whatever is not as
 * usual goes on in the stubs of entry.S.
 *
 * r11 holds the address of the struct tm_patch, 24 is the place of `original`
 * in it.  May use before the call of the original: rax and r10, which hold
 * nothing when a function that is not variadic is entered (System V ABI, 3.2.1);
 * in a function that frees also rcx, r8 and r9, as none has more arguments than three; in
 * free itself rsi and rdx.
 * The offsets are asserted in usual.c.
 */
#include "function.inc"
#include "thread.inc"

	.text

	/* Begins a stub of a shape; the thread's record is in a register. */
	.macro	usual name, shape, thread, half
	function tm_entry_usual_\name
	.cfi_personality 0x1b, tm_personality /* as in entry.S */
	endbr64
	find_thread \thread, \half, tm_entry_\shape
	cmpl	$0, (\thread) /* state: THREAD_OUTSIDE */
	jne	1f
	.endm

	/* Inside another function of the domain: on in the function itself. */
	.macro	end_usual name, shape, thread
1:	cmpl	$4, (\thread) /* THREAD_IN_USUAL */
	je	2f
	cmpl	$2, (\thread) /* THREAD_IN_ORIGINAL */
	jne	3f
	cmpl	$0, 32(\thread) /* domain */
	jne	3f
2:	cmpq	%rsp, 16(\thread) /* is_abandoned() */
	jbe	3f
	jmp	*24(%r11)
3:	jmp	tm_entry_\shape
	end	tm_entry_usual_\name
	.endm

	/*
	 * One word of stack: the rest is in the record.  Where the function has returned a
	 * block, tm_usual_alloc returns it to the caller.
	 */
	.macro	usual_alloc name, times
	usual	\name, alloc, %r10, %r10d
	movq	%rsp, 16(%r10) /* entry */
	movl	$4, (%r10) /* THREAD_IN_USUAL */
	.ifb	\times
	movq	%rdi, 56(%r10) /* size */
	.else
	movq	%rdi, %rax
	imulq	\times, %rax /* for what is too large the function fails */
	movq	%rax, 56(%r10)
	.endif
	.cfi_remember_state
	pushq	%r10
	.cfi_adjust_cfa_offset 8
	call	*24(%r11)
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	movq	%rax, %rsi
	testq	%rax, %rax
	jne	tm_usual_alloc
	movl	$0, (%rdi) /* THREAD_OUTSIDE */
	ret
	.cfi_restore_state
	end_usual \name, alloc, %r10
	.endm

	usual_alloc alloc
	usual_alloc calloc, %rsi

	/* One that is known to call no other of its domain; free(3), so it has one argument. */
	usual	free_leaf, free, %rsi, %esi
	movq	%r11, %rdx
	jmp	tm_usual_free_leaf
	end_usual free_leaf, free, %rsi

	usual	free, free, %r8, %r8d
	movq	%r11, %r9
	jmp	tm_usual_free
	end_usual free, free, %r8

	/*
	 * uint64_t tm_usual_guarded(…, struct tm_thread *thread, const struct tm_patch *patch),
	 * r8 and r9: the function itself, with its first three arguments and the guard on.
	 */
	function tm_usual_guarded
	.cfi_personality 0x1b, tm_personality
	movq	%rsp, 16(%r8) /* entry */
	movl	$4, (%r8) /* THREAD_IN_USUAL */
	pushq	%r8
	.cfi_adjust_cfa_offset 8
	call	*24(%r9)
	popq	%r8
	.cfi_adjust_cfa_offset -8
	movl	$0, (%r8) /* THREAD_OUTSIDE */
	ret
	end	tm_usual_guarded

	/*
	 * uint64_t tm_usual_further(struct tm_thread *thread, uint64_t address): where
	 * tm_usual_alloc leaves when a walk is needed, or something else is not as usual, with
	 * all registers of the caller as it found them.  Builds a struct tm_entry without
	 * arguments.
	 */
	function tm_usual_further
	.irp	register, rbp, rbx, r12, r13, r14, r15
	pushq	%\register
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset \register, 0
	.endr
	subq	$56, %rsp /* patch, arguments */
	.cfi_adjust_cfa_offset 56
	movq	%rsp, %rdx
	call	tm_usual_walk
	addq	$104, %rsp
	.cfi_adjust_cfa_offset -104
	.irp	register, rbp, rbx, r12, r13, r14, r15
	.cfi_restore \register
	.endr
	ret
	end	tm_usual_further

	.section .note.GNU-stack, "", @progbits
