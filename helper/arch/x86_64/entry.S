/*
 * Where the relays jump to: builds a struct tm_entry, calls the hook of the
 * function's shape, returns its result to the caller of the redirected
 * function.  r11 holds the address of the struct tm_patch.
 *
 * Also the raw system call, the memory functions and the canary functions.
 */
	.text

	.macro entry shape
	.globl	tm_entry_\shape
	.hidden	tm_entry_\shape
	.type	tm_entry_\shape, @function
	.balign	16
tm_entry_\shape:
	.cfi_startproc
	endbr64
	.irp	register, rbp, rbx, r12, r13, r14, r15
	pushq	%\register
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset \register, 0
	.endr
	.irp	register, r9, r8, rcx, rdx, rsi, rdi, r11
	pushq	%\register
	.cfi_adjust_cfa_offset 8
	.endr
	movq	%rsp, %rdi
	call	tm_hook_\shape
	addq	$104, %rsp
	.cfi_adjust_cfa_offset -104
	ret
	.cfi_endproc
	.size	tm_entry_\shape, . - tm_entry_\shape
	.endm

	.irp	shape, alloc, free, realloc, store, resize, loader
	entry	\shape
	.endr

	.macro function name
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.balign	16
\name:
	.cfi_startproc
	.endm

	.macro end name
	.cfi_endproc
	.size	\name, . - \name
	.endm

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
