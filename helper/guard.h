/*
 * The guard of the hooks: which call of a thread is its outermost one in a domain.
 * usual.S and sampled.S set it likewise.
 *
 * For the hooks alone: they are as fast as this is inline.  May use thread
 * records; must never call the program's code but through tm_call_original.
 */
#ifndef TM_GUARD_H
#define TM_GUARD_H

#include "record.h"

static inline const struct tm_patch *patch_of(const struct tm_entry *entry)
{
	return (const struct tm_patch *)entry->patch;
}

static inline uint64_t place_of(const struct tm_entry *entry)
{
	return (uint64_t)&entry->return_address;
}

/*
 * A longjmp out of the original leaves the guard behind.  A nested call has
 * its entry below the outermost one's on the same stack, so one that is not
 * below shows that the outermost call is over.
 */
static inline bool is_abandoned(const struct tm_thread *thread, const struct tm_entry *entry)
{
	return thread->state == THREAD_IN_ORIGINAL && place_of(entry) >= thread->entry &&
	       place_of(entry) < thread->stack.high;
}

/* What usual.S left out. */
static inline void guard_complete(struct tm_thread *thread)
{
	if (thread->state != THREAD_IN_USUAL)
		return;
	thread->domain = TM_DOMAIN_MALLOC;
	thread->nested = 0;
	store_release(&thread->state, THREAD_IN_ORIGINAL);
}

static inline uint32_t domain_of(const struct tm_entry *entry)
{
	return patch_of(entry)->domain;
}

static inline uint64_t domain_bit(const struct tm_entry *entry)
{
	return UINT64_C(1) << (domain_of(entry) & 63);
}

static inline void guard_begin(struct tm_thread *thread, const struct tm_entry *entry)
{
	thread->state = THREAD_IN_HELPER;
	thread->entry = place_of(entry);
	thread->domain = domain_of(entry);
	thread->nested = 0;
}

static TM_NOINLINE struct tm_thread *guard_enter_slow(struct tm_thread *thread,
						      const struct tm_entry *entry)
{
	if (thread && thread->state == THREAD_SUSPECT)
		thread = thread_claim(thread);
	if (!thread) {
		count_dropped();
		return NULL;
	}
	if (thread->state == THREAD_IN_HELPER) {
		count_dropped(); /* a signal handler's call, in the middle of our work */
		return NULL;
	}
	guard_complete(thread);
	if (thread->state == THREAD_OUTSIDE || is_abandoned(thread, entry)) {
		guard_begin(thread, entry);
		return thread;
	}
	if (thread->domain == domain_of(entry) || thread->nested & domain_bit(entry))
		return NULL; /* an allocator's call of itself */
	thread->state = THREAD_IN_HELPER;
	thread->nested |= domain_bit(entry);
	return thread;
}

/* The thread, when this is its outermost call in the domain; else NULL.  Stubs ask if it traces. */
static inline struct tm_thread *guard_enter(const struct tm_entry *entry)
{
	struct tm_thread *thread = thread_self();

	if (unlikely(!thread || thread->state != THREAD_OUTSIDE))
		return guard_enter_slow(thread, entry);
	guard_begin(thread, entry);
	return thread;
}

static inline void guard_leave(struct tm_thread *thread, const struct tm_entry *entry)
{
	bool nested = false;

	if (unlikely(thread->entry != place_of(entry))) {
		nested = thread->nested & domain_bit(entry);
		thread->nested &= ~domain_bit(entry);
	}
	store_relaxed(&thread->state, nested ? THREAD_IN_ORIGINAL : THREAD_OUTSIDE);
}

static inline uint64_t guarded_call(struct tm_thread *thread, const struct tm_entry *entry)
{
	uint64_t result;

	store_relaxed(&thread->state, THREAD_IN_ORIGINAL);
	result = tm_call_original(entry, patch_of(entry));
	store_relaxed(&thread->state, THREAD_IN_HELPER);
	return result;
}

#endif
