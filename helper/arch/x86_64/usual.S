/*
 * The entry stubs of the functions that nearly all calls go to (tm_is_usual()), to
 * which their relays lead while every call is recorded (route.c).  They do without a
 * struct tm_entry, and say all that guard.h does in one word.  Whatever is not as
 * usual goes on in the stubs of entry.S.
 *
 * r11 holds the address of the struct tm_patch, 24 is the place of `original`
 * in it.  May use before the call of the original: rax and r10, which hold
 * nothing when a function that is not variadic is entered (System V ABI, 3.2.1);
 * in a function that frees also rcx and r8, as none has more arguments than three.
 * The offsets are asserted in usual.c.
 */
#include "function.inc"
#include "thread.inc"

	.text

	.macro	usual shape
	.globl	tm_entry_usual_\shape
	.hidden	tm_entry_usual_\shape
	.type	tm_entry_usual_\shape, @function
	.balign	16
tm_entry_usual_\shape:
	.cfi_startproc
	.cfi_personality 0x1b, tm_personality /* as in entry.S */
	endbr64
	find_thread %r10, %r10d, tm_entry_\shape
	cmpl	$0, (%r10) /* state: THREAD_OUTSIDE */
	jne	1f
	.endm

	/* Inside another function of the domain: on in the function itself. */
	.macro	end_usual shape
1:	cmpl	$4, (%r10) /* THREAD_IN_USUAL */
	je	2f
	cmpl	$2, (%r10) /* THREAD_IN_ORIGINAL */
	jne	3f
	cmpl	$0, 32(%r10) /* domain */
	jne	3f
2:	cmpq	%rsp, 16(%r10) /* is_abandoned() */
	jbe	3f
	jmp	*24(%r11)
3:	jmp	tm_entry_\shape
	.cfi_endproc
	.size	tm_entry_usual_\shape, . - tm_entry_usual_\shape
	.endm

	/*
	 * One word of stack: the rest is in the record.  Where the function has returned a
	 * block, tm_usual_alloc returns it to the caller.
	 */
	usual	alloc
	movq	%rsp, 16(%r10) /* entry */
	movl	$4, (%r10) /* THREAD_IN_USUAL */
	movq	%rdi, 56(%r10) /* size */
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
	end_usual alloc

	usual	free
	movq	%r10, %rcx
	movq	%r11, %r8
	jmp	tm_usual_free
	end_usual free

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
