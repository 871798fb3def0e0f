/*
 * What differs between architectures, for x86-64: the thread pointer, the
 * frame that an entry stub builds, the pause in a spin loop.
 */
#ifndef TM_ARCH_H
#define TM_ARCH_H

#include "helper.h"

/*
 * What tm_entry_* leave on the stack before they call a hook, lowest address
 * first: the patch, the argument registers, the callee-saved registers and
 * the return address of the redirected call.
 */
struct tm_entry {
	uint64_t patch;       /* struct tm_patch; r11 on entry */
	uint64_t argument[6]; /* rdi rsi rdx rcx r8 r9 */
	uint64_t r15, r14, r13, r12, rbx, rbp;
	uint64_t return_address;
};

_Static_assert(sizeof(struct tm_entry) == 112, "entry.S builds this");
_Static_assert(offsetof(struct tm_patch, original) == 24, "entry.S jumps there");
_Static_assert(offsetof(struct tm_header, state) == 40, "entry.S looks at it");
_Static_assert(TM_STATE_TRACING == 1, "likewise");

/* System V ABI, x86-64 TLS variant II: %fs:0 holds the thread pointer itself. */
static inline uint64_t tm_thread_pointer(void)
{
	uint64_t pointer;

	__asm__("movq %%fs:0, %0" : "=r"(pointer));
	return pointer;
}

static inline void tm_pause(void)
{
	__asm__ volatile("pause");
}

/*
 * What follows looks at the five slots of a bucket without a branch that depends
 * on them, or with one that is hardly ever taken: in which slot a block is, nobody
 * can foretell.  Of an address it compares the lower half.
 */

/* The slots that are free, a bit each. */
static inline uint32_t tm_free_slots(const struct tm_bucket *bucket)
{
	uint32_t found;

	__asm__("xorl %0, %0\n\t"
		"cmpq $1, %5\n\tadcl %0, %0\n\t"
		"cmpq $1, %4\n\tadcl %0, %0\n\t"
		"cmpq $1, %3\n\tadcl %0, %0\n\t"
		"cmpq $1, %2\n\tadcl %0, %0\n\t"
		"cmpq $1, %1\n\tadcl %0, %0"
		: "=&r"(found)
		: "m"(bucket->key[0]), "m"(bucket->key[1]), "m"(bucket->key[2]),
		  "m"(bucket->key[3]), "m"(bucket->key[4])
		: "cc");
	return found;
}

/* The registers that usual.c may use beside the general ones (Intel SDM, FXSAVE). */
struct tm_vectors {
	uint8_t bytes[512];
} __attribute__((aligned(16)));

static inline void tm_vectors_save(struct tm_vectors *to)
{
	__asm__ volatile("fxsave64 %0" : "=m"(*to));
}

static inline void tm_vectors_restore(const struct tm_vectors *from)
{
	__asm__ volatile("fxrstor64 %0" : : "m"(*from));
}

/*
 * With TM_VECTORS (usual.c): the lower halves of four keys at once, in two vector registers.
 * The compiler itself has none in the helper: what it puts on the stack may not be aligned
 * for them, where a program does not keep to the ABI.
 */
#ifdef __SSE2__
#define VECTORS_USED , "xmm0", "xmm1"
#else
#define VECTORS_USED
#endif

/* A free slot, if there is one: whether the one that this names is free, is to be looked at. */
static TM_INLINE uint64_t tm_free_slot(const struct tm_bucket *bucket)
{
	uint64_t found;

#ifdef TM_VECTORS
	__asm__("movaps (%1), %%xmm0\n\t"
		"shufps $0x88, 16(%1), %%xmm0\n\t"
		"pxor %%xmm1, %%xmm1\n\t"
		"pcmpeqd %%xmm0, %%xmm1\n\t"
		"movmskps %%xmm1, %k0\n\t"
		"orl $16, %k0\n\t"
		"rep bsfl %k0, %k0" /* tzcnt, if there is one: quicker, and the same */
		: "=r"(found)
		: "r"(bucket), "m"(*bucket)
		: "cc" VECTORS_USED);
#else
	found = (uint64_t)__builtin_ctz(tm_free_slots(bucket) | 16);
#endif
	return found;
}

/* False: no slot has this address. */
static TM_INLINE bool tm_may_hold(const struct tm_bucket *bucket, uint64_t address)
{
	__asm__ goto("cmpl %k0, %1\n\tje %l[found]\n\t"
		     "cmpl %k0, %2\n\tje %l[found]\n\t"
		     "cmpl %k0, %3\n\tje %l[found]\n\t"
		     "cmpl %k0, %4\n\tje %l[found]\n\t"
		     "cmpl %k0, %5\n\tje %l[found]"
		     :
		     : "r"(address), "m"(bucket->key[0]), "m"(bucket->key[1]), "m"(bucket->key[2]),
		       "m"(bucket->key[3]), "m"(bucket->key[4])
		     : "cc"
		     : found);
	return false;
found:
	return true;
}

/* The slot's key that has this address, if one has it. */
static TM_INLINE uint64_t *tm_key_like(struct tm_bucket *bucket, uint64_t address)
{
#ifdef TM_VECTORS
	uint64_t found;

	__asm__("movd %k2, %%xmm1\n\t"
		"pshufd $0, %%xmm1, %%xmm1\n\t"
		"movaps (%1), %%xmm0\n\t"
		"shufps $0x88, 16(%1), %%xmm0\n\t"
		"pcmpeqd %%xmm1, %%xmm0\n\t"
		"movmskps %%xmm0, %k0\n\t"
		"orl $16, %k0\n\t"
		"rep bsfl %k0, %k0" /* tzcnt, if there is one: quicker, and the same */
		: "=r"(found)
		: "r"(bucket), "r"(address), "m"(*bucket)
		: "cc" VECTORS_USED);
	return &bucket->key[found];
#else
	uint64_t *found = &bucket->key[4], *each;

	__asm__("leaq %5, %1\n\tcmpl %k2, %5\n\tcmoveq %1, %0\n\t"
		"leaq %4, %1\n\tcmpl %k2, %4\n\tcmoveq %1, %0\n\t"
		"leaq %3, %1\n\tcmpl %k2, %3\n\tcmoveq %1, %0\n\t"
		"leaq %6, %1\n\tcmpl %k2, %6\n\tcmoveq %1, %0"
		: "+&r"(found), "=&r"(each)
		: "r"(address), "m"(bucket->key[1]), "m"(bucket->key[2]), "m"(bucket->key[3]),
		  "m"(bucket->key[0])
		: "cc");
	return found;
#endif
}

static inline uint64_t tm_rotate_left(uint64_t value, uint32_t bits)
{
	return value << bits | value >> (64 - bits);
}

/* Asks for a cache line to write; any address will do. */
static inline void tm_prefetch(const void *address)
{
	__asm__ volatile("prefetchw %0" : : "m"(*(const uint8_t *)address));
}

/* The caller as it will be when the redirected function has returned: where it goes on … */
static inline uint64_t tm_entry_rip(const struct tm_entry *entry)
{
	return entry->return_address;
}

/* … its stack pointer … */
static inline uint64_t tm_entry_rsp(const struct tm_entry *entry)
{
	return (uint64_t)entry + sizeof(*entry);
}

/* … and all of it that is needed. */
static inline void tm_entry_registers(const struct tm_entry *entry, struct tm_registers *ret)
{
	ret->rip = tm_entry_rip(entry);
	ret->rsp = tm_entry_rsp(entry);
	ret->rbp = entry->rbp;
	ret->rbx = entry->rbx;
	ret->r12 = entry->r12;
	ret->r13 = entry->r13;
	ret->r14 = entry->r14;
	ret->r15 = entry->r15;
	ret->rbp_at = (uint64_t)&entry->rbp;
}

/* The same for a function whose stub is in keeping.S. */
uint64_t tm_call_keeping(const struct tm_entry *entry, const struct tm_patch *patch) TM_HIDDEN;

/* Runs the redirected function itself, through its relocated prologue. */
static inline uint64_t tm_call_original(const struct tm_entry *entry, const struct tm_patch *patch)
{
	uint64_t (*original)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) =
		(uint64_t(*)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
			     uint64_t))patch->original;

	if (unlikely(patch->keeps_registers))
		return tm_call_keeping(entry, patch);
	return original(entry->argument[0], entry->argument[1], entry->argument[2],
			entry->argument[3], entry->argument[4], entry->argument[5]);
}

#endif
