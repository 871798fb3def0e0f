/*
 * When the list of modules is read anew, or a part of it.
 *
 * Uses maps.c to read it, lists.c to publish it, links.c to ask the loader.  Takes the
 * modules lock by trying alone, some times at most.
 */
#include "modules.h"
#include "lock.h"
#include "sys.h"
#include "unwind.h"

uint32_t tm_modules_seen_events;

/* Room for mappings that come between measuring, or the list before, and reading. */
#define SPARE_LINES 32u
#define SPARE_NAMES 2048u

/* Reads a part of the map, with room for so many, and publishes what it tells. */
static long read_part(const struct tm_maps_part *part, uint32_t room, uint32_t names_room)
{
	struct tm_module_build found;
	uint64_t high;
	long result = tm_lists_begin(&found, room + SPARE_LINES, names_room + SPARE_NAMES);

	if (result < 0)
		return result;
	result = tm_maps_read(&found, part, &high);
	return result < 0 ? result : tm_lists_publish(&found, part->low, high);
}

/*
 * The kernel takes a microsecond for a line of the map.  So it is read once,
 * unless much more is mapped than when the list before was made.
 */
static long refresh_locked(void)
{
	const struct tm_module_list *old = (const struct tm_module_list *)tm_header.modules;
	const struct tm_maps_part all = {0, UINT64_MAX};
	uint32_t lines, names;
	long result = -TM_EAGAIN;

	if (old)
		result = read_part(&all, old->count, old->names_size);
	if (result == -TM_EAGAIN) {
		result = tm_maps_measure(&lines, &names);
		if (result >= 0)
			result = read_part(&all, lines, names);
	}
	return result;
}

/* Objects are rarely mapped by the dozen between two looks. */
#define PART_LINES 64u

long tm_modules_look(uint64_t address)
{
	struct tm_module_list *list = (struct tm_module_list *)tm_header.modules;
	struct tm_maps_part part = {0, address};
	int64_t at = tm_lists_place(address);
	long result;

	/* From the end of the last one below that is mapped. */
	for (; at >= 0 && !part.low; at--) {
		const struct tm_module *module = &tm_module_array(list)[at];

		if (!tm_module_is_gone(module) && module->end <= address)
			part.low = module->end;
	}
	if (!list)
		return refresh_locked();
	result = read_part(&part, PART_LINES, PART_LINES * 64);
	return result == -TM_EAGAIN || result == -TM_ERANGE ? refresh_locked() : result;
}

static bool take_lock(void)
{
	uint32_t expected = 0;

	return __atomic_compare_exchange_n(&tm_wiped()->modules_lock, &expected, 1, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void give_lock(void)
{
	store_release(&tm_wiped()->modules_lock, 0);
}

long tm_modules_refresh(void)
{
	long result;

	if (!take_lock())
		return -TM_EAGAIN;
	result = refresh_locked();
	give_lock();
	return result;
}

long tm_modules_refresh_from(const char *text, uint64_t size)
{
	long result;

	if (!take_lock())
		return -TM_EAGAIN;
	tm_maps_use(text, size);
	result = refresh_locked();
	tm_maps_use(NULL, 0);
	give_lock();
	return result;
}

/* ---- the loader's word -------------------------------------------------- */

static bool was_busy; /* at the notice before; modules lock */

/*
 * Before a change nothing is to be done, if another notice follows, and after it what
 * the loader's lists tell.  Events that were not followed need the whole map.
 */
static bool follow_links(void)
{
	bool done, busy;

	if (sys_is_quiet() || !tm_links_known() ||
	    load_acquire(&tm_header.loader_events) != load_acquire(&tm_modules_seen_events) ||
	    !take_lock())
		return false;
	busy = tm_links_busy();
	done = busy ? !was_busy : tm_links_follow();
	was_busy = busy;
	give_lock();
	return done;
}

void tm_modules_loader_event(bool notice)
{
	if (!notice || !follow_links())
		add_relaxed(&tm_header.loader_events, 1);
	tm_unwind_forget_rules();
}

#define MOST_TURNS 400u /* of waiting: some 10 ms */

/*
 * While another thread reads the map, it may have read what was there before: a
 * walk with its list would end in the first function of a new object.  So this
 * waits, but not for long, as the other one may be stopped by the debugger.
 */
TM_NOINLINE bool tm_modules_loader_changed(void)
{
	uint32_t turns;

	for (turns = 0; turns < MOST_TURNS; turns++) {
		/* Read before the map is: what comes later is seen at the next call. */
		uint32_t events = load_acquire(&tm_header.loader_events);

		if (events == load_acquire(&tm_modules_seen_events))
			return true;
		if (tm_modules_refresh() != -TM_EAGAIN) {
			tm_unwind_forget_rules();
			store_release(&tm_modules_seen_events, events);
			return true;
		}
		lock_wait(turns);
	}
	return false;
}

/* ---- unknown addresses ------------------------------------------------ */

#define UNKNOWN_ENTRIES 64u
#define UNKNOWN_NANOSECONDS UINT64_C(1000000000) /* before an address is tried again */
#define REFRESH_NANOSECONDS UINT64_C(5000000)    /* between refreshes, at least … */
#define REFRESH_SHARE 20u                        /* … and so many times what one takes */
#define MAX_LIST_BYTES (UINT64_C(32) << 20)      /* for lists that cannot be used again */

/* Addresses that were in no module after a refresh, and when that was. */
struct unknown {
	uint64_t pc;
	uint64_t time;
};

static struct unknown unknowns[UNKNOWN_ENTRIES]; /* any thread, relaxed: a hint */
static uint64_t next_refresh;                    /* CLOCK_MONOTONIC; likewise */

static uint64_t now(void)
{
	struct tm_timespec time = {0, 0};

	sys_clock_gettime(TM_CLOCK_MONOTONIC, &time);
	return (uint64_t)time.seconds * UINT64_C(1000000000) + (uint64_t)time.nanoseconds;
}

uint32_t tm_modules_opens;
static uint32_t seen_opens; /* of those, how many need no further look; a hint as well */
static uint32_t vain_looks;

#define MAX_VAIN_LOOKS 4u

/* A dlopen mapped something, perhaps, that is worth a refresh at once. */
static bool is_opened(void)
{
	return load_relaxed(&tm_modules_opens) != load_relaxed(&seen_opens);
}

static void note_look(uint32_t opens, bool found)
{
	uint32_t looks = found ? MAX_VAIN_LOOKS : load_relaxed(&vain_looks) + 1;

	if (looks >= MAX_VAIN_LOOKS) {
		store_relaxed(&seen_opens, opens);
		looks = 0;
	}
	store_relaxed(&vain_looks, looks);
}

/*
 * One look is enough for an object of the loader's.  What else is executable comes in many
 * pieces, all of which the map tells at once, where the kernel cannot be asked for one.
 */
static long look_at(uint64_t pc, bool opened)
{
	long result;

	if (!take_lock())
		return -TM_EAGAIN;
	result = opened || tm_maps_can_ask() ? tm_modules_look(pc) : refresh_locked();
	give_lock();
	return result;
}

static TM_NOINLINE bool is_executable(uint64_t pc)
{
	struct tm_module module;

	return tm_modules_find(pc, &module) && tm_module_executes(&module, pc);
}

TM_NOINLINE bool tm_modules_on_unknown(uint64_t pc)
{
	struct unknown *entry = &unknowns[(pc ^ pc >> 12) % UNKNOWN_ENTRIES];
	uint32_t opens = load_relaxed(&tm_modules_opens);
	bool opened = is_opened(), found;
	uint64_t before, after;

	if (pc == 0 || pc >> TM_ADDRESS_BITS || sys_is_quiet())
		return false;
	before = now();
	if (load_relaxed(&entry->pc) == pc &&
	    before - load_relaxed(&entry->time) < UNKNOWN_NANOSECONDS)
		return false;
	if ((before < load_relaxed(&next_refresh) && !opened) ||
	    tm_lists_bytes() > MAX_LIST_BYTES || look_at(pc, opened) == -TM_EAGAIN)
		return false;
	found = is_executable(pc);
	after = now();
	if (!found || !tm_maps_can_ask())
		store_relaxed(&next_refresh,
			      after + REFRESH_NANOSECONDS + REFRESH_SHARE * (after - before));
	note_look(opens, found);
	if (!found) {
		store_relaxed(&entry->pc, pc);
		store_relaxed(&entry->time, after);
	}
	return found;
}
