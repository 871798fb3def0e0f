/*
 * Calls of malloc, free and their kind while not every block is recorded, up to
 * where most of them go on in the function itself: nothing was saved, nothing is
 * left behind.  The others go to the entry stubs, with all as it was on entry.
 * Which of these a function leads to, route.c decides when tracing starts.
 *
 * r11 holds the address of the struct tm_patch, 24 is the place of `original`
 * in it.  May use: rax and r10, which hold nothing when a function that is not
 * variadic is entered (System V ABI, 3.2.1).  The offsets are asserted in
 * sample.c.
 */
#include "function.inc"
#include "thread.inc"

	.text

	/* r10: the calling thread's owner word, see sample.h. */
	.macro	find_slot otherwise
	movzwl	%fs:1, %eax /* sample_index() */
	movq	tm_sample_slots(%rip), %r10
	leaq	(%r10,%rax,8), %r10
	movq	%fs:0, %rax
	cmpq	%rax, (%r10)
	jne	\otherwise
	.endm

	/*
	 * Takes what is allocated, or 1, from what is left; both in one subtraction.  Where
	 * not enough is left, that is undone at 2.  A short way (shortway.py, preload.S) that was
	 * interrupted may have undone it to less than nothing: sample_claim() draws anew.
	 */
	.macro	count_down size, words
	cmpq	$1, \size
	.ifnb	\words
	sbbq	\size, %fs:0x38 /* TM_WORD_LEFT */
	js	2f
	.else
	sbbq	\size, 0x80040(%r10)
	.endif
	jbe	2f
	.endm

	.macro	count_up size, words
2:	cmpq	$1, \size
	.ifnb	\words
	adcq	\size, %fs:0x38
	.else
	adcq	\size, 0x80040(%r10)
	.endif
	jmp	tm_entry_chosen
	.endm

	/* Whether a record may be there of the block in rdi: sample_counter(). */
	.macro	look_up otherwise
	movq	tm_sample_filter(%rip), %r10
	movl	%edi, %eax
	shrl	$10, %eax
	cmpb	$0, (%r10,%rax)
	jne	\otherwise
	.endm

	/* On to the function. */
	.macro	pass guarded
	.ifnb	\guarded
	jmp	tm_sampled_guarded
	.else
	jmp	*24(%r11)
	.endif
	.endm

	/*
	 * Three shapes, each six times.  guarded: the function may call another one that
	 * is sampled as well.  least: blocks below tm_sample_least are passed at once.
	 * words: what is left is in the thread's own word.
	 */
	.macro	stubs suffix, guarded, least, words

	/* malloc(rdi), operator new */
	function tm_sampled_malloc\suffix
	endbr64
	.ifnb	\least
	cmpq	tm_sample_least(%rip), %rdi
	jb	1f
	.endif
	.ifb	\words
	find_slot tm_entry_chosen
	.endif
	count_down %rdi, \words
1:	pass	\guarded
	count_up %rdi, \words
	end tm_sampled_malloc\suffix

	/* calloc(rdi, rsi); when the product overflows, calloc fails */
	function tm_sampled_calloc\suffix
	endbr64
	.ifnb	\least
	movq	%rdi, %rax
	imulq	%rsi, %rax
	cmpq	tm_sample_least(%rip), %rax
	jb	1f
	.endif
	.ifb	\words
	find_slot tm_entry_chosen
	.endif
	movq	%rdi, %rax
	imulq	%rsi, %rax
	count_down %rax, \words
1:	pass	\guarded
	count_up %rax, \words
	end tm_sampled_calloc\suffix

	/* realloc(rdi, rsi) */
	function tm_sampled_realloc\suffix
	endbr64
	look_up	tm_entry_realloc
	.ifnb	\least
	cmpq	tm_sample_least(%rip), %rsi
	jb	1f
	.endif
	.ifb	\words
	find_slot tm_entry_chosen
	.endif
	count_down %rsi, \words
1:	pass	\guarded
	count_up %rsi, \words
	end tm_sampled_realloc\suffix
	.endm

	stubs
	stubs	_guarded, guarded
	stubs	_least, , least
	stubs	_guarded_least, guarded, least
	stubs	_words, , , words
	stubs	_guarded_words, guarded, , words

	/* free(rdi) */
	function tm_sampled_free
	endbr64
	look_up	tm_entry_free
	jmp	*24(%r11)
	end tm_sampled_free

	/*
	 * The original with the guard on, as guard_begin() and guard_leave() do it; without
	 * in an allocator's call of itself.  What else there is, tm_hook_passed() sorts out.
	 */
	function tm_sampled_guarded
	.cfi_personality 0x1b, tm_personality /* as in entry.S */
	find_thread %r10, %r10d, tm_entry_passed
	cmpl	$0, (%r10) /* state: THREAD_OUTSIDE */
	jne	1f
	movq	%rsp, 16(%r10) /* entry */
	.cfi_remember_state
	pushq	%r10
	.cfi_adjust_cfa_offset 8
	movq	$0, 24(%r10) /* nested */
	movl	88(%r11), %eax
	movl	%eax, 32(%r10) /* domain */
	movl	$2, (%r10) /* THREAD_IN_ORIGINAL */
	call	*24(%r11)
	popq	%r10
	.cfi_adjust_cfa_offset -8
	movl	$0, (%r10)
	ret
1:	.cfi_restore_state
	cmpl	$2, (%r10)
	jne	tm_entry_passed
	movl	88(%r11), %eax
	cmpl	%eax, 32(%r10)
	jne	tm_entry_passed
	cmpq	%rsp, 16(%r10) /* is_abandoned() */
	jbe	tm_entry_passed
	jmp	*24(%r11)
	end tm_sampled_guarded

	.section .note.GNU-stack, "", @progbits
