/*
 * The stubs of libtm-preload.so: each function of preload.h loads the address
 * of its struct tm_patch and jumps to that patch's relay.  The relay is at first
 * tm_preload_enter below, then the helper's entry stub of its shape, or the
 * function itself when nothing is to be traced.
 *
 * Also holds the helper's image, as the build made it.
 */
#include "preload.h"

	.text

	/* To where tm_preload_resolve(patch) says, with the arguments of the call. */
	.globl	tm_preload_enter
	.hidden	tm_preload_enter
	.type	tm_preload_enter, @function
	.balign	16
tm_preload_enter:
	.cfi_startproc
	endbr64
	.irp	register, rdi, rsi, rdx, rcx, r8, r9, r11
	pushq	%\register
	.cfi_adjust_cfa_offset 8
	.endr
	movq	%r11, %rdi
	call	tm_preload_resolve
	.irp	register, r11, r9, r8, rcx, rdx, rsi, rdi
	popq	%\register
	.cfi_adjust_cfa_offset -8
	.endr
	jmp	*%rax
	.cfi_endproc
	.size	tm_preload_enter, . - tm_preload_enter

	.macro	stub name
	.globl	\name
	.type	\name, @function
	.balign	16
\name:
.Lstub_\name:
	.cfi_startproc
	endbr64
	leaq	tm_preload_patches + tm_place(%rip), %r11
	jmp	*TM_PRELOAD_RELAY(%r11)
	.cfi_endproc
	.size	\name, . - \name
	.set	tm_place, tm_place + TM_PRELOAD_PATCH_SIZE
	.endm

	.set	tm_place, 0
#define STUB(name, shape, size, count, block) stub name;
	TM_PRELOAD_FUNCTIONS(STUB)
#undef STUB

	.section .data.rel.ro, "aw", @progbits
	.balign	8
	.globl	tm_preload_stubs
	.hidden	tm_preload_stubs
tm_preload_stubs:
#define STUB(name, shape, size, count, block) .quad .Lstub_##name;
	TM_PRELOAD_FUNCTIONS(STUB)

	.section .rodata, "a", @progbits
	.balign	64
	.globl	tm_preload_image
	.hidden	tm_preload_image
tm_preload_image:
	.incbin	"helper.bin"
	.globl	tm_preload_image_end
	.hidden	tm_preload_image_end
tm_preload_image_end:

	.section .note.GNU-stack, "", @progbits
