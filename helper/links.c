/*
 * The loader's own lists of objects (link.h's struct r_debug), for what was added and
 * taken away since they were last looked at.
 *
 * They are read in the loader's notice alone, where its lock is held: elsewhere a node
 * may go while it is read.  The kernel is asked whether each page can be read.  An object
 * is never listed by the loader's word: what it tells decides where maps.c looks.
 */
#include "modules.h"
#include "sys.h"
#include "unwind.h"

/* struct link_map, as far as it is public */
struct node {
	uint64_t bias, name, dynamic, next, previous;
};

/* struct r_debug and, from version 2 on, struct r_debug_extended */
struct debug {
	uint32_t version;
	uint64_t nodes, notice;
	uint32_t state;
	uint64_t loader;
	uint64_t next; /* of another namespace (dlmopen(3)) */
};

#define CONSISTENT 0u
#define EXTENDED 2u
#define MAX_NAMESPACES 64u
#define MAX_NODES 65536u

static uint64_t first_debug; /* modules lock */

/* ---- reading ------------------------------------------------------------ */

static uint64_t readable; /* the page that was found so last; modules lock */

static bool can_read(uint64_t address, uint64_t size)
{
	uint64_t page = address & ~(uint64_t)(TM_PAGE - 1);

	if (!address || address % 8)
		return false;
	for (; page < address + size; page += TM_PAGE) {
		if (page == readable)
			continue;
		if (!tm_is_readable(page))
			return false;
		readable = page;
	}
	return true;
}

static const struct debug *debug_at(uint64_t address)
{
	return can_read(address, offsetof(struct debug, next)) ? (const struct debug *)address
							       : NULL;
}

/* The next namespace: NULL after the last, *ret_whole tells whether that is known. */
static const struct debug *next_debug(const struct debug *debug, bool *ret_whole)
{
	const struct debug *next;

	*ret_whole = debug->version < EXTENDED || can_read((uint64_t)&debug->next, 8);
	if (debug->version < EXTENDED || !*ret_whole || !debug->next)
		return NULL;
	next = debug_at(debug->next);
	*ret_whole = next;
	return next;
}

void tm_links_found(uint64_t address)
{
	const struct debug *debug;

	readable = 0;
	debug = debug_at(address);
	if (debug && debug->version && debug->nodes && debug->notice)
		store_release(&first_debug, address);
}

bool tm_links_known(void)
{
	return load_acquire(&first_debug);
}

/* ---- what changed --------------------------------------------------------- */

/* The low bits of a node that is known: what was found of it this time. */
#define SEEN UINT64_C(2)
#define SEEN_AS_OTHER UINT64_C(4)
#define NODE_BITS UINT64_C(7)

/* To be looked at, when size is 0; otherwise a range where nothing is any more. */
struct change {
	uint64_t address, size, node;
};

#define MAX_CHANGES 16u

static struct change changes[MAX_CHANGES]; /* modules lock, as all that follows */
static uint32_t change_count;
static bool is_explained; /* the loader's lists are not what they were */

static bool add_change(uint64_t address, uint64_t size, uint64_t node)
{
	if (change_count == MAX_CHANGES)
		return false;
	changes[change_count++] = (struct change){address, size, node};
	return true;
}

/* Objects that hold no code are in no list. */
#define MAX_VAIN 64u

static struct {
	uint64_t node, dynamic;
	bool seen;
} vain[MAX_VAIN];

static bool see_vain(const struct node *node)
{
	uint32_t i;

	for (i = 0; i < MAX_VAIN; i++)
		if (vain[i].node == (uint64_t)node && vain[i].dynamic == node->dynamic) {
			vain[i].seen = true;
			return true;
		}
	return false;
}

static void add_vain(uint64_t node, uint64_t dynamic)
{
	uint32_t i;

	for (i = 0; i < MAX_VAIN; i++)
		if (!vain[i].node) {
			vain[i].node = node;
			vain[i].dynamic = dynamic;
			return;
		}
}

/* Forgets those that were not seen. */
static void end_vain(void)
{
	uint32_t i;

	for (i = 0; i < MAX_VAIN; i++) {
		if (vain[i].node && !vain[i].seen) {
			vain[i].node = 0;
			is_explained = true;
		}
		vain[i].seen = false;
	}
}

/* The place of the module that a node of the loader's describes, or -1. */
static int64_t place_of(const struct node *node)
{
	const struct tm_module *modules =
		tm_module_array((struct tm_module_list *)tm_header.modules);
	int64_t at = tm_lists_place(node->dynamic);

	if (at < 0 || node->dynamic >= modules[at].end || tm_module_is_gone(&modules[at]) ||
	    modules[at].bias != node->bias)
		return -1;
	return at;
}

static bool see_node(const struct node *node)
{
	uint64_t *known;
	int64_t at = place_of(node);

	if (at < 0) {
		if (see_vain(node))
			return true;
		is_explained = true;
		return add_change(node->dynamic, 0, (uint64_t)node);
	}
	known = &tm_lists_nodes()[at];
	if (*known == TM_NODE_NONE)
		return false; /* no object, and yet one of the loader's */
	if (!*known)
		*known = (uint64_t)node;
	*known |= (*known & ~NODE_BITS) == (uint64_t)node ? SEEN : SEEN_AS_OTHER;
	return true;
}

/* False when something is not as it should be. */
static bool see_nodes(void)
{
	const struct debug *debug = debug_at(first_debug);
	uint32_t count = 0, namespaces = 0;
	bool whole = debug;

	for (; debug && namespaces < MAX_NAMESPACES; namespaces++) {
		uint64_t at = debug->nodes;

		for (; at; at = ((const struct node *)at)->next)
			if (++count > MAX_NODES || !can_read(at, sizeof(struct node)) ||
			    !see_node((const struct node *)at))
				return false;
		debug = next_debug(debug, &whole);
	}
	return whole && !debug;
}

/* What was not seen is gone, if it was seen before; one that never was is looked at. */
static bool see_modules(void)
{
	struct tm_module_list *list = (struct tm_module_list *)tm_header.modules;
	uint64_t *nodes = tm_lists_nodes();
	bool result = true;
	uint32_t i;

	for (i = 0; i < list->count; i++) {
		const struct tm_module *module = &tm_module_array(list)[i];
		uint64_t found = nodes[i] & NODE_BITS;

		if (nodes[i] == TM_NODE_NONE)
			continue;
		nodes[i] &= ~NODE_BITS;
		if (found & SEEN)
			continue;
		if (!nodes[i]) {
			result = result && add_change(module->text_start, 0, 0);
			continue;
		}
		is_explained = true;
		/* Another one is there now: the whole map tells what else changed. */
		result = result && !found &&
			 add_change(module->start, module->end - module->start, 0);
	}
	return result;
}

/* ---- publishing it -------------------------------------------------------- */

static bool take_away(void)
{
	struct tm_module_build nothing;
	uint32_t i;

	for (i = 0; i < change_count; i++) {
		uint64_t start = changes[i].address;

		if (!changes[i].size)
			continue;
		if (tm_lists_begin(&nothing, 0, 1) < 0 ||
		    tm_lists_publish(&nothing, start, start + changes[i].size) < 0)
			return false;
	}
	return true;
}

static TM_NOINLINE bool is_listed(uint64_t address)
{
	struct tm_module module;

	return tm_modules_find(address, &module);
}

static bool look_at_new(void)
{
	uint32_t i;

	for (i = 0; i < change_count; i++) {
		const struct node *node = (const struct node *)changes[i].node;
		int64_t at;

		if (changes[i].size)
			continue;
		/* A look may have brought several. */
		if ((!node || place_of(node) < 0) && tm_modules_look(changes[i].address) < 0)
			return false;
		if (!node) {
			is_explained = is_explained || !is_listed(changes[i].address);
			continue;
		}
		at = place_of(node);
		if (at < 0)
			add_vain((uint64_t)node, node->dynamic);
		else if (!tm_lists_nodes()[at])
			tm_lists_nodes()[at] = (uint64_t)node;
	}
	return true;
}

bool tm_links_follow(void)
{
	bool clear;

	if (!tm_header.modules)
		return false;
	readable = 0;
	change_count = 0;
	is_explained = false;
	clear = see_nodes();
	clear = see_modules() && clear; /* in any case: it wipes the marks */
	end_vain();
	return clear && take_away() && look_at_new() && is_explained;
}

/* ---- in the middle of a change ---------------------------------------------- */

bool tm_links_busy(void)
{
	const struct debug *debug = debug_at(first_debug);
	uint32_t namespaces;
	bool whole;

	readable = 0;
	for (namespaces = 0; debug && namespaces < MAX_NAMESPACES; namespaces++) {
		if (debug->state != CONSISTENT)
			return true;
		debug = next_debug(debug, &whole);
	}
	return false;
}
