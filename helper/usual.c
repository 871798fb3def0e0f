/*
 * The usual case of the hooks, entered from the stubs of usual.S: a call in the
 * domain of malloc, from outside of any hook, while every block is recorded.
 *
 * Must never call the program's code but for the function that was redirected.
 */
/* Only what is called by the plain calling convention, and so leaves them to the callee, leads here. */
#define TM_VECTORS

#include "guard.h"
#include "counter.h"
#include "modules.h"
#include "table_usual.h"

/* usual.S */
_Static_assert(offsetof(struct tm_patch, original) == 24, "calls it");
_Static_assert(offsetof(struct tm_thread, state) == 0 && THREAD_OUTSIDE == 0, "looks at it");
_Static_assert(offsetof(struct tm_thread, entry) == 16, "sets it");
_Static_assert(offsetof(struct tm_thread, domain) == 32 && TM_DOMAIN_MALLOC == 0, "looks at it");
_Static_assert(offsetof(struct tm_thread, size) == 56, "sets it");
_Static_assert(THREAD_IN_ORIGINAL == 2 && THREAD_IN_USUAL == 4, "looks for them");
_Static_assert(sizeof(struct tm_entry) == 56 + 6 * 8 + 8, "builds one");

/* Called by their names alone, not through an address. */
#define DIRECT TM_HIDDEN __attribute__((nocf_check))

DIRECT uint64_t tm_usual_alloc(struct tm_thread *thread, uint64_t address);
DIRECT uint64_t tm_usual_free(uint64_t address, uint64_t second, uint64_t third, uint64_t none,
			      struct tm_thread *thread, const struct tm_patch *patch);

/*
 * usual.S: calls tm_usual_walk and returns what that does.  Only to be left for, by a jump,
 * with the registers restored (tests/house/freestanding looks): so not from a function that
 * hands out the address of a variable of its own.
 */
uint64_t tm_usual_further(struct tm_thread *thread, uint64_t address) TM_HIDDEN;
DIRECT uint64_t tm_usual_walk(struct tm_thread *thread, uint64_t address,
			      const struct tm_entry *entry);

DIRECT void tm_usual_free_leaf(uint64_t address, struct tm_thread *thread,
			       const struct tm_patch *patch);

/* Likewise: the function that frees, with the program's first three arguments. */
uint64_t tm_usual_guarded(uint64_t address, uint64_t second, uint64_t third, uint64_t none,
			  struct tm_thread *thread, const struct tm_patch *patch) TM_HIDDEN;

static inline uint64_t leave(struct tm_thread *thread, uint64_t address)
{
	store_relaxed(&thread->state, THREAD_OUTSIDE);
	return address;
}

/* Not in the first place of its search, or large. */
static TM_NOINLINE uint64_t put_further(struct tm_thread *thread, uint64_t address,
					uint32_t traceback)
{
	struct tm_generation *generation = (struct tm_generation *)thread->generation;
	const struct tm_block block = {address, thread->size, traceback, TM_DOMAIN_MALLOC};
	uint64_t replaced;

	if (likely(table_put(generation, thread->owner, &block, &replaced) != TABLE_DROPPED))
		counter_add(generation, thread->number, (int64_t)(block.size - replaced));
	else
		count_dropped();
	return leave(thread, address);
}

static TM_NOINLINE uint64_t tell(struct tm_thread *thread, uint64_t address)
{
	if (counter_overflows((struct tm_counter *)thread->counter))
		counter_add((struct tm_generation *)thread->generation, thread->number, 0);
	return leave(thread, address);
}

/*
 * What a path that is remembered is compared with.  That of a path which belongs to another
 * generation than the thread's, or leaves blocks out, is never equal.
 */
static inline uint64_t stamp_of(const struct tm_thread *thread)
{
	return load_relaxed(&tm_recall_base) + thread->stack.changes;
}

static TM_NOINLINE uint64_t put(struct tm_thread *thread, uint64_t address, uint32_t traceback)
{
	const struct tm_block block = {address, thread->size, traceback, TM_DOMAIN_MALLOC};

	record_put((struct tm_generation *)thread->generation, thread, &block);
	return leave(thread, address);
}

/* Not in the first place of what is remembered. */
static TM_NOINLINE uint64_t recall_further(struct tm_thread *thread, uint64_t address,
					   struct tm_path *first)
{
	const uint64_t *frame = __builtin_frame_address(0); /* as in tm_usual_alloc */
	uint32_t traceback =
		record_recall_second(&thread->recall, first, frame[1], (uint64_t)(frame + 2),
				     stamp_of(thread), TM_DOMAIN_MALLOC);

	return traceback ? put(thread, address, traceback) : tm_usual_further(thread, address);
}

/*
 * Tail of the stub: the function has returned a block.  Records it, and returns it to the
 * function's caller.
 */
DIRECT uint64_t tm_usual_alloc(struct tm_thread *thread, uint64_t address)
{
	/* Where this function keeps rbp is where a struct tm_entry does. */
	const uint64_t *frame = __builtin_frame_address(0);
	uint64_t rip = frame[1], rsp = (uint64_t)(frame + 2);
	struct tm_path *path;

	store_relaxed(&thread->state, THREAD_IN_HELPER);
	path = tm_path_at(&thread->recall, rip, rsp);
	if (unlikely(!path))
		return tm_usual_further(thread, address);
	if (unlikely(!tm_path_is(path, rip, rsp, stamp_of(thread))))
		return recall_further(thread, address, path);
	if (unlikely(!table_put_usual((struct tm_generation *)thread->generation, thread->owner,
				      address, &thread->size, &path->traceback)))
		return put_further(thread, address, path->traceback);
	if (counter_fills((struct tm_counter *)thread->counter, load_relaxed(&thread->size)))
		return tell(thread, address);
	return leave(thread, address);
}

/* The same where that takes a walk.  entry: without arguments. */
DIRECT uint64_t tm_usual_walk(struct tm_thread *thread, uint64_t address,
			      const struct tm_entry *entry)
{
	struct tm_block block = {.address = address, .size = thread->size};
	struct tm_generation *generation = current_generation();

	if (unlikely(!thread->owner)) {
		/* Wiped since the call began: a signal handler that interrupted it has called fork. */
		count_dropped();
	} else if (generation->filter) {
		record_block(thread, entry, TM_DOMAIN_MALLOC, address, block.size);
	} else {
		block.traceback = record_walk(generation, thread, entry, TM_DOMAIN_MALLOC);
		if (likely(block.traceback))
			record_put(generation, thread, &block);
		else
			count_dropped();
	}
	return leave(thread, address);
}

/*
 * The record of a block goes before the function itself frees it: once that has run, another
 * thread may own the address.
 */
static TM_INLINE bool take(struct tm_thread *thread, uint64_t address, uint64_t *size)
{
	store_relaxed(&thread->state, THREAD_IN_HELPER);
	return likely(thread->seen == load_relaxed(&tm_recall_base)) &&
	       likely(table_take_usual((struct tm_generation *)thread->generation, thread->owner,
				       address, size));
}

static TM_NOINLINE void take_further(struct tm_thread *thread, uint64_t address)
{
	struct tm_generation *generation = current_generation();
	struct tm_block block;

	thread_sees(thread, generation);
	record_forget(generation, thread, TM_DOMAIN_MALLOC, address, &block);
}

static TM_NOINLINE void tell_less(struct tm_thread *thread)
{
	counter_add((struct tm_generation *)thread->generation, thread->number, 0);
}

/* What the original will read of the block, it waits for at the same time as we do. */
static inline void expect(uint64_t address)
{
	tm_prefetch((const void *)(address - sizeof(uint64_t)));
}

static TM_INLINE void go_on_leaf(uint64_t address, struct tm_thread *thread,
				 const struct tm_patch *patch)
{
	store_relaxed(&thread->state, THREAD_OUTSIDE);
	((void (*)(uint64_t))patch->original)(address);
}

static TM_NOINLINE void free_leaf_further(uint64_t address, struct tm_thread *thread,
					  const struct tm_patch *patch)
{
	take_further(thread, address);
	go_on_leaf(address, thread, patch);
}

static TM_NOINLINE void free_leaf_telling(uint64_t address, struct tm_thread *thread,
					  const struct tm_patch *patch)
{
	tell_less(thread);
	go_on_leaf(address, thread, patch);
}

/*
 * Tail of the stub of a free that calls no other function of its domain: so it needs no guard,
 * and nothing of ours is left on the stack.
 */
DIRECT void tm_usual_free_leaf(uint64_t address, struct tm_thread *thread,
			       const struct tm_patch *patch)
{
	uint64_t size;

	expect(address);
	if (likely(address)) {
		if (unlikely(!take(thread, address, &size))) {
			free_leaf_further(address, thread, patch);
			return;
		}
		if (counter_empties((struct tm_counter *)thread->counter, size)) {
			free_leaf_telling(address, thread, patch);
			return;
		}
	}
	go_on_leaf(address, thread, patch);
}

/* Tail of the stub of others, with the program's first three arguments. */
DIRECT uint64_t tm_usual_free(uint64_t address, uint64_t second, uint64_t third, uint64_t none,
			      struct tm_thread *thread, const struct tm_patch *patch)
{
	uint64_t size;

	expect(address);
	if (likely(address)) {
		if (unlikely(!take(thread, address, &size)))
			take_further(thread, address);
		else if (counter_empties((struct tm_counter *)thread->counter, size))
			tell_less(thread);
	}
	return tm_usual_guarded(address, second, third, none, thread, patch);
}
