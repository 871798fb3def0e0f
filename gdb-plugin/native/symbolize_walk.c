/*
 * Walks over DIEs and lists of ranges that end whatever the file holds, or when
 * the user wants it: see symbolize_parts.h.
 *
 * May use: libdw.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

#include <time.h>

#define TOLD_EVERY INT64_C(100000000) /* nanoseconds */
#define DIES_BETWEEN 256u             /* two looks at the clock */

void tm_work_begin(struct tm_work *work, enum tm_work_kind kind, const char *path, uint64_t total)
{
	work->kind = kind;
	work->path = path;
	work->total = total;
}

bool tm_work_at(struct tm_work *work, uint64_t done)
{
	struct timespec now;
	int64_t at;

	if (work->stopped || !work->listener)
		return !work->stopped;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	at = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
	if (at < work->due)
		return true;
	work->due = at + TOLD_EVERY;
	work->stopped = work->listener(work->data, work->kind, work->path, done, work->total);
	return !work->stopped;
}

/* Of one DIE: with every function in a section of its own, a unit has one for each. */
#define MAX_RANGES (1u << 20)

/* DIEs are stored in the order in which a walk meets them (DWARF 5, 2.3). */
static bool go_on(struct tm_die_walk *walk, const Dwarf_Die *die, int result)
{
	if (!walk->first)
		walk->first = die->addr;
	if (walk->work && walk->count++ % DIES_BETWEEN == 0 && result == 0 &&
	    !tm_work_at(walk->work,
			(uint64_t)((const char *)die->addr - (const char *)walk->first)))
		return false;
	if (result == 0 && die->addr > walk->last) {
		walk->last = die->addr;
		return true;
	}
	if (result <= 0)
		walk->damaged = true;
	return false;
}

bool tm_die_child(struct tm_die_walk *walk, Dwarf_Die *parent, Dwarf_Die *ret)
{
	int result = dwarf_child(parent, ret);

	return go_on(walk, ret, result);
}

bool tm_die_sibling(struct tm_die_walk *walk, Dwarf_Die *die)
{
	int result = dwarf_siblingof(die, die);

	return go_on(walk, die, result);
}

bool tm_die_range(struct tm_range_walk *walk, Dwarf_Die *die, bool *damaged)
{
	if (walk->count++ < MAX_RANGES)
		walk->at = dwarf_ranges(die, walk->at, &walk->base, &walk->low, &walk->high);
	else
		walk->at = -1;
	if (walk->at < 0)
		*damaged = true;
	return walk->at > 0;
}
