/*
 * Fills in the variables of tm.h in the program's modules, and zeroes them.
 *
 * A module may go at any moment, so each variable is read and written through
 * /proc/self/mem, where that is no fault, and zeroed only if it still holds
 * what was written there.  A thread may be stopped in the middle: it looks at
 * the state again after it wrote, so that nothing stays behind after a stop.
 */
#include "track.h"
#include "modules.h"
#include "sys.h"

/* entry.S */
extern const uint8_t tm_entry_track[] TM_HIDDEN;
extern const uint8_t tm_entry_untrack[] TM_HIDDEN;

/* struct tm_tracker of tm.h. */
struct tracker {
	uint64_t track, untrack;
};

#define MAX_TRACKERS 1024u

static uint64_t filled[MAX_TRACKERS]; /* addresses of variables; modules lock */
static uint32_t filled_count;         /* likewise */

/* Reckoned, not loaded: a compiler that keeps addresses as data needs a relocation for them. */
static uint64_t address_of(const uint8_t *code)
{
	__asm__("" : "+r"(code));
	return (uint64_t)code;
}

static bool is_ours(const struct tracker *tracker)
{
	return tracker->track == (uint64_t)tm_entry_track &&
	       tracker->untrack == (uint64_t)tm_entry_untrack;
}

static long open_mem(int flags)
{
	long fd = sys_openat(TM_AT_FDCWD, "/proc/thread-self/mem", flags | TM_O_CLOEXEC);

	return fd >= 0 ? fd : sys_openat(TM_AT_FDCWD, "/proc/self/mem", flags | TM_O_CLOEXEC);
}

static void write_tracker(int mem, uint64_t variable, const struct tracker *value)
{
	struct tracker *direct = (struct tracker *)variable;

	if (mem >= 0) {
		sys_pwrite(mem, value, sizeof(*value), variable);
	} else {
		/* It was just read; without /proc there is no way to be surer. */
		store_release(&direct->track, value->track);
		store_release(&direct->untrack, value->untrack);
	}
}

/* Room in the list for one more variable.  False when it is full. */
static bool list_add(uint64_t variable)
{
	uint32_t i, count = filled_count;

	for (i = 0; i < count; i++)
		if (filled[i] == variable)
			return true;
	if (count == MAX_TRACKERS)
		return false;
	filled[count] = variable;
	store_release(&filled_count, count + 1);
	return true;
}

void tm_track_found(int mem, uint64_t variable)
{
	const struct tracker ours = {address_of(tm_entry_track), address_of(tm_entry_untrack)};
	const struct tracker none = {0, 0};
	struct tracker now;
	int writable;

	if (load_acquire(&tm_header.state) != TM_STATE_TRACING || variable % 8 ||
	    !tm_object_peek(mem, variable, &now, sizeof(now)) || is_ours(&now) ||
	    !list_add(variable))
		return;
	writable = (int)open_mem(TM_O_RDWR);
	write_tracker(writable, variable, &ours);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (load_acquire(&tm_header.state) != TM_STATE_TRACING)
		write_tracker(writable, variable, &none);
	if (writable >= 0)
		sys_close(writable);
}

void tm_track_stop(void)
{
	const struct tracker none = {0, 0};
	uint32_t i, count = load_acquire(&filled_count);
	struct tracker now;
	int mem;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!count)
		return;
	mem = (int)open_mem(TM_O_RDWR);
	for (i = 0; i < count; i++)
		if (tm_object_peek(mem, filled[i], &now, sizeof(now)) && is_ours(&now))
			write_tracker(mem, filled[i], &none);
	if (mem >= 0)
		sys_close(mem);
	store_release(&filled_count, 0);
}
