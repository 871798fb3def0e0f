/*
 * The usual case of the hooks, entered from the stubs of usual.S: a call in the
 * domain of malloc, from outside of any hook, while every block is recorded.
 *
 * Must never call the program's code but for the function that was redirected.
 */
#include "guard.h"
#include "counter.h"
#include "modules.h"
#include "table_usual.h"

/* usual.S */
_Static_assert(offsetof(struct tm_patch, original) == 24, "calls it");
_Static_assert(offsetof(struct tm_thread, state) == 0 && THREAD_OUTSIDE == 0, "looks at it");
_Static_assert(offsetof(struct tm_thread, entry) == 16, "sets it");
_Static_assert(offsetof(struct tm_thread, domain) == 32 && TM_DOMAIN_MALLOC == 0, "looks at it");
_Static_assert(THREAD_IN_ORIGINAL == 2 && THREAD_IN_USUAL == 4, "looks for them");

uint64_t tm_usual_alloc(struct tm_thread *thread, uint64_t address, uint64_t size,
			uint64_t rsp) TM_HIDDEN;
uint64_t tm_usual_walk(const struct tm_entry *entry, struct tm_thread *thread) TM_HIDDEN;
uint64_t tm_usual_free(uint64_t address, uint64_t second, uint64_t third, struct tm_thread *thread,
		       const struct tm_patch *patch) TM_HIDDEN;

/* Not in the first place of its search, or large. */
static TM_NOINLINE uint64_t put_further(struct tm_generation *generation, struct tm_thread *thread,
					uint64_t address, uint64_t size, uint32_t traceback)
{
	const struct tm_block block = {address, size, traceback, TM_DOMAIN_MALLOC};

	record_put(generation, thread, &block);
	return address;
}

static TM_NOINLINE uint64_t tell(struct tm_generation *generation, struct tm_thread *thread,
				 uint64_t address)
{
	counter_add(generation, thread->number, 0);
	return address;
}

/* To tm_usual_walk. */
static inline uint64_t leave(const struct tm_generation *generation, struct tm_thread *thread,
			     uint64_t address, uint64_t size)
{
	thread->generation = (uint64_t)generation;
	thread->address = address;
	thread->size = size;
	return 0;
}

/* Not in the first place of what is remembered. */
static TM_NOINLINE uint64_t recall_further(struct tm_generation *generation,
					   struct tm_thread *thread, uint64_t address,
					   uint64_t size, uint64_t rsp, struct tm_path *first)
{
	uint32_t traceback =
		record_recall_second(&thread->recall, first, tm_stack_word(rsp - sizeof(uint64_t)),
				     rsp, tm_recall_stamp(generation, &thread->stack),
				     TM_DOMAIN_MALLOC);

	return traceback ? put_further(generation, thread, address, size, traceback)
			 : leave(generation, thread, address, size);
}

/*
 * The function has returned a block; its caller's stack pointer will be rsp.
 * Returns the block when it was recorded; 0 when that takes a walk, or
 * something else is not as usual.
 */
uint64_t tm_usual_alloc(struct tm_thread *thread, uint64_t address, uint64_t size, uint64_t rsp)
{
	uint64_t rip = tm_stack_word(rsp - sizeof(uint64_t));
	struct tm_generation *generation;
	struct tm_path *path;
	uint32_t traceback;

	store_relaxed(&thread->state, THREAD_IN_HELPER);
	generation = current_generation();
	if (unlikely(generation->filter))
		return leave(generation, thread, address, size);
	path = tm_path_at(&thread->recall, rip, rsp);
	if (unlikely(!path))
		return leave(generation, thread, address, size);
	traceback = tm_recall(path, rip, rsp, tm_recall_stamp(generation, &thread->stack),
			      TM_DOMAIN_MALLOC);
	if (unlikely(!traceback))
		return recall_further(generation, thread, address, size, rsp, path);
	if (unlikely(!table_put_usual(generation, thread->owner, address, size, traceback)))
		return put_further(generation, thread, address, size, traceback);
	if (counter_fills(generation, thread->number, size))
		return tell(generation, thread, address);
	return address;
}

/* Records the block that tm_usual_alloc did not, and returns it.  entry: without arguments. */
uint64_t tm_usual_walk(const struct tm_entry *entry, struct tm_thread *thread)
{
	struct tm_generation *generation = (struct tm_generation *)thread->generation;
	struct tm_block block = {.address = thread->address, .size = thread->size};

	if (generation->filter) {
		record_block(thread, entry, TM_DOMAIN_MALLOC, block.address, block.size);
	} else {
		block.traceback = record_walk(generation, thread, entry, TM_DOMAIN_MALLOC);
		if (likely(block.traceback))
			record_put(generation, thread, &block);
		else
			count_dropped();
	}
	return block.address;
}

/* The function that frees, from the program's first three arguments. */
static TM_INLINE uint64_t call_guarded(uint64_t address, uint64_t second, uint64_t third,
				       struct tm_thread *thread, const struct tm_patch *patch)
{
	uint64_t (*original)(uint64_t, uint64_t, uint64_t) =
		(uint64_t(*)(uint64_t, uint64_t, uint64_t))patch->original;
	uint64_t result;

	__asm__ volatile(".cfi_personality 0x1b, tm_personality"); /* as in entry.S */
	thread->entry = (uint64_t)__builtin_dwarf_cfa() - sizeof(uint64_t);
	store_relaxed(&thread->state, THREAD_IN_USUAL);
	result = original(address, second, third);
	store_relaxed(&thread->state, THREAD_OUTSIDE);
	return result;
}

static TM_NOINLINE uint64_t tell_and_free(uint64_t address, uint64_t second, uint64_t third,
					  struct tm_thread *thread, const struct tm_patch *patch)
{
	counter_add(current_generation(), thread->number, 0);
	return call_guarded(address, second, third, thread, patch);
}

static TM_NOINLINE uint64_t free_further(uint64_t address, uint64_t second, uint64_t third,
					 struct tm_thread *thread, const struct tm_patch *patch)
{
	struct tm_block block;

	record_forget(current_generation(), thread, TM_DOMAIN_MALLOC, address, &block);
	return call_guarded(address, second, third, thread, patch);
}

/* The record goes first: once the original has run, another thread may own the address. */
uint64_t tm_usual_free(uint64_t address, uint64_t second, uint64_t third, struct tm_thread *thread,
		       const struct tm_patch *patch)
{
	struct tm_generation *generation;
	uint64_t size;

	/* What the original will read of the block, it waits for at the same time as we do. */
	tm_prefetch((const void *)(address - sizeof(uint64_t)));
	if (likely(address)) {
		store_relaxed(&thread->state, THREAD_IN_HELPER);
		generation = current_generation();
		if (unlikely(generation->filter ||
			     !table_take_usual(generation, thread->owner, address, &size)))
			return free_further(address, second, third, thread, patch);
		if (counter_empties(generation, thread->number, size))
			return tell_and_free(address, second, third, thread, patch);
	}
	return call_guarded(address, second, third, thread, patch);
}
