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
	uint64_t stamp;

	store_relaxed(&thread->state, THREAD_IN_HELPER);
	generation = current_generation();
	if (unlikely(generation->filter))
		goto out;
	stamp = tm_recall_stamp(generation, &thread->stack);
	path = tm_path_at(&thread->recall, rip, rsp);
	traceback = tm_recall(path, rip, rsp, stamp, TM_DOMAIN_MALLOC);
	if (unlikely(!traceback)) {
		traceback = record_recall_second(&thread->recall, path, rip, rsp, stamp,
						 TM_DOMAIN_MALLOC);
		if (!traceback)
			goto out;
	}
	if (unlikely(!table_put_usual(generation, thread->number + 1, address, size, traceback)))
		return put_further(generation, thread, address, size, traceback);
	counter_grow(generation, thread->number, size);
	return address;
out:
	thread->address = address;
	thread->size = size;
	return 0;
}

/* Records the block that tm_usual_alloc did not, and returns it.  entry: without arguments. */
uint64_t tm_usual_walk(const struct tm_entry *entry, struct tm_thread *thread)
{
	struct tm_generation *generation = current_generation();
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

static TM_NOINLINE void forget_further(struct tm_generation *generation, struct tm_thread *thread,
				       uint64_t address)
{
	struct tm_block block;

	record_forget(generation, thread, TM_DOMAIN_MALLOC, address, &block);
}

/* The record goes first: once the original has run, another thread may own the address. */
uint64_t tm_usual_free(uint64_t address, uint64_t second, uint64_t third, struct tm_thread *thread,
		       const struct tm_patch *patch)
{
	uint64_t (*original)(uint64_t, uint64_t, uint64_t) =
		(uint64_t(*)(uint64_t, uint64_t, uint64_t))patch->original;
	struct tm_generation *generation;
	uint64_t result, size;

	__asm__ volatile(".cfi_personality 0x1b, tm_personality"); /* as in entry.S */
	if (likely(address)) {
		store_relaxed(&thread->state, THREAD_IN_HELPER);
		generation = current_generation();
		if (likely(!generation->filter &&
			   table_take_usual(generation, thread->number + 1, address, &size)))
			counter_shrink(generation, thread->number, size);
		else
			forget_further(generation, thread, address);
	}
	thread->entry = (uint64_t)__builtin_dwarf_cfa() - sizeof(uint64_t);
	store_relaxed(&thread->state, THREAD_IN_USUAL);
	result = original(address, second, third);
	store_relaxed(&thread->state, THREAD_OUTSIDE);
	return result;
}
