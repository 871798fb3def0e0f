/*
 * Start, stop, clear: what the debugger calls.  A new table is made and
 * published, the old one retired: its memory goes when no thread stands in a
 * hook any more.
 */
#include "control.h"
#include "arena.h"
#include "counter.h"
#include "lock.h"
#include "modules.h"
#include "route.h"
#include "sample.h"
#include "table.h"
#include "thread.h"
#include "track.h"

_Static_assert(offsetof(struct tm_generation, retired) == 64, "as tm_layout.h says");

/* Provided by the linker script. */
extern char tm_image_start[] TM_HIDDEN;
extern char tm_image_end[] TM_HIDDEN;

void *tm_canary_alloc(size_t size) TM_HIDDEN;
void tm_canary_free(void *block) TM_HIDDEN;

__attribute__((section(".data.header"), aligned(4096))) struct tm_header tm_header = {
	.version = TM_LAYOUT_VERSION,
	.header_size = sizeof(struct tm_header),
};

__attribute__((section(".bss.wiped"), aligned(4096))) struct tm_wiped tm_wiped_memory;

/* Room for libgcc's struct object, in which it keeps that our .eh_frame is registered. */
uint64_t tm_frame_object[16] TM_HIDDEN;

/* The function that undoes that, of the same libgcc; 0: not registered.  Written by the debugger. */
uint64_t tm_frame_deregister TM_HIDDEN;

static struct tm_patch patches[TM_MAX_PATCHES];
static struct tm_relay_region relays[TM_MAX_RELAY_REGIONS];

long tm_control_init(void)
{
	struct tm_header *header = &tm_header;

	header->self = (uint64_t)header;
	header->image_start = (uint64_t)tm_image_start;
	header->image_end = (uint64_t)tm_image_end;
	header->pid = (uint32_t)sys_getpid();
	header->patches = (uint64_t)patches;
	header->relays = (uint64_t)relays;
	header->threads = (uint64_t)&tm_wiped_memory;
	header->thread_entries = (uint64_t)tm_wiped_memory.threads;
	header->memory = header->image_end - header->image_start;
	/* Before Linux 4.14 it fails: then a child of fork may lose records, and counts them. */
	sys_madvise((uint64_t)&tm_wiped_memory, sizeof(tm_wiped_memory), TM_MADV_WIPEONFORK);
	store_release(&header->magic, TM_MAGIC);
	return 0;
}

/* ---- generations ------------------------------------------------------- */

static void generation_destroy(struct tm_generation *generation)
{
	if (generation->locks)
		arena_unmap_alone((void *)generation->locks, sizeof(struct tm_locks));
	arena_unmap_all(generation);
	arena_unmap_alone(generation, TM_PAGE);
}

/* No two generations have the same: threads know by it whose tracebacks they remember. */
static uint32_t last_id;

static struct tm_generation *generation_new(uint32_t limit, uint64_t sample_period,
					    uint64_t min_size)
{
	struct tm_generation *generation = arena_map_alone(TM_PAGE);

	if (!generation)
		return NULL;
	generation->limit = limit;
	generation->id = ++last_id;
	generation->sample_period = sample_period;
	generation->min_size = min_size;
	if (sample_period || min_size)
		generation->filter = (uint64_t)tm_sample_filter;
	generation->locks = (uint64_t)arena_map_alone(sizeof(struct tm_locks));
	arena_wipe_on_fork((void *)generation->locks, sizeof(struct tm_locks));
	generation->counters =
		(uint64_t)arena_map(generation, TM_MAX_THREADS * sizeof(struct tm_counter));
	if (!generation->locks || !generation->counters || table_init(generation) ||
	    traceback_init(generation)) {
		generation_destroy(generation);
		return NULL;
	}
	return generation;
}

/* Before a generation is published: nobody may take what belongs to another one for its own. */
static void announce(uint32_t id)
{
	static uint32_t announced;

	__atomic_fetch_add(&tm_recall_base, id - announced, __ATOMIC_ACQ_REL);
	announced = id;
}

/* Publishes a generation (or 0) in place of the old one. */
static void generation_publish(struct tm_generation *generation)
{
	struct tm_generation *old = (struct tm_generation *)tm_header.generation;

	if (generation)
		generation->retired = (uint64_t)old;
	announce(generation ? generation->id : ++last_id);
	store_release(&tm_header.generation, (uint64_t)generation);
	if (!old || thread_any_inside())
		return;
	/*
	 * Nobody stands in a hook: whatever is older than the new one can go.
	 * If it was overwritten and this ends in a fault, nobody comes back to it.
	 */
	if (generation)
		generation->retired = 0;
	while (old) {
		struct tm_generation *older = (struct tm_generation *)old->retired;

		generation_destroy(old);
		old = older;
	}
}

static long generation_replace(uint32_t limit, uint64_t sample_period, uint64_t min_size)
{
	struct tm_generation *new = generation_new(limit, sample_period, min_size);

	if (!new)
		return -TM_ENOMEM;
	generation_publish(new);
	return 0;
}

static void set_state(uint32_t state)
{
	store_release(&tm_header.state, state);
	tm_route_all();
}

/* ---- what the debugger calls ------------------------------------------- */

long tm_control_start(uint32_t limit, uint64_t sample_period, uint64_t min_size, uint64_t seed)
{
	struct tm_timespec now = {0, 0};
	long error;

	if (limit < 1 || limit > TM_MAX_FRAMES || min_size > TM_SAMPLE_MAX ||
	    (sample_period && sample_period < TM_SAMPLE_MIN) || sample_period > TM_SAMPLE_MAX)
		return -TM_EINVAL;
	if ((sample_period || min_size) && !sample_reserve())
		return -TM_ENOMEM;
	error = generation_replace(limit, sample_period, min_size);
	if (error)
		return error;
	tm_header.sample_seed = seed;
	sample_begin((const struct tm_generation *)tm_header.generation);
	sys_clock_gettime(TM_CLOCK_REALTIME, &now);
	tm_header.start_time = (uint64_t)now.seconds * 1000000000u + (uint64_t)now.nanoseconds;
	tm_header.dropped = 0;
	set_state(TM_STATE_TRACING);
	tm_modules_refresh(); /* while tracing: it fills in the variables of tm.h, too */
	return 0;
}

long tm_control_reserve(void)
{
	return sample_reserve() ? (long)tm_sample_filter : -TM_ENOMEM;
}

/* The empty table that stays is for hooks that were stopped in the middle. */
long tm_control_stop(void)
{
	set_state(TM_STATE_IDLE);
	sample_end();
	tm_track_stop();
	if (generation_replace(1, 0, 0) && !thread_any_inside())
		generation_publish(NULL); /* there is no memory for one, and no need */
	return 0;
}

long tm_control_route(void)
{
	tm_route_all();
	return 0;
}

long tm_control_clear(void)
{
	const struct tm_generation *old = (const struct tm_generation *)tm_header.generation;

	long error = generation_replace(old->limit, old->sample_period, old->min_size);

	if (!error) {
		tm_header.dropped = 0;
		sample_begin((const struct tm_generation *)tm_header.generation);
	}
	return error;
}

/* Stubs of libtm-preload.so lead straight to what they stand in for. */
static void release_stubs(void)
{
	struct tm_patch *all = (struct tm_patch *)tm_header.patches;
	uint32_t i;

	for (i = 0; i < tm_header.patch_count && i < TM_MAX_PATCHES; i++) {
		if (all[i].length)
			continue;
		all[i].entry = all[i].lead = 0;
		if (all[i].original)
			all[i].relay = all[i].original;
	}
}

/*
 * Of the helper's memory only its image and the relays are left; the debugger,
 * which has seen that no thread stands in either, takes those.
 */
long tm_control_unmap(void)
{
	struct tm_generation *generation = (struct tm_generation *)tm_header.generation;

	if (tm_header.state != TM_STATE_IDLE)
		return -TM_EINVAL;
	store_release(&tm_header.magic, 0); /* nobody finds it any more */
	release_stubs();
	tm_header.generation = 0;
	while (generation) {
		struct tm_generation *older = (struct tm_generation *)generation->retired;

		generation_destroy(generation);
		generation = older;
	}
	tm_modules_unmap();
	sample_unmap();
	arena_unmap_forever();
	return 0;
}

long tm_control_reset_peak(void)
{
	struct tm_generation *generation = (struct tm_generation *)tm_header.generation;
	struct tm_counter *counters = (struct tm_counter *)generation->counters;
	uint32_t i, threads = tm_wiped()->numbers;
	int64_t current = generation->current;

	for (i = 0; i < threads; i++) {
		int64_t delta = tm_counter_delta(&counters[i]);

		current += delta;
		counter_set(&counters[i], delta, delta);
	}
	generation->peak = current;
	return 0;
}

long tm_control_map(uint64_t address, uint64_t size)
{
	const int fixed_noreplace = 0x100000;
	long result = sys_mmap(address, size, TM_PROT_READ | 4 /* PROT_EXEC */,
			       TM_MAP_PRIVATE | TM_MAP_ANONYMOUS | fixed_noreplace);

	/* Before Linux 4.17 the flag is only a hint. */
	if (!sys_failed(result) && (uint64_t)result != address) {
		sys_munmap((uint64_t)result, size);
		return -17; /* EEXIST */
	}
	return result;
}

long tm_control_tell_eh_frame(uint64_t object, uint64_t eh_frame)
{
	return tm_object_tell_eh_frame(object, eh_frame) ? 0 : -TM_ENOMEM;
}

long tm_control_map_text(uint64_t size)
{
	void *memory = arena_map_alone(size);

	return memory ? (long)memory : -TM_ENOMEM;
}

long tm_control_tell_modules(uint64_t text, uint64_t size)
{
	long result = tm_modules_refresh_from((const char *)text, size);

	arena_unmap_alone((void *)text, size);
	return result;
}

/* With a table of its own: step by step what a recorded block goes through. */
static long run_canary(const struct tm_generation *generation)
{
	struct tm_block block;
	const struct tm_node *node;
	void *address = tm_canary_alloc(24);

	if (!table_find(generation, (uint64_t)address, 0, &block))
		return 2;
	if (block.size != 24)
		return 3;
	node = traceback_node(generation, block.traceback);
	if ((node->address & TM_NODE_ADDRESS_MASK) < (uint64_t)tm_image_start ||
	    (node->address & TM_NODE_ADDRESS_MASK) >= (uint64_t)tm_image_end)
		return 4;
	tm_canary_free(address);
	return table_find(generation, (uint64_t)address, 0, &block) ? 5 : 0;
}

/*
 * The thread that is made to run this may stand in the middle of a hook; its
 * record is left alone, and the canary runs with one of its own.
 */
long tm_control_canary(void)
{
	static struct tm_thread spare;
	static struct tm_vectors vectors; /* the thread was stopped anywhere, and needs them */
	struct tm_header *header = &tm_header;
	struct tm_thread *thread = thread_self();
	struct tm_thread_entry *entry = thread_entry(tm_thread_pointer());
	uint64_t generation = header->generation, dropped = header->dropped;
	struct tm_generation *own;
	long result;

	if (!thread || !entry)
		return 1;
	own = generation_new(1, 0, 0);
	if (!own)
		return -TM_ENOMEM;
	thread_begin(&spare, TM_MAX_THREADS - 1);
	entry->record = (uint64_t)&spare;
	announce(own->id); /* and stay there: the older one is not traced any more */
	header->generation = (uint64_t)own;
	set_state(TM_STATE_TRACING);
	tm_vectors_save(&vectors);
	result = run_canary(own);
	tm_vectors_restore(&vectors);
	if (result && header->dropped != dropped)
		result = -TM_ENOMEM;
	header->dropped = dropped;
	set_state(TM_STATE_IDLE);
	header->generation = generation;
	entry->record = (uint64_t)thread;
	generation_destroy(own);
	return result;
}
