/*
 * The records of threads: a lock-free table from thread pointer to record, in
 * memory that a child of fork finds empty.  The record of a thread that has
 * ended is handed to a new one.
 *
 * A new thread may inherit the thread pointer of one that ended, and so its
 * record, whose tid is then stale.  So a record whose tid is gone is first
 * suspected, and taken only if nobody has claimed it by the next look.
 *
 * Uses arena, lock and table; must never call a hooked function.
 */
#include "thread.h"
#include "arena.h"
#include "lock.h"
#include "table.h"

#define ENTRY_REMOVED 1u
#define SWEEP_ABOVE 64u /* with fewer threads than this nobody looks for dead ones */
#define SWEEP_STEPS 32u

const struct tm_path tm_no_path;

/* Where the next wiped memory comes from; threads_lock. */
static uint64_t pool_next, pool_end;

static void *pool_take(uint64_t size)
{
	const uint64_t bytes = 256 * 1024;
	void *memory;

	size = (size + 63) & ~UINT64_C(63);
	if (size > bytes)
		return arena_map_wiped(size);
	if (pool_end < pool_next + size) {
		memory = arena_map_wiped(bytes);
		if (!memory)
			return NULL;
		/* A child of fork may begin between any two of these: it then has no memory left. */
		store_release(&pool_end, 0);
		store_release(&pool_next, (uint64_t)memory);
		store_release(&pool_end, (uint64_t)memory + bytes);
	}
	memory = (void *)pool_next;
	pool_next += size;
	return memory;
}

/* Who holds threads_lock, and whom to ask the kernel for later. */
static uint32_t own_tid(void)
{
	if (sys_is_quiet()) /* then nobody asks the kernel */
		return (uint32_t)(tm_thread_pointer() >> 4) | 1;
	return (uint32_t)sys_gettid();
}

/* Gives the record room for so many places of paths of so many frames; what it had is forgotten. */
static bool reserve(struct tm_thread *thread, uint32_t places, uint32_t frames)
{
	struct tm_wiped *wiped = tm_wiped();
	uint64_t path_size = tm_path_size(frames), paths = (uint64_t)places * TM_WAYS;
	uint8_t *memory;
	uint32_t i;

	if (!lock_take(&wiped->threads_lock, own_tid()))
		return false;
	memory = pool_take(paths * (path_size + sizeof(struct tm_shape)) +
			   (uint64_t)frames * sizeof(uint64_t));
	lock_release(&wiped->threads_lock);
	if (!memory)
		return false;
	for (i = 0; i < TM_JOINTS; i++) /* their paths may be more than there are */
		store_relaxed(&thread->recall.joints[i], UINT64_C(0));
	/* A handler may leave at any of these: the first place fits into both memories. */
	store_relaxed(&thread->recall.last_place, 0);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	thread->recall.paths = (uint64_t)memory;
	thread->recall.size = path_size;
	thread->recall.place_size = TM_WAYS * path_size;
	thread->recall.shapes = thread->recall.paths + paths * path_size;
	thread->frames = thread->recall.shapes + paths * sizeof(struct tm_shape);
	thread->recall.chosen = (uint64_t)memory; /* what was chosen is too small by now */
	thread->recall.turn = 0;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	store_relaxed(&thread->recall.last_place, places - 1);
	thread->capacity = frames;
	return true;
}

bool thread_reserve(struct tm_thread *thread, uint32_t frames)
{
	return thread->capacity >= frames || reserve(thread, TM_PLACES, frames);
}

void thread_remember_more(struct tm_thread *thread)
{
	uint32_t places = thread->recall.last_place + 1;

	if (places < TM_MOST_PLACES)
		reserve(thread, 4 * places, thread->capacity);
}

/* Takes the record of a thread that has ended, if a few looks find one.  Lock held. */
static struct tm_thread *sweep(struct tm_wiped *wiped)
{
	int pid = (int)sys_getpid();
	uint32_t looked = 0, step;

	for (step = 0; step < TM_MAX_THREADS && looked < SWEEP_STEPS; step++) {
		struct tm_thread_entry *entry = &wiped->threads[wiped->sweep];
		struct tm_thread *thread = (struct tm_thread *)entry->record;
		uint32_t outside = THREAD_OUTSIDE, suspect = THREAD_SUSPECT;

		wiped->sweep = (wiped->sweep + 1) & (TM_MAX_THREADS - 1);
		if (entry->thread_pointer <= ENTRY_REMOVED || !thread)
			continue;
		looked++;
		if (sys_tgkill(pid, (int)thread->tid, 0) != -TM_ESRCH)
			continue;
		if (load_relaxed(&thread->state) != THREAD_SUSPECT) {
			__atomic_compare_exchange_n(&thread->state, &outside, THREAD_SUSPECT, false,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
			continue;
		}
		store_release(&entry->thread_pointer, ENTRY_REMOVED);
		store_release(&entry->record, 0);
		wiped->thread_count--;
		if (__atomic_compare_exchange_n(&thread->state, &suspect, THREAD_OUTSIDE, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return thread;
	}
	return NULL;
}

struct tm_thread *thread_claim(struct tm_thread *thread)
{
	uint32_t suspect = THREAD_SUSPECT;

	thread->tid = own_tid();
	__atomic_compare_exchange_n(&thread->state, &suspect, THREAD_OUTSIDE, false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return thread_self();
}

/*
 * Numbers this process, if that was not done yet: not as its parent.  No other thread of
 * it has touched a table so far.
 */
static void number_process(struct tm_wiped *wiped)
{
	static uint32_t last; /* a child of fork has that of its parent */
	const struct tm_generation *generation = (const struct tm_generation *)tm_header.generation;

	if (likely(wiped->process))
		return;
	if (last == TM_PROCESSES) {
		last = 0;
		for (; generation; generation = (const struct tm_generation *)generation->retired)
			table_forget_locks(generation);
	}
	wiped->process = ++last;
}

void thread_begin(struct tm_thread *thread, uint32_t number)
{
	thread->state = THREAD_OUTSIDE;
	thread->number = number;
	thread->owner = tm_wiped()->process << TM_BUCKET_LOCK_SHIFT | (number + 1);
	thread->nested = 0;
	thread->entry = 0;
	thread->seen = 0;
	thread->stack.low = thread->stack.high = 0;
	thread->stack.changes++;
	if (!thread->recall.size)
		thread->recall.paths = (uint64_t)&tm_no_path;
}

/* Makes the record of the calling thread.  NULL when there is no room for it. */
static struct tm_thread *thread_make(uint64_t thread_pointer)
{
	struct tm_wiped *wiped = tm_wiped();
	uint32_t tid = own_tid();
	struct tm_thread *thread = NULL;
	struct tm_thread_entry *entry;
	uint32_t i, number;

	if (!lock_take(&wiped->threads_lock, tid))
		return NULL;
	entry = thread_entry(thread_pointer);
	if (entry) {
		thread = (struct tm_thread *)entry->record;
		goto out;
	}
	number = wiped->numbers;
	if (wiped->thread_count >= SWEEP_ABOVE)
		thread = sweep(wiped);
	if (thread) {
		number = thread->number;
	} else {
		if (number >= TM_MAX_THREADS / 4 * 3)
			goto out;
		thread = pool_take(sizeof(*thread));
		if (!thread)
			goto out;
		wiped->numbers++;
	}
	number_process(wiped);
	thread_begin(thread, number);
	thread->tid = tid;

	i = thread_hash(thread_pointer);
	while (wiped->threads[i].thread_pointer > ENTRY_REMOVED)
		i = (i + 1) & (TM_MAX_THREADS - 1);
	wiped->threads[i].record = (uint64_t)thread;
	store_release(&wiped->threads[i].thread_pointer, thread_pointer);
	wiped->thread_count++;
out:
	lock_release(&wiped->threads_lock);
	return thread;
}

struct tm_thread *thread_self_slow(uint64_t thread_pointer)
{
	struct tm_thread_entry *entry = thread_entry(thread_pointer);

	return entry ? (struct tm_thread *)entry->record : thread_make(thread_pointer);
}

bool thread_any_other_inside(uint32_t owner)
{
	const struct tm_wiped *wiped = tm_wiped();
	uint32_t i;

	if (!wiped->thread_count)
		return false;
	for (i = 0; i < TM_MAX_THREADS; i++) {
		const struct tm_thread *thread = (const struct tm_thread *)wiped->threads[i].record;
		uint32_t state = thread ? load_relaxed(&thread->state) : THREAD_OUTSIDE;

		if (state != THREAD_OUTSIDE && state != THREAD_SUSPECT && thread->owner != owner)
			return true;
	}
	return false;
}

bool thread_any_inside(void)
{
	return thread_any_other_inside(UINT32_MAX);
}
