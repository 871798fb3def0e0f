/*
 * Walks over DIEs and lists of ranges that end whatever the file holds: see
 * symbolize_parts.h.
 *
 * May use: libdw.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

/* Of one DIE: with every function in a section of its own, a unit has one for each. */
#define MAX_RANGES (1u << 20)

/* DIEs are stored in the order in which a walk meets them (DWARF 5, 2.3). */
static bool go_on(struct tm_die_walk *walk, const Dwarf_Die *die, int result)
{
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
