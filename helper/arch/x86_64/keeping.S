/*
 * The stubs of functions whose callers may rely on more than the calling convention:
 * a compiler that sees a function and its callers together lets them keep values in
 * the registers which the function happens not to use (gcc's -fipa-ra).  So when the
 * caller goes on, every register is as the function itself left it.
 *
 * The relay has pushed r11 before it put the address of the struct tm_patch there.
 * Where `original` of that leads, two bytes before it, r11 is popped again.
 */
#include "function.inc"

	.text

	.macro keeping shape
	.globl	tm_keeping_\shape
	.hidden	tm_keeping_\shape
	.type	tm_keeping_\shape, @function
	.balign	16
tm_keeping_\shape:
	.cfi_startproc
	.cfi_personality 0x1b, tm_personality /* as in entry.S */
	.cfi_adjust_cfa_offset 8
	endbr64
	cmpl	$1, tm_header + 40(%rip) /* state: TM_STATE_TRACING */
	jne	1f
	.cfi_remember_state
	xchgq	%rbp, (%rsp) /* as struct tm_entry has it; rbp: what was in r11 */
	.cfi_rel_offset rbp, 0
	push_entry rbx, r12, r13, r14, r15
	.irp	register, rbp, r10, rax, rax /* rax for tm_call_keeping, and for the alignment */
	pushq	%\register
	.cfi_adjust_cfa_offset 8
	.endr
	call	tm_hook_\shape
	addq	$16, %rsp
	.cfi_adjust_cfa_offset -16
	.irp	register, r10, r11, rdi, rdi, rsi, rdx, rcx, r8, r9 /* the first rdi: the patch */
	popq	%\register
	.cfi_adjust_cfa_offset -8
	.endr
	addq	$40, %rsp
	.cfi_adjust_cfa_offset -40
	popq	%rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbp
	ret
	.cfi_restore_state
1:	movq	24(%r11), %r11 /* original */
	leaq	-2(%r11), %r11
	jmp	*%r11
	.cfi_endproc
	.size	tm_keeping_\shape, . - tm_keeping_\shape
	.endm

	.irp	shape, alloc, free, realloc, store, resize, map, unmap, remap
	keeping	\shape
	.endr

	/*
	 * uint64_t tm_call_keeping(const struct tm_entry *entry, const struct tm_patch *patch):
	 * runs the function with rax as it was, which one that returns nothing may leave alone.
	 */
	function tm_call_keeping
	movq	24(%rsi), %r11
	movq	-24(%rdi), %rax
	movq	48(%rdi), %r9
	movq	40(%rdi), %r8
	movq	32(%rdi), %rcx
	movq	24(%rdi), %rdx
	movq	16(%rdi), %rsi
	movq	8(%rdi), %rdi
	jmp	*%r11
	end	tm_call_keeping

	.section .note.GNU-stack, "", @progbits
