/*
 * Where the relays jump to: builds a struct tm_entry, calls the hook of the
 * function's shape, returns its result to the caller of the redirected
 * function.  While nothing is traced, straight to the function.  r11 holds the
 * address of the struct tm_patch.  tm_entry_track and
 * tm_entry_untrack are called by the program, without a patch.
 */
#include "function.inc"
	.text

	.macro entry shape, traced
	.globl	tm_entry_\shape
	.hidden	tm_entry_\shape
	.type	tm_entry_\shape, @function
	.balign	16
tm_entry_\shape:
	.cfi_startproc
	.cfi_personality 0x1b, tm_personality /* DW_EH_PE_pcrel | DW_EH_PE_sdata4 */
	endbr64
	.ifnb	\traced
	cmpl	$1, tm_header + 40(%rip) /* state: TM_STATE_TRACING */
	jne	1f
	.endif
	.cfi_remember_state
	push_entry rbp, rbx, r12, r13, r14, r15
	call	tm_hook_\shape
	addq	$104, %rsp
	.cfi_adjust_cfa_offset -104
	ret
	.cfi_restore_state
	.ifnb	\traced
1:	jmp	*24(%r11) /* original */
	.endif
	.cfi_endproc
	.size	tm_entry_\shape, . - tm_entry_\shape
	.endm

	.irp	shape, alloc, free, realloc, store, resize, map, unmap, remap
	entry	\shape, traced
	.endr
	.irp	shape, chosen, passed, loader, track, untrack
	entry	\shape
	.endr

	/*
	 * For dlopen, which looks at who called it: counts, and goes on there with
	 * nothing changed.  24 is the place of `original` in struct tm_patch.
	 */
	.globl	tm_entry_open
	.hidden	tm_entry_open
	.type	tm_entry_open, @function
	.balign	16
tm_entry_open:
	.cfi_startproc
	endbr64
	lock incl tm_modules_opens(%rip)
	jmp	*24(%r11)
	.cfi_endproc
	.size	tm_entry_open, . - tm_entry_open

	.section .note.GNU-stack, "", @progbits
