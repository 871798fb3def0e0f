/*
 * For traced programs in C and C++: blocks of your own in reports of your own.
 *
 *     #include <tm.h>
 *
 *     block = take_from_pool(pool, size);
 *     tm_track(7, block, size);
 *     ...
 *     tm_untrack(7, block);
 *
 * The domain keeps the blocks apart from those of malloc (domain 0): see
 * `tm top -domain 7` and `tm top domain`.  The names and results are those of
 * PyTraceMalloc_Track and PyTraceMalloc_Untrack in CPython's C API.
 *
 * A header alone: nothing to link, nothing to start.  While nobody traces, a
 * call is one load and one branch.  How the tracer is found: each module (the
 * program, a shared library) that includes this has one hidden variable
 * tm_tracker, all zero, and an ELF note ".note.tm" that says where it is: name
 * "tm", type 1, content the distance from the content to the variable, 64
 * bits.  When tracing starts, tm finds the note through the module's program
 * headers in memory and stores the addresses of two functions; when it stops,
 * it stores zeros.  A module that is loaded later gets them when tm notices
 * it: with a debugger's start at the next allocation, at the latest at the
 * first allocation that the module makes.
 *
 * May include: stddef.h, stdint.h.  Must not need: a library, a constructor.
 */
#ifndef TM_H
#define TM_H

#include <stddef.h>
#include <stdint.h>

#define TM_TRACKED 0       /* or untracked, or there was nothing to untrack */
#define TM_NOT_STORED (-1) /* no memory for the record, or not an address of the process */
#define TM_NOT_TRACING (-2)

#if defined(__x86_64__) && defined(__ELF__) && defined(__LP64__) && defined(__GNUC__)

#ifdef __cplusplus
extern "C" {
#endif

/* Written by tm alone. */
struct tm_tracker {
	int (*track)(unsigned int domain, const void *address, size_t size);
	int (*untrack)(unsigned int domain, const void *address);
};

extern struct tm_tracker tm_tracker __attribute__((visibility("hidden")));

/*
 * The variable and its note, once in each module however many of its files
 * include this: one group for both, so that neither is linked without the other.
 * With link-time optimization several files become one for the assembler.
 */
__asm__("	.ifndef tm_tracker\n"
	"	.pushsection .bss.tm_tracker, \"awG\", @nobits, tm_tracker, comdat\n"
	"	.balign 16\n"
	"	.weak tm_tracker\n"
	"	.hidden tm_tracker\n"
	"	.type tm_tracker, @object\n"
	"	.size tm_tracker, 16\n"
	"tm_tracker:\n"
	"	.zero 16\n"
	"	.popsection\n"
	"	.pushsection .note.tm, \"aG\", @note, tm_tracker, comdat\n"
	"	.balign 4\n"
	"	.long 3, 8, 1\n"
	"	.asciz \"tm\"\n"
	"	.balign 4\n"
	"	.quad tm_tracker - .\n"
	"	.popsection\n"
	"	.endif\n");

#ifdef __cplusplus
}
#endif

/*
 * tm_track(unsigned domain, const void *address, size_t size): the block is
 * traced, allocated by the caller; a record of the same domain and address is
 * replaced.  tm_untrack(unsigned domain, const void *address): it is not any
 * more.  Each gives one of the results above.
 *
 * Macros, so that the line of a block is the caller's and none of this file;
 * and no call is the last of its function, whose frame would then be missing.
 */
#define tm_track(domain, address, size)                                       \
	__extension__({                                                       \
		int (*tm_call)(unsigned int, const void *, size_t) =          \
			__atomic_load_n(&tm_tracker.track, __ATOMIC_RELAXED); \
		int tm_result = TM_NOT_TRACING;                               \
		if (__builtin_expect(tm_call != 0, 0))                        \
			tm_result = tm_call((domain), (address), (size));     \
		__asm__ volatile("" : "+r"(tm_result));                       \
		tm_result;                                                    \
	})

#define tm_untrack(domain, address)                                             \
	__extension__({                                                         \
		int (*tm_call)(unsigned int, const void *) =                    \
			__atomic_load_n(&tm_tracker.untrack, __ATOMIC_RELAXED); \
		int tm_result = TM_NOT_TRACING;                                 \
		if (__builtin_expect(tm_call != 0, 0))                          \
			tm_result = tm_call((domain), (address));               \
		__asm__ volatile("" : "+r"(tm_result));                         \
		tm_result;                                                      \
	})

#else /* tm traces x86-64 processes alone */

#define tm_track(domain, address, size) \
	((void)(domain), (void)(address), (void)(size), TM_NOT_TRACING)
#define tm_untrack(domain, address) ((void)(domain), (void)(address), TM_NOT_TRACING)

#endif

#endif
