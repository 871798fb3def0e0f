/*
 * What happens when a redirected function is called: one hook for each shape
 * of function, entered from the stubs of entry.S; and those of tm_track and
 * tm_untrack, which the program calls itself.
 *
 * Each looks at the guard, calls the original function, and keeps the table.
 * Only the outermost allocator call of a thread in a domain is recorded, with
 * the caller of that function as the most recent frame.  A hook changes nothing that the
 * program can see: not errno, not a vector register, not the stack's depth by
 * more than 1 KiB.
 *
 * Must never call the program's code but through tm_call_original.
 */
#include "guard.h"
#include "modules.h"
#include "sample.h"

uint64_t tm_hook_alloc(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_free(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_realloc(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_store(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_resize(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_map(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_unmap(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_remap(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_chosen(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_passed(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_loader(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_track(const struct tm_entry *entry) TM_HIDDEN;
uint64_t tm_hook_untrack(const struct tm_entry *entry) TM_HIDDEN;

/* ---- exceptions ------------------------------------------------------- */

/*
 * The personality routine of the entry stubs (Itanium C++ ABI: Exception
 * Handling, 2.5.2): called when an exception, or the end of a thread, unwinds
 * through a hook.  The call that the guard stands for is then over.
 */
int tm_personality(int version, int actions, uint64_t exception_class, void *exception,
		   void *context) TM_HIDDEN;

int tm_personality(int version, int actions, uint64_t exception_class, void *exception,
		   void *context)
{
	const int cleanup_phase = 2, continue_unwind = 8;
	struct tm_thread_entry *entry = thread_entry(tm_thread_pointer());

	(void)version;
	(void)exception_class;
	(void)exception;
	(void)context;
	if ((actions & cleanup_phase) && entry)
		store_relaxed(&((struct tm_thread *)entry->record)->state, THREAD_OUTSIDE);
	return continue_unwind;
}

/* ---- arguments --------------------------------------------------------- */

/* Bytes asked for; an overflowing product makes the original fail, so what it is does not matter. */
static inline uint64_t requested_size(const struct tm_entry *entry)
{
	const struct tm_patch *patch = patch_of(entry);
	uint64_t size = entry->argument[patch->size_argument];

	if (patch->count_argument != TM_NO_ARGUMENT)
		size *= entry->argument[patch->count_argument];
	return size;
}

/* ---- the hooks --------------------------------------------------------- */

uint64_t tm_hook_alloc(const struct tm_entry *entry)
{
	struct tm_thread *thread = guard_enter(entry);
	uint64_t result;

	if (!thread)
		return tm_call_original(entry, patch_of(entry));
	result = guarded_call(thread, entry);
	if (likely(result != 0))
		record_block(thread, entry, domain_of(entry), result, requested_size(entry));
	guard_leave(thread, entry);
	return result;
}

/*
 * A new block while sampling, of a function that gives back NULL when it fails, for
 * which sampled.S could not say no: whether it is chosen is decided before the
 * original runs, because what that one calls counts down as well.
 */
uint64_t tm_hook_chosen(const struct tm_entry *entry)
{
	struct tm_thread *thread = guard_enter(entry);
	uint64_t result, size = requested_size(entry);
	const struct tm_generation *generation;
	bool taken;

	if (!thread) {
		sample_renew();
		return tm_call_original(entry, patch_of(entry));
	}
	generation = current_generation(); /* with the guard on, which keeps it mapped */
	taken = load_relaxed(&tm_header.state) == TM_STATE_TRACING &&
		(!generation->filter || sample_takes(generation, thread, size));
	result = guarded_call(thread, entry);
	if (taken && result)
		record_chosen(thread, entry, domain_of(entry), result, size);
	guard_leave(thread, entry);
	return result;
}

/* One that is not chosen, of a function that may call another one, where sampled.S is at a loss. */
uint64_t tm_hook_passed(const struct tm_entry *entry)
{
	struct tm_thread *thread = guard_enter(entry);
	uint64_t result;

	if (!thread)
		return tm_call_original(entry, patch_of(entry));
	result = guarded_call(thread, entry);
	guard_leave(thread, entry);
	return result;
}

/* The record goes first: once the original has run, another thread may own the address. */
uint64_t tm_hook_free(const struct tm_entry *entry)
{
	uint64_t address = entry->argument[patch_of(entry)->block_argument];
	struct tm_thread *thread = guard_enter(entry);
	struct tm_block block;
	uint64_t result;

	if (!thread)
		return tm_call_original(entry, patch_of(entry));
	/* What the original will read of the block, it waits for at the same time as we do. */
	tm_prefetch((const void *)(address - 8));
	if (likely(address != 0))
		record_forget(current_generation(), thread, domain_of(entry), address, &block);
	result = guarded_call(thread, entry);
	guard_leave(thread, entry);
	return result;
}

/*
 * realloc(3): with NULL it is malloc; a failure leaves the old block, so its
 * record is put back; NULL for size 0 means that the block is gone (glibc,
 * jemalloc), as C17 7.22.3.5 permits.
 */
static inline uint64_t hook_realloc(const struct tm_entry *entry, uint64_t failure)
{
	uint64_t address = entry->argument[patch_of(entry)->block_argument];
	struct tm_thread *thread = guard_enter(entry);
	struct tm_generation *generation;
	struct tm_block old;
	uint64_t result, size;
	bool had;

	if (!thread)
		return tm_call_original(entry, patch_of(entry));
	generation = current_generation();
	size = requested_size(entry);
	had = address && record_forget(generation, thread, domain_of(entry), address, &old);
	result = guarded_call(thread, entry);
	if (likely(result != failure))
		record_block(thread, entry, domain_of(entry), result, size);
	else if (had && size != 0)
		record_put(generation, thread, &old);
	guard_leave(thread, entry);
	return result;
}

uint64_t tm_hook_realloc(const struct tm_entry *entry)
{
	return hook_realloc(entry, 0);
}

/* posix_memalign(3): the block is stored through a pointer, 0 means success. */
uint64_t tm_hook_store(const struct tm_entry *entry)
{
	uint64_t place = entry->argument[patch_of(entry)->block_argument];
	struct tm_thread *thread = guard_enter(entry);
	uint64_t result, address;

	if (!thread)
		return tm_call_original(entry, patch_of(entry));
	result = guarded_call(thread, entry);
	if (likely((int)result == 0)) {
		address = *(const uint64_t *)place;
		if (address)
			record_block(thread, entry, domain_of(entry), address,
				     requested_size(entry));
	}
	guard_leave(thread, entry);
	return result;
}

/* jemalloc(3) xallocx: resizes in place and returns the real size, at least size on success. */
uint64_t tm_hook_resize(const struct tm_entry *entry)
{
	uint64_t address = entry->argument[patch_of(entry)->block_argument];
	struct tm_thread *thread = guard_enter(entry);
	struct tm_generation *generation;
	uint64_t result, size;
	struct tm_block old;

	if (!thread)
		return tm_call_original(entry, patch_of(entry));
	size = requested_size(entry);
	result = guarded_call(thread, entry);
	generation = current_generation();
	if (result >= size) {
		bool had = record_forget(generation, thread, domain_of(entry), address, &old);

		old.size = size;
		if (generation->filter) /* what it was is not known of most, so all are new */
			record_block(thread, entry, domain_of(entry), address, size);
		else if (had)
			record_put(generation, thread, &old);
	}
	guard_leave(thread, entry);
	return result;
}

/*
 * mmap(2) and its kind.  A mapping may be taken away in parts: a record is
 * found from the start of the part, or from some page before it.
 */
#define MAP_FAILED UINT64_MAX
#define MAX_PAGES_BEFORE 4096u
#define MAX_PAGES_INSIDE (UINT64_C(1) << 20) /* of those looked at one by one */

uint64_t tm_hook_map(const struct tm_entry *entry)
{
	struct tm_thread *thread = guard_enter(entry);
	uint64_t result;

	if (!thread)
		return tm_call_original(entry, patch_of(entry));
	result = guarded_call(thread, entry);
	if (likely(result != MAP_FAILED))
		record_block(thread, entry, domain_of(entry), result, requested_size(entry));
	guard_leave(thread, entry);
	return result;
}

uint64_t tm_hook_remap(const struct tm_entry *entry)
{
	return hook_realloc(entry, MAP_FAILED);
}

static void put_part(struct tm_generation *generation, struct tm_thread *thread,
		     const struct tm_block *old, uint64_t start, uint64_t end)
{
	struct tm_block part = *old;

	part.address = start;
	part.size = end - start;
	if (!generation->filter || sample_keeps(generation, thread, old->size, part.size))
		record_put(generation, thread, &part);
}

/* Puts back what is left of a mapping in front of `start` and behind `end`. */
static void put_rest(struct tm_generation *generation, struct tm_thread *thread,
		     const struct tm_block *old, uint64_t start, uint64_t end)
{
	uint64_t old_end = old->address + old->size;

	if (old->address < start)
		put_part(generation, thread, old, old->address, start);
	if (old_end > end)
		put_part(generation, thread, old, end, old_end);
}

/* The mapping that holds `start`, taken out of the table. */
static bool forget_mapping(struct tm_generation *generation, struct tm_thread *thread,
			   uint32_t domain, uint64_t start, struct tm_block *ret)
{
	uint32_t pages;

	for (pages = 0; pages < MAX_PAGES_BEFORE && start >= (uint64_t)pages * TM_PAGE; pages++) {
		uint64_t page = start - (uint64_t)pages * TM_PAGE;

		/* Without the lock, so it is only a hint. */
		if ((generation->filter && !sample_may_hold(generation->filter, page)) ||
		    !table_find(generation, page, domain, ret))
			continue;
		if (ret->address + ret->size <= start ||
		    !record_forget(generation, thread, domain, ret->address, ret))
			return false;
		if (ret->address + ret->size > start)
			return true;
		record_put(generation, thread, ret);
		return false;
	}
	return false;
}

static uint64_t page_after(uint64_t address)
{
	return (address + TM_PAGE - 1) & ~(uint64_t)(TM_PAGE - 1);
}

/* The mappings that begin in a range.  The last one, in *ret, may end behind it. */
static bool forget_inside(struct tm_generation *generation, struct tm_thread *thread,
			  uint32_t domain, uint64_t start, uint64_t end, struct tm_block *ret)
{
	struct tm_block next; /* forget() may leave something there that it did not find */
	uint64_t pages = 0;
	bool found = false;

	while (start < end) {
		if (record_forget(generation, thread, domain, start, &next)) {
			*ret = next;
			start = page_after(ret->address + ret->size);
			found = true;
		} else if (generation->filter && pages++ < MAX_PAGES_INSIDE)
			start += TM_PAGE; /* one that was not recorded */
		else
			break;
	}
	return found;
}

uint64_t tm_hook_unmap(const struct tm_entry *entry)
{
	const struct tm_patch *patch = patch_of(entry);
	uint64_t start = entry->argument[patch->block_argument];
	uint64_t end = start + page_after(requested_size(entry));
	struct tm_thread *thread = guard_enter(entry);
	struct tm_generation *generation;
	struct tm_block old, last;
	bool had, more = false;
	uint64_t result;

	if (!thread)
		return tm_call_original(entry, patch);
	generation = current_generation();
	had = forget_mapping(generation, thread, domain_of(entry), start, &old);
	if (had || generation->filter)
		more = forget_inside(generation, thread, domain_of(entry),
				     had ? page_after(old.address + old.size) : start, end, &last);
	result = guarded_call(thread, entry);
	if (had && (int)result == 0)
		put_rest(generation, thread, &old, start, end);
	else if (had)
		record_put(generation, thread, &old);
	if (more && (int)result == 0)
		put_rest(generation, thread, &last, start, end);
	guard_leave(thread, entry);
	return result;
}

/* The loader's list of objects changes, or has changed: see modules.c. */
uint64_t tm_hook_loader(const struct tm_entry *entry)
{
	bool notice = patch_of(entry)->length; /* of the loader's work, not dlclose itself */
	uint64_t result;

	tm_modules_loader_event(notice);
	result = tm_call_original(entry, patch_of(entry));
	if (!notice)
		tm_modules_loader_event(false);
	return result;
}

/* ---- what the program tracks itself: tm.h --------------------------------- */

#define NOT_STORED ((uint64_t)-1)
#define NOT_TRACING ((uint64_t)-2)

/*
 * An allocator may track blocks: that is no nested call, and what the thread
 * keeps for its outer hook is not in use meanwhile.
 */
static struct tm_thread *track_enter(const struct tm_entry *entry, uint32_t *ret_before)
{
	struct tm_thread *thread = thread_self();

	if (unlikely(thread && thread->state == THREAD_SUSPECT))
		thread = thread_claim(thread);
	if (unlikely(!thread || thread->state == THREAD_IN_HELPER)) {
		count_dropped();
		return NULL;
	}
	guard_complete(thread);
	if (unlikely(is_abandoned(thread, entry)))
		thread->state = THREAD_OUTSIDE;
	*ret_before = thread->state;
	thread->state = THREAD_IN_HELPER;
	return thread;
}

static void track_leave(struct tm_thread *thread, uint32_t before)
{
	store_relaxed(&thread->state, before);
}

/* int tm_track(unsigned int domain, const void *address, size_t size) */
uint64_t tm_hook_track(const struct tm_entry *entry)
{
	struct tm_thread *thread;
	uint32_t before;
	bool stored;

	if (load_relaxed(&tm_header.state) != TM_STATE_TRACING)
		return NOT_TRACING;
	thread = track_enter(entry, &before);
	if (!thread)
		return NOT_STORED;
	stored = record_block(thread, entry, (uint32_t)entry->argument[0], entry->argument[1],
			      entry->argument[2]);
	track_leave(thread, before);
	return stored ? 0 : NOT_STORED;
}

/* int tm_untrack(unsigned int domain, const void *address) */
uint64_t tm_hook_untrack(const struct tm_entry *entry)
{
	struct tm_thread *thread;
	struct tm_block block;
	uint32_t before;

	if (load_relaxed(&tm_header.state) != TM_STATE_TRACING)
		return NOT_TRACING;
	thread = track_enter(entry, &before);
	if (!thread)
		return NOT_STORED;
	record_forget(current_generation(), thread, (uint32_t)entry->argument[0],
		      entry->argument[1], &block);
	track_leave(thread, before);
	return 0;
}
