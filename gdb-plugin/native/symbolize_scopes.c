/*
 * Full names of C++ and Rust functions that have no linkage name in DWARF
 * that can be demangled (members of anonymous namespaces and of local classes,
 * lambdas): put together from the scopes around their declaration.  See
 * symbolize_parts.h.
 *
 * May use: libdw.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 128u
#define MAX_NAME 4096u

struct walk {
	struct tm_die_walk dies;
	struct tm_scopes *scopes;
	bool out_of_memory;
};

static const char *own_string(Dwarf_Die *die, unsigned int name)
{
	Dwarf_Attribute attribute;

	return tm_attribute_text(dwarf_attr(die, name, &attribute));
}

/* ---- the tree of scopes ----------------------------------------------- */

static uint32_t add_scope(struct walk *walk, const Dwarf_Die *die, uint32_t parent)
{
	struct tm_scopes *scopes = walk->scopes;

	if (scopes->count == scopes->capacity) {
		size_t capacity = scopes->capacity ? scopes->capacity * 2 : 256;
		struct tm_scope *items = capacity < TM_NO_INDEX
						 ? realloc(scopes->items, capacity * sizeof(*items))
						 : NULL;

		if (!items) {
			walk->out_of_memory = true;
			return parent;
		}
		scopes->items = items;
		scopes->capacity = capacity;
	}
	scopes->items[scopes->count] = (struct tm_scope){.die = die->addr, .parent = parent};
	return (uint32_t)scopes->count++;
}

static void walk_scopes(struct walk *walk, Dwarf_Die *parent, uint32_t scope, unsigned int depth)
{
	Dwarf_Die die;

	if (depth > MAX_DEPTH || !tm_die_child(&walk->dies, parent, &die))
		return;
	do {
		uint32_t inner = scope;

		switch (dwarf_tag(&die)) {
		case DW_TAG_subprogram:
			/* A copy of a function that is elsewhere. */
			if (dwarf_hasattr(&die, DW_AT_abstract_origin))
				break;
			/* fall through */
		case DW_TAG_namespace:
		case DW_TAG_structure_type:
		case DW_TAG_class_type:
		case DW_TAG_union_type:
			inner = add_scope(walk, &die, scope);
			/* fall through */
		case DW_TAG_lexical_block:
			walk_scopes(walk, &die, inner, depth + 1);
			break;
		default:
			break;
		}
	} while (!walk->out_of_memory && tm_die_sibling(&walk->dies, &die));
}

bool tm_scopes_read(struct tm_scopes *scopes, Dwarf_Die *unit, struct tm_work *work, bool *damaged)
{
	struct walk walk = {.dies.work = work, .scopes = scopes};

	scopes->unit = unit->cu;
	walk_scopes(&walk, unit, TM_NO_INDEX, 0);
	*damaged |= walk.dies.damaged;
	return !walk.out_of_memory;
}

/* ---- names ------------------------------------------------------------ */

static const char *find_name(struct tm_scopes *scopes, const void *die, struct tm_strings *strings,
			     unsigned int steps);

/* Names that would be cut are left out: NULL, as when memory runs out. */
static const char *join(struct tm_strings *strings, const char *scope, const char *name)
{
	char joined[MAX_NAME];
	int needed;

	if (!scope)
		return NULL;
	needed = snprintf(joined, sizeof(joined), "%s%s%s", scope, *scope ? "::" : "", name);
	if (needed < 0 || (size_t)needed >= sizeof(joined))
		return NULL;
	return tm_strings_keep(strings, joined);
}

/* Also the start of "operator()<int>", as a lambda with `auto` has it. */
#define CALL "operator()"

/* Classes without a name: those that can be called are lambdas. */
static const char *name_of_class(Dwarf_Die *die)
{
	const char *name = own_string(die, DW_AT_name);
	struct tm_die_walk dies = {0};
	Dwarf_Die member;

	if (name)
		return name;
	if (tm_die_child(&dies, die, &member))
		do {
			if (dwarf_tag(&member) != DW_TAG_subprogram)
				continue;
			name = own_string(&member, DW_AT_name);
			if (name && !strncmp(name, CALL, strlen(CALL)))
				return "{lambda}";
		} while (tm_die_sibling(&dies, &member));
	return "(anonymous class)";
}

/* The last part of a scope's name; or with *whole all of it. */
static const char *own_name(struct tm_scopes *scopes, Dwarf_Die *die, struct tm_strings *strings,
			    unsigned int steps, bool *whole)
{
	Dwarf_Attribute attribute;
	Dwarf_Die declaration;
	const char *name;

	switch (dwarf_tag(die)) {
	case DW_TAG_namespace:
		name = own_string(die, DW_AT_name);
		return name ? name : "(anonymous namespace)";
	case DW_TAG_subprogram:
		break;
	default:
		return name_of_class(die);
	}
	name = own_string(die, DW_AT_linkage_name);
	if (name && !strncmp(name, "_Z", 2)) {
		*whole = true;
		return tm_strings_keep_function(strings, name);
	}
	name = own_string(die, DW_AT_name);
	if (name)
		return name;
	*whole = true;
	if (!dwarf_formref_die(dwarf_attr(die, DW_AT_specification, &attribute), &declaration))
		return NULL;
	name = own_string(&declaration, DW_AT_linkage_name);
	if (name && !strncmp(name, "_Z", 2))
		return tm_strings_keep_function(strings, name);
	return find_name(scopes, declaration.addr, strings, steps);
}

static const char *full_name(struct tm_scopes *scopes, uint32_t index, struct tm_strings *strings,
			     unsigned int steps)
{
	struct tm_scope *scope;
	bool whole = false;
	Dwarf_Die die;
	const char *name;

	if (index == TM_NO_INDEX)
		return "";
	if (!steps)
		return NULL;
	scope = &scopes->items[index];
	if (!scope->named) {
		die = (Dwarf_Die){.addr = (void *)scope->die, .cu = scopes->unit};
		name = own_name(scopes, &die, strings, steps - 1, &whole);
		if (name && !whole)
			name = join(strings, full_name(scopes, scope->parent, strings, steps - 1),
				    name);
		scope->name = name;
		scope->named = true;
	}
	return scope->name;
}

static int compare_scopes(const void *left, const void *right)
{
	const struct tm_scope *a = left, *b = right;

	return (a->die > b->die) - (a->die < b->die);
}

/* They were found in the order of their addresses. */
static const char *find_name(struct tm_scopes *scopes, const void *die, struct tm_strings *strings,
			     unsigned int steps)
{
	const struct tm_scope wanted = {.die = die};
	const struct tm_scope *found = NULL;

	if (scopes->count)
		found = bsearch(&wanted, scopes->items, scopes->count, sizeof(wanted),
				compare_scopes);
	return found ? full_name(scopes, (uint32_t)(found - scopes->items), strings, steps) : NULL;
}

const char *tm_scopes_find(struct tm_scopes *scopes, const Dwarf_Die *die,
			   struct tm_strings *strings)
{
	return find_name(scopes, die->addr, strings, MAX_DEPTH);
}

void tm_scopes_deinit(struct tm_scopes *scopes)
{
	free(scopes->items);
	*scopes = (struct tm_scopes){0};
}
