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
	struct tm_strings *strings;
	bool out_of_memory;
};

static const char *own_string(Dwarf_Die *die, unsigned int name)
{
	Dwarf_Attribute attribute;

	return dwarf_formstring(dwarf_attr(die, name, &attribute));
}

/* Names that would be cut are left out: NULL, as when memory runs out. */
static const char *join(struct walk *walk, const char *scope, const char *name)
{
	char joined[MAX_NAME];
	const char *kept;
	int needed;

	needed = snprintf(joined, sizeof(joined), "%s%s%s", scope, *scope ? "::" : "", name);
	if (needed < 0 || (size_t)needed >= sizeof(joined))
		return NULL;
	kept = tm_strings_keep(walk->strings, joined);
	if (!kept)
		walk->out_of_memory = true;
	return kept;
}

static void add_scope(struct walk *walk, const Dwarf_Die *die, const char *name)
{
	struct tm_scopes *scopes = walk->scopes;

	if (scopes->count == scopes->capacity) {
		size_t capacity = scopes->capacity ? scopes->capacity * 2 : 64;
		struct tm_scope *items = realloc(scopes->items, capacity * sizeof(*items));

		if (!items) {
			walk->out_of_memory = true;
			return;
		}
		scopes->items = items;
		scopes->capacity = capacity;
	}
	scopes->items[scopes->count++] = (struct tm_scope){.die = die->addr, .name = name};
}

static const char *find_unsorted(const struct tm_scopes *scopes, const void *die)
{
	for (size_t i = scopes->count; i > 0; i--)
		if (scopes->items[i - 1].die == die)
			return scopes->items[i - 1].name;
	return NULL;
}

/* The full name of a function's DIE; NULL for copies of one (with DW_AT_abstract_origin). */
static const char *name_of_function(struct walk *walk, Dwarf_Die *die, const char *scope)
{
	const char *name = own_string(die, DW_AT_linkage_name);
	Dwarf_Attribute attribute;
	Dwarf_Die declaration;

	if (name && !strncmp(name, "_Z", 2))
		return tm_strings_keep_function(walk->strings, name);
	name = own_string(die, DW_AT_name);
	if (name) {
		name = join(walk, scope, name);
		if (name)
			add_scope(walk, die, name);
		return name;
	}
	if (!dwarf_formref_die(dwarf_attr(die, DW_AT_specification, &attribute), &declaration))
		return NULL;
	name = own_string(&declaration, DW_AT_linkage_name);
	if (name && !strncmp(name, "_Z", 2))
		return tm_strings_keep_function(walk->strings, name);
	return find_unsorted(walk->scopes, declaration.addr);
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

static void walk_scopes(struct walk *walk, Dwarf_Die *parent, const char *scope, unsigned int depth)
{
	Dwarf_Die die;

	if (!scope || depth > MAX_DEPTH || !tm_die_child(&walk->dies, parent, &die))
		return;
	do {
		const char *name;

		switch (dwarf_tag(&die)) {
		case DW_TAG_namespace:
			name = own_string(&die, DW_AT_name);
			name = join(walk, scope, name ? name : "(anonymous namespace)");
			walk_scopes(walk, &die, name, depth + 1);
			break;
		case DW_TAG_structure_type:
		case DW_TAG_class_type:
		case DW_TAG_union_type:
			name = join(walk, scope, name_of_class(&die));
			walk_scopes(walk, &die, name, depth + 1);
			break;
		case DW_TAG_subprogram:
			name = name_of_function(walk, &die, scope);
			walk_scopes(walk, &die, name, depth + 1);
			break;
		case DW_TAG_lexical_block:
			walk_scopes(walk, &die, scope, depth + 1);
			break;
		default:
			break;
		}
	} while (!walk->out_of_memory && tm_die_sibling(&walk->dies, &die));
}

static int compare_scopes(const void *left, const void *right)
{
	const struct tm_scope *a = left, *b = right;

	return (a->die > b->die) - (a->die < b->die);
}

bool tm_scopes_read(struct tm_scopes *scopes, Dwarf_Die *unit, struct tm_strings *strings,
		    bool *damaged)
{
	struct walk walk = {.scopes = scopes, .strings = strings};

	walk_scopes(&walk, unit, "", 0);
	*damaged |= walk.dies.damaged;
	if (scopes->count)
		qsort(scopes->items, scopes->count, sizeof(*scopes->items), compare_scopes);
	return !walk.out_of_memory;
}

const char *tm_scopes_find(const struct tm_scopes *scopes, const Dwarf_Die *die)
{
	const struct tm_scope wanted = {.die = die->addr};
	const struct tm_scope *found = NULL;

	if (scopes->count)
		found = bsearch(&wanted, scopes->items, scopes->count, sizeof(wanted),
				compare_scopes);
	return found ? found->name : NULL;
}

void tm_scopes_deinit(struct tm_scopes *scopes)
{
	free(scopes->items);
	*scopes = (struct tm_scopes){0};
}
