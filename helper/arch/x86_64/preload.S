/*
 * The stubs of libtm-preload.so: each function of preload.h jumps to where its
 * struct tm_patch says.  That is at first tm_preload_enter below, then, with the
 * address of that patch in r11, the helper's entry stub of its shape; or the
 * function itself when nothing is to be traced.
 *
 * While blocks are sampled, malloc and its kind take the short way from here
 * to the function.  It decides what sampled.S decides, and leaves to that, with
 * all as it was on entry, what must not be let pass.
 *
 * Without endbr64: indirect branches are not tracked in a process that has an
 * object not marked for it, as this one (System V ABI, x86-64, .note.gnu.property).
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

	/* Counts down as count_down in sampled.S does; where not enough is left, that is undone. */
	.macro	short_alloc size
	cmpq	$1, \size
	sbbq	\size, %fs:TM_PRELOAD_LEFT
	jbe	2f
	jmp	*tm_preload_patches + tm_place + TM_PRELOAD_ORIGINAL(%rip)
2:	cmpq	$1, \size
	adcq	\size, %fs:TM_PRELOAD_LEFT
	jmp	1b
	.endm

	/* As look_up there. */
	.macro	short_look_up
	movl	%edi, %eax
	shrl	$10, %eax
	movq	tm_preload_patches + tm_place + TM_PRELOAD_FILTER(%rip), %r10
	cmpb	$0, (%r10,%rax)
	jne	1b
	.endm

	.macro	short_free
	short_look_up
	jmp	*tm_preload_patches + tm_place + TM_PRELOAD_ORIGINAL(%rip)
	.endm

	.macro	short_malloc
	short_alloc %rdi
	.endm

	.macro	short_calloc
	movq	%rdi, %rax
	imulq	%rsi, %rax
	short_alloc %rax
	.endm

	.macro	short_realloc
	short_look_up
	short_alloc %rsi
	.endm

	.macro	stub name, shape
	.globl	\name
	.type	\name, @function
	.balign	32
\name:
.Lstub_\name:
	.cfi_startproc
	jmp	*tm_preload_patches + tm_place + TM_PRELOAD_RELAY(%rip)
	.balign	TM_PRELOAD_LOAD
1:	leaq	tm_preload_patches + tm_place(%rip), %r11
	jmp	*TM_PRELOAD_ENTRY(%r11)
	.globl	tm_preload_enter_\name
	.hidden	tm_preload_enter_\name
tm_preload_enter_\name:
	leaq	tm_preload_patches + tm_place(%rip), %r11
	jmp	tm_preload_enter
	.set	.Lshort_\name, 0
	.balign	16
	.irp	each, malloc, calloc, realloc
	.ifc	\each, \name
	.set	.Lshort_\name, .
	short_\each
	.endif
	.endr
	.ifc	\shape, FREE
	.set	.Lshort_\name, .
	short_free
	.endif
	.fill	TM_PRELOAD_STUB - (. - .Lstub_\name), 1, 0xcc
	.cfi_endproc
	.size	\name, . - \name
	.set	tm_place, tm_place + TM_PRELOAD_PATCH_SIZE
	.endm

	.set	tm_place, 0
#define STUB(name, shape, size, count, block) stub name, shape;
	TM_PRELOAD_FUNCTIONS(STUB)
#undef STUB

	.section .data.rel.ro, "aw", @progbits
	.balign	8
	.globl	tm_preload_stubs
	.hidden	tm_preload_stubs
tm_preload_stubs:
#define STUB(name, shape, size, count, block) .quad .Lstub_##name, .Lshort_##name;
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
