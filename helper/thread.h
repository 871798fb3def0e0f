/* The record of a thread, found from its thread pointer without TLS. */
#ifndef TM_THREAD_H
#define TM_THREAD_H

#include "arch.h"
#include "lock.h"
#include "counter.h"
#include "recall.h"
#include "traceback.h"

/*
 * The guard.  A hook that is entered while its thread is in THREAD_IN_ORIGINAL
 * was called by the allocator; in THREAD_IN_HELPER, by a signal handler.
 */
#define THREAD_OUTSIDE 0u
#define THREAD_IN_HELPER 1u
#define THREAD_IN_ORIGINAL 2u
#define THREAD_SUSPECT 3u /* outside, and the kernel knows no thread of this tid any more */
/* THREAD_IN_ORIGINAL of usual.S: the domain is malloc's, nested is 0, whatever stands in them. */
#define THREAD_IN_USUAL 4u

/* Written by its own thread alone (or, harmlessly, by those that share its thread pointer). */
struct tm_thread {
	uint32_t state;         /* THREAD_* */
	uint32_t number;        /* index of its struct tm_counter */
	uint32_t tid;           /* as the kernel knows it */
	uint32_t capacity;      /* frames that what is allocated below can take */
	uint64_t entry;         /* where the outermost hook's return address is on the stack */
	uint64_t nested;        /* domains of hooks inside that one, bit domain % 64 */
	uint32_t domain;        /* of that one */
	uint32_t owner;         /* who it is in locks: number + 1, above it tm_wiped.process */
	uint64_t sample_left;   /* like that of tm_sample_slots, where its place there is taken */
	uint64_t sample_random; /* state of its random numbers; 0: not yet begun */
	uint64_t size;          /* that the usual malloc was asked for, bytes; usual.S */
	uint64_t seen;          /* tm_recall_base when these were set: … */
	uint64_t generation;    /* … address of the generation, which records every block, … */
	uint64_t counter;       /* … and of the thread's struct tm_counter in it */
	struct tm_stack stack;
	uint64_t frames; /* address of uint64_t[capacity]: what the unwinder found */
	struct tm_recall recall;
	struct tm_unwinder unwinder;
};

/* Who it is to the table. */
static inline uint32_t thread_owner(const struct tm_thread *thread)
{
	return thread->owner | (thread->nested ? TM_OWNER_NESTED : 0);
}

/* 0 … TM_MAX_THREADS - 1.  sampled.S reckons the same. */
static inline uint32_t thread_hash(uint64_t thread_pointer)
{
	return (uint32_t)thread_pointer * 0x9e3779b1u >> 18;
}

/* Makes a record, zeroed or another thread's, that of a thread about which nothing is known. */
void thread_begin(struct tm_thread *thread, uint32_t number) TM_HIDDEN;

/* The calling thread's record is suspected: claims it again, or makes another. */
struct tm_thread *thread_claim(struct tm_thread *thread) TM_HIDDEN;

/* Gives the record's arrays room for this many frames.  False when there is no memory. */
bool thread_reserve(struct tm_thread *thread, uint32_t frames) TM_HIDDEN;

/* Gives it four times as many places for what it remembers, if it may have more. */
void thread_remember_more(struct tm_thread *thread) TM_HIDDEN;

/* The entry of a thread pointer, or NULL. */
static inline struct tm_thread_entry *thread_entry(uint64_t thread_pointer)
{
	struct tm_thread_entry *entries = tm_wiped()->threads;
	uint32_t i, turns;

	for (i = thread_hash(thread_pointer), turns = 0; turns < TM_MAX_THREADS;
	     i = (i + 1) & (TM_MAX_THREADS - 1), turns++) {
		uint64_t seen = load_acquire(&entries[i].thread_pointer);

		if (likely(seen == thread_pointer))
			return &entries[i];
		if (seen == 0)
			return NULL;
	}
	return NULL;
}

/* The same where the entry is not in its first place, or not there. */
struct tm_thread *thread_self_slow(uint64_t thread_pointer) TM_HIDDEN;

/* The record of the calling thread, made at its first call.  NULL when there is no room. */
static inline struct tm_thread *thread_self(void)
{
	uint64_t thread_pointer = tm_thread_pointer();
	struct tm_thread_entry *entry = &tm_wiped()->threads[thread_hash(thread_pointer)];

	__asm__("" : "+r"(entry)); /* reckoned once, not for each of its fields */
	if (likely(load_acquire(&entry->thread_pointer) == thread_pointer))
		return (struct tm_thread *)entry->record;
	return thread_self_slow(thread_pointer);
}

/*
 * The thread knows where it keeps what it records in a generation, until tm_recall_base
 * is another one.  Not where blocks are left out: the usual way is not for that.
 */
static inline void thread_sees(struct tm_thread *thread, const struct tm_generation *generation)
{
	if (generation->filter)
		return;
	thread->generation = (uint64_t)generation;
	thread->counter = (uint64_t)counter_of(generation, thread->number);
	thread->seen = load_relaxed(&tm_rules_epoch) + generation->id;
}

/* True when a thread other than this owner of locks is inside a hook. */
bool thread_any_other_inside(uint32_t owner) TM_HIDDEN;

/* True when a thread is inside a hook.  For control functions, with all threads stopped. */
bool thread_any_inside(void) TM_HIDDEN;

#endif
