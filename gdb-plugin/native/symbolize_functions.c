/*
 * What functions are called, by DWARF: see symbolize_parts.h.  A function that
 * was inlined a thousand times is named once.
 *
 * May use: libdw.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHAIN 128u /* of references from one DIE to the next */

static const char *string_attribute(Dwarf_Die *die, unsigned int name)
{
	Dwarf_Attribute attribute;

	return tm_attribute_text(dwarf_attr_integrate(die, name, &attribute));
}

/* ---- scopes ----------------------------------------------------------- */

static bool has_scopes(int language)
{
	return language == DW_LANG_C_plus_plus || language == DW_LANG_C_plus_plus_03 ||
	       language == DW_LANG_C_plus_plus_11 || language == DW_LANG_C_plus_plus_14 ||
	       language == DW_LANG_ObjC_plus_plus || language == DW_LANG_Rust;
}

/* Where a function was declared: behind the copies and the definition. */
static Dwarf_Die find_declaration(Dwarf_Die *die, bool *damaged)
{
	Dwarf_Attribute attribute;
	Dwarf_Die at = *die, next;

	for (unsigned int steps = 0; steps < MAX_CHAIN; steps++) {
		if (!dwarf_formref_die(dwarf_attr(&at, DW_AT_abstract_origin, &attribute), &next) &&
		    !dwarf_formref_die(dwarf_attr(&at, DW_AT_specification, &attribute), &next))
			return at;
		at = next;
	}
	*damaged = true; /* in a circle */
	return at;
}

/* The declarations of the unit, read the first time; NULL when memory runs out. */
static struct tm_scopes *scopes_of(struct tm_object *object, Dwarf_Die *unit)
{
	struct tm_scopes *scopes;

	for (size_t i = 0; i < object->scope_count; i++)
		if (object->scopes[i].unit == unit->cu)
			return &object->scopes[i];
	scopes = realloc(object->scopes, (object->scope_count + 1) * sizeof(*scopes));
	if (!scopes)
		return NULL;
	object->scopes = scopes;
	scopes += object->scope_count;
	*scopes = (struct tm_scopes){0};
	object->scope_count++;
	tm_work_begin(object->work, TM_WORK_READING, object->path, 0);
	return tm_scopes_read(scopes, unit, object->work, &object->damaged) ? scopes : NULL;
}

/* For a function in scopes without a linkage name; NULL for any other. */
static const char *scoped_name(struct tm_object *object, Dwarf_Die *die, struct tm_strings *strings)
{
	Dwarf_Die declaration = find_declaration(die, &object->damaged), unit;
	struct tm_scopes *scopes;

	if (!dwarf_diecu(&declaration, &unit, NULL, NULL) || !has_scopes(dwarf_srclang(&unit)))
		return NULL;
	scopes = scopes_of(object, &unit);
	return scopes ? tm_scopes_find(scopes, &declaration, strings) : NULL;
}

/* ---- names ------------------------------------------------------------ */

static const char *make_name(struct tm_object *object, Dwarf_Die *die, struct tm_strings *strings)
{
	const char *name = string_attribute(die, DW_AT_linkage_name);

	if (!name)
		name = string_attribute(die, DW_AT_MIPS_linkage_name);
	/* A linkage name that is not mangled is an assembler's label: the name says more. */
	if (name && !strncmp(name, "_Z", 2))
		return tm_strings_keep_function(strings, name);
	name = scoped_name(object, die, strings);
	if (!name)
		name = string_attribute(die, DW_AT_name);
	return name ? tm_strings_keep(strings, name) : NULL;
}

static struct tm_function_name *slot_of(struct tm_function_name *slots, size_t mask,
					const void *die)
{
	size_t slot = ((uintptr_t)die * UINT64_C(0x9e3779b97f4a7c15) >> 20) & mask;

	while (slots[slot].die && slots[slot].die != die)
		slot = (slot + 1) & mask;
	return &slots[slot];
}

static bool grow(struct tm_object *object)
{
	size_t old = object->names ? object->name_mask + 1 : 0, slots = old ? old * 2 : 256;
	struct tm_function_name *names = calloc(slots, sizeof(*names));

	if (!names)
		return false;
	for (size_t i = 0; i < old; i++)
		if (object->names[i].die)
			*slot_of(names, slots - 1, object->names[i].die) = object->names[i];
	free(object->names);
	object->names = names;
	object->name_mask = slots - 1;
	return true;
}

const char *tm_object_function_name(struct tm_object *object, Dwarf_Die *die,
				    struct tm_strings *strings)
{
	struct tm_function_name *known;
	Dwarf_Attribute attribute;
	Dwarf_Die origin;

	if (!dwarf_formref_die(dwarf_attr(die, DW_AT_abstract_origin, &attribute), &origin))
		return make_name(object, die, strings);
	if ((!object->names || object->name_count * 2 > object->name_mask) && !grow(object))
		return NULL;
	known = slot_of(object->names, object->name_mask, origin.addr);
	if (!known->die) {
		*known = (struct tm_function_name){
			.die = origin.addr,
			.name = make_name(object, &origin, strings),
		};
		object->name_count++;
	}
	return known->name;
}

bool tm_die_is_stub(Dwarf_Die *die)
{
	const char *name = string_attribute(die, DW_AT_linkage_name);

	if (!name)
		name = string_attribute(die, DW_AT_name);
	return name && tm_is_stub_name(name);
}

void tm_object_names_deinit(struct tm_object *object)
{
	for (size_t i = 0; i < object->scope_count; i++)
		tm_scopes_deinit(&object->scopes[i]);
	free(object->scopes);
	free(object->names);
	object->scopes = NULL;
	object->scope_count = 0;
	object->names = NULL;
	object->name_count = 0;
}
