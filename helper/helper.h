/*
 * What every part of the helper shares: types, memory order, the header, the
 * locks, the thread record.
 *
 * The helper runs inside other people's processes: no libc, no TLS, no
 * relocations, no floating point registers, less than 1 KiB of stack.
 */
#ifndef TM_HELPER_H
#define TM_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tm_layout.h"

#define TM_PAGE 4096u

#define load_relaxed(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)
#define load_acquire(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define store_relaxed(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELAXED)
#define store_release(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELEASE)
#define add_relaxed(pointer, value) __atomic_fetch_add((pointer), (value), __ATOMIC_RELAXED)

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)
#define TM_HIDDEN __attribute__((visibility("hidden")))
#define TM_NOINLINE __attribute__((noinline))
#define TM_INLINE inline __attribute__((always_inline))

/* The callee-saved registers of a frame, and where it stands. */
struct tm_registers {
	uint64_t rip, rsp, rbp, rbx, r12, r13, r14, r15;
	uint64_t rbp_at; /* where rbp is kept: the same place, whenever rsp is the same */
};

/* The stack around rsp that is known to be readable: low <= address < high. */
struct tm_stack {
	uint64_t low, high;
	uint64_t changes; /* counts when it became another one, instead of a larger one */
};

/* The one header; first in the helper's writable memory. */
extern struct tm_header tm_header TM_HIDDEN;

/*
 * Words that a child of fork must find zero, whatever other threads of its
 * parent were doing: on pages with MADV_WIPEONFORK.
 */
struct tm_wiped {
	uint32_t threads_lock;
	uint32_t modules_lock;    /* try only */
	uint32_t thread_count;    /* entries in use */
	uint32_t numbers;         /* records made: the numbers given to threads */
	uint32_t sweep;           /* where the search for dead threads goes on */
	uint32_t modules_readers; /* threads that look for something in a list */
	struct tm_thread_entry threads[TM_MAX_THREADS];
	uint32_t process; /* its number in the locks of buckets; 0: none yet */
	uint32_t reserved1;
};

extern struct tm_wiped tm_wiped_memory TM_HIDDEN;

static inline struct tm_wiped *tm_wiped(void)
{
	return &tm_wiped_memory;
}

#endif
