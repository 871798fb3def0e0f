/*
 * Frames by address from DWARF: see symbolize_parts.h.  Units, functions and
 * inlined calls are read when an address first falls into them, and kept.
 *
 * May use: libdw.  Must not use: Python, gdb.
 */
#include "symbolize_parts.h"

#include <dwarf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 128u /* of DIEs in one another */
#define MAX_PATH_LENGTH 4096u

/* A call that was inlined, at one run of addresses; in the order of the tree. */
struct inlined_call {
	uint64_t low;
	uint64_t high;
	Dwarf_Die die;
	const char *name; /* once it was asked for */
	uint32_t depth;   /* 1: into the function itself */
};

struct function {
	Dwarf_Die die;
	uint64_t entry;
	const char *name; /* once it was asked for; or NULL */
	bool read;
	bool stub; /* a thunk: no traceback shows it */
	struct inlined_call *calls;
	size_t call_count;
	size_t call_capacity;
};

/* Names of a unit's files, once they were asked for. */
struct files {
	Dwarf_Files *of;
	const char **names;
	size_t count;
};

struct tm_unit {
	Dwarf_Die die;    /* with the line table */
	Dwarf_Die source; /* with the functions: the same, or of the split unit */
	bool incomplete;  /* a skeleton without its split unit: a package may have it */
	bool read;
	bool read_deep; /* functions inside functions too */
	struct function *functions;
	size_t function_count;
	size_t function_capacity;
	struct tm_ranges ranges; /* of the functions */
	struct files line_files; /* of `die` … */
	struct files call_files; /* … and of `source` */
};

/* What one walk fills. */
struct walk {
	struct tm_die_walk dies;
	struct tm_unit *unit;
	bool deep;       /* also into functions */
	bool into_types; /* functions can be defined inside types */
	bool out_of_memory;
};

/* ---- functions of a unit ---------------------------------------------- */

static bool add_ranges(Dwarf_Die *die, struct tm_ranges *ranges, uint32_t index, bool *damaged)
{
	struct tm_range_walk walk = {0};

	while (tm_die_range(&walk, die, damaged)) {
		/* What the linker threw away was left at address 0. */
		if (walk.low && !tm_ranges_add(ranges, walk.low, walk.high, index))
			return false;
	}
	return true;
}

static void add_function(struct walk *walk, Dwarf_Die *die)
{
	struct tm_unit *unit = walk->unit;
	size_t ranges = unit->ranges.count;
	struct function *function;
	Dwarf_Addr entry;

	if (unit->function_count == unit->function_capacity) {
		size_t capacity = unit->function_capacity ? unit->function_capacity * 2 : 32;
		struct function *functions =
			realloc(unit->functions, capacity * sizeof(*functions));

		if (!functions) {
			walk->out_of_memory = true;
			return;
		}
		unit->functions = functions;
		unit->function_capacity = capacity;
	}
	if (!add_ranges(die, &unit->ranges, (uint32_t)unit->function_count, &walk->dies.damaged))
		walk->out_of_memory = true;
	if (unit->ranges.count == ranges)
		return;
	if (dwarf_entrypc(die, &entry) != 0)
		entry = unit->ranges.items[ranges].low;
	function = &unit->functions[unit->function_count++];
	*function = (struct function){.die = *die, .entry = entry};
}

static bool is_type(int tag)
{
	return tag == DW_TAG_structure_type || tag == DW_TAG_class_type ||
	       tag == DW_TAG_union_type || tag == DW_TAG_enumeration_type ||
	       tag == DW_TAG_interface_type;
}

static void walk_functions(struct walk *walk, Dwarf_Die *parent, unsigned int depth)
{
	Dwarf_Die die;

	if (depth > MAX_DEPTH || !tm_die_child(&walk->dies, parent, &die))
		return;
	do {
		int tag = dwarf_tag(&die);

		if (tag == DW_TAG_subprogram &&
		    (dwarf_hasattr(&die, DW_AT_low_pc) || dwarf_hasattr(&die, DW_AT_ranges)))
			add_function(walk, &die);
		if (tag == DW_TAG_namespace || tag == DW_TAG_module ||
		    (walk->into_types && is_type(tag)) ||
		    (walk->deep && (tag == DW_TAG_subprogram || tag == DW_TAG_lexical_block)))
			walk_functions(walk, &die, depth + 1);
	} while (!walk->out_of_memory && tm_die_sibling(&walk->dies, &die));
}

static bool is_c_family(int language)
{
	switch (language) {
	case DW_LANG_C:
	case DW_LANG_C89:
	case DW_LANG_C99:
	case DW_LANG_C11:
	case DW_LANG_C_plus_plus:
	case DW_LANG_C_plus_plus_03:
	case DW_LANG_C_plus_plus_11:
	case DW_LANG_C_plus_plus_14:
	case DW_LANG_ObjC:
	case DW_LANG_ObjC_plus_plus:
	case DW_LANG_Mips_Assembler:
		return true;
	default:
		return false;
	}
}

static void unit_forget_functions(struct tm_unit *unit)
{
	for (size_t i = 0; i < unit->function_count; i++)
		free(unit->functions[i].calls);
	free(unit->functions);
	tm_ranges_deinit(&unit->ranges);
	unit->functions = NULL;
	unit->function_count = 0;
	unit->function_capacity = 0;
}

static bool read_unit(struct tm_object *object, struct tm_unit *unit, bool deep)
{
	struct walk walk = {.dies.work = object->work, .unit = unit, .deep = deep};

	if (unit->incomplete)
		tm_object_packaged_unit(object, &unit->die, &unit->source);
	unit->incomplete = false;
	walk.into_types = deep || !is_c_family(dwarf_srclang(&unit->source));
	unit_forget_functions(unit);
	tm_work_begin(object->work, TM_WORK_READING, object->path, 0);
	walk_functions(&walk, &unit->source, 0);
	tm_ranges_sort(&unit->ranges);
	object->damaged |= walk.dies.damaged;
	unit->read = true;
	unit->read_deep = deep;
	return !walk.out_of_memory;
}

static struct function *find_function(struct tm_object *object, struct tm_unit *unit,
				      uint64_t address, bool *ok)
{
	uint32_t index;

	if (!unit->read && !read_unit(object, unit, false))
		*ok = false;
	index = tm_ranges_find(&unit->ranges, address);
	/* Some languages, and an extension of C, define functions inside functions. */
	if (index == TM_NO_INDEX && !unit->read_deep) {
		if (!read_unit(object, unit, true))
			*ok = false;
		index = tm_ranges_find(&unit->ranges, address);
	}
	return index == TM_NO_INDEX ? NULL : &unit->functions[index];
}

/* ---- inlined calls of a function -------------------------------------- */

static bool add_call(struct function *function, const struct inlined_call *call)
{
	if (call->high <= call->low)
		return true;
	if (function->call_count == function->call_capacity) {
		size_t capacity = function->call_capacity ? function->call_capacity * 2 : 16;
		struct inlined_call *calls = realloc(function->calls, capacity * sizeof(*calls));

		if (!calls)
			return false;
		function->calls = calls;
		function->call_capacity = capacity;
	}
	function->calls[function->call_count++] = *call;
	return true;
}

static bool walk_calls(struct tm_die_walk *walk, struct function *function, Dwarf_Die *parent,
		       unsigned int level, uint32_t depth)
{
	struct inlined_call call;

	if (level > MAX_DEPTH || !tm_die_child(walk, parent, &call.die))
		return true;
	do {
		int tag = dwarf_tag(&call.die);
		struct tm_range_walk ranges = {0};
		uint32_t inner = depth;

		if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_lexical_block)
			continue;
		call.depth = depth + 1;
		call.name = NULL;
		while (tag == DW_TAG_inlined_subroutine &&
		       tm_die_range(&ranges, &call.die, &walk->damaged)) {
			call.low = ranges.low;
			call.high = ranges.high;
			inner = depth + 1;
			if (!add_call(function, &call))
				return false;
		}
		if (!walk_calls(walk, function, &call.die, level + 1, inner))
			return false;
	} while (tm_die_sibling(walk, &call.die));
	return true;
}

/* The inlined calls that hold the address, outermost first; returns how many. */
static size_t find_calls(struct function *function, uint64_t address, struct inlined_call **ret,
			 size_t limit)
{
	size_t count = 0;

	for (size_t i = 0; i < function->call_count && count < limit; i++) {
		struct inlined_call *call = &function->calls[i];

		if (call->low <= address && address < call->high && call->depth == count + 1)
			ret[count++] = call;
	}
	return count;
}

/* ---- places ------------------------------------------------- */

/* libdw leaves names relative to where the compiler ran, but for those right there. */
static const char *make_file_name(struct tm_unit *unit, Dwarf_Files *files, size_t index,
				  struct tm_strings *strings)
{
	const char *name = dwarf_filesrc(files, index, NULL, NULL);
	char joined[MAX_PATH_LENGTH];
	Dwarf_Attribute attribute;
	const char *folder;
	size_t length;
	int needed;

	if (!name || !*name)
		return NULL;
	folder = tm_attribute_text(dwarf_attr(&unit->die, DW_AT_comp_dir, &attribute));
	if (*name == '/' || !folder || !*folder)
		return tm_strings_keep_path(strings, name);
	length = strlen(folder);
	if (!strncmp(name, folder, length) && name[length] == '/')
		return tm_strings_keep_path(strings, name);
	needed = snprintf(joined, sizeof(joined), "%s/%s", folder, name);
	if (needed < 0 || (size_t)needed >= sizeof(joined))
		return tm_strings_keep_path(strings, name);
	return tm_strings_keep_path(strings, joined);
}

/* As make_file_name(), each made once. */
static const char *file_name(struct tm_unit *unit, struct files *known, Dwarf_Files *files,
			     size_t index, struct tm_strings *strings)
{
	if (known->of != files) {
		free(known->names);
		*known = (struct files){.of = files};
	}
	if (index >= known->count) {
		size_t count = index + 64;
		const char **names = realloc(known->names, count * sizeof(*names));

		if (!names)
			return NULL;
		for (size_t i = known->count; i < count; i++)
			names[i] = NULL;
		known->names = names;
		known->count = count;
	}
	if (!known->names[index])
		known->names[index] = make_file_name(unit, files, index, strings);
	return known->names[index];
}

/* The place of an address by the line table. */
static void find_line(struct tm_object *object, struct tm_unit *unit, struct tm_strings *strings,
		      uint64_t address, struct tm_frame_name *ret)
{
	Dwarf_Line *line = dwarf_getsrc_die(&unit->die, address);
	Dwarf_Lines *lines;
	Dwarf_Files *files;
	size_t index;
	int number;

	if (!line) {
		if (dwarf_hasattr(&unit->die, DW_AT_stmt_list) &&
		    dwarf_getsrclines(&unit->die, &lines, &index) != 0)
			object->damaged = true;
		return;
	}
	if (dwarf_line_file(line, &files, &index) == 0)
		ret->file = file_name(unit, &unit->line_files, files, index, strings);
	if (dwarf_lineno(line, &number) == 0 && number > 0)
		ret->line = (uint32_t)number;
}

/* The place an inlined call was made from. */
static void find_call_line(struct tm_unit *unit, struct tm_strings *strings, Dwarf_Die *call,
			   struct tm_frame_name *ret)
{
	Dwarf_Attribute attribute;
	Dwarf_Files *files;
	Dwarf_Word value;
	size_t count;

	if (dwarf_formudata(dwarf_attr(call, DW_AT_call_line, &attribute), &value) == 0 &&
	    value <= UINT32_MAX)
		ret->line = (uint32_t)value;
	if (dwarf_formudata(dwarf_attr(call, DW_AT_call_file, &attribute), &value) == 0 &&
	    (dwarf_getsrcfiles(&unit->source, &files, &count) == 0 ||
	     dwarf_getsrcfiles(&unit->die, &files, &count) == 0) &&
	    value < count)
		ret->file = file_name(unit, &unit->call_files, files, value, strings);
}

/* ---- units ------------------------------------------------------------ */

/* Units whose own DIE does not say where their code is: some assemblers and old compilers. */
static bool add_arange_units(struct tm_object *object, const bool *has_ranges)
{
	Dwarf_Aranges *aranges;
	size_t count;

	if (dwarf_getaranges(object->dwarf, &aranges, &count) != 0)
		return true;
	for (size_t i = 0; i < count && tm_work_at(object->work, i); i++) {
		Dwarf_Arange *arange = dwarf_onearange(aranges, i);
		Dwarf_Word length;
		Dwarf_Addr start;
		Dwarf_Off offset;

		if (!arange || dwarf_getarangeinfo(arange, &start, &length, &offset) != 0 || !start)
			continue;
		for (size_t unit = 0; unit < object->unit_count; unit++) {
			Dwarf_Die die;

			if (has_ranges[unit] || !dwarf_offdie(object->dwarf, offset, &die) ||
			    die.addr != object->units[unit].die.addr)
				continue;
			if (!tm_ranges_add(&object->unit_ranges, start, start + length,
					   (uint32_t)unit))
				return false;
			break;
		}
	}
	return true;
}

static uint64_t debug_info_size(struct tm_object *object)
{
	const struct tm_elf *file = object->debug.elf ? &object->debug : &object->main;
	GElf_Shdr header;

	return tm_elf_section(file, ".debug_info", &header) ? header.sh_size : 0;
}

/* The unit with the functions of `die`: itself, or its split unit where that is found. */
static bool find_source(uint8_t type, Dwarf_Die *die, Dwarf_Die *ret, bool *damaged)
{
	Dwarf_Die split = {0};

	*ret = *die;
	if (type != DW_UT_skeleton)
		return true;
	if (dwarf_cu_info(die->cu, NULL, NULL, NULL, &split, NULL, NULL, NULL) != 0 || !split.addr)
		return false;
	if (tm_texts_end(dwarf_cu_getdwarf(split.cu)) && tm_unit_texts_end(&split))
		*ret = split;
	else
		*damaged = true;
	return true;
}

static bool index_units(struct tm_object *object)
{
	Dwarf_CU *cu = NULL;
	struct tm_unit *unit;
	Dwarf_Die die;
	uint8_t type;
	size_t capacity = 0, without = 0;
	bool *has_ranges = NULL, ok = true;
	int result = 0;

	tm_work_begin(object->work, TM_WORK_READING, object->path, debug_info_size(object));
	while (ok &&
	       (result = dwarf_get_units(object->dwarf, cu, &cu, NULL, &type, &die, NULL)) == 0) {
		size_t before = object->unit_ranges.count;

		if (!tm_work_at(object->work, dwarf_dieoffset(&die)))
			break;
		if (type != DW_UT_compile && type != DW_UT_skeleton)
			continue;
		if (!tm_unit_texts_end(&die)) {
			object->damaged = true;
			continue;
		}
		if (object->unit_count == capacity) {
			size_t bigger = capacity ? capacity * 2 : 64;
			struct tm_unit *units = realloc(object->units, bigger * sizeof(*units));
			bool *flags = realloc(has_ranges, bigger * sizeof(*flags));

			if (units)
				object->units = units;
			if (flags)
				has_ranges = flags;
			if (!units || !flags) {
				ok = false;
				break;
			}
			capacity = bigger;
		}
		unit = &object->units[object->unit_count];
		*unit = (struct tm_unit){.die = die};
		unit->incomplete = !find_source(type, &die, &unit->source, &object->damaged);
		ok = add_ranges(&die, &object->unit_ranges, (uint32_t)object->unit_count,
				&object->damaged);
		has_ranges[object->unit_count] = object->unit_ranges.count != before;
		without += !has_ranges[object->unit_count++];
	}
	if (result < 0)
		object->damaged = true;
	if (ok && without)
		ok = add_arange_units(object, has_ranges);
	free(has_ranges);
	tm_ranges_sort(&object->unit_ranges);
	object->indexed = true;
	return ok;
}

void tm_object_units_deinit(struct tm_object *object)
{
	for (size_t i = 0; i < object->unit_count; i++) {
		unit_forget_functions(&object->units[i]);
		free(object->units[i].line_files.names);
		free(object->units[i].call_files.names);
	}
	free(object->units);
	tm_ranges_deinit(&object->unit_ranges);
	object->units = NULL;
	object->unit_count = 0;
	object->indexed = false;
}

/* The entry; for an unlikely part that the compiler put before it, that part's start. */
static uint64_t part_start(struct function *function, uint64_t address)
{
	struct tm_range_walk walk = {0};
	bool damaged;

	while (address < function->entry && tm_die_range(&walk, &function->die, &damaged))
		if (walk.low <= address && address < walk.high)
			return walk.low;
	return function->entry;
}

/* ---- frames ----------------------------------------------------------- */

bool tm_object_dwarf_frames(struct tm_object *object, struct tm_strings *strings, uint64_t vaddr,
			    struct tm_frame_list *ret)
{
	struct inlined_call *calls[TM_MAX_INLINED];
	struct function *function;
	struct tm_unit *unit;
	uint64_t address = vaddr + object->debug_bias;
	uint32_t index;
	size_t depth;
	bool ok = true;

	ret->count = 0;
	if (!object->dwarf)
		return true;
	if (!object->indexed)
		ok = index_units(object);
	index = tm_ranges_find(&object->unit_ranges, address);
	if (!ok || index == TM_NO_INDEX)
		return ok;
	unit = &object->units[index];
	ret->count = 1;
	ret->frames[0] = (struct tm_frame_name){0};
	find_line(object, unit, strings, address, &ret->frames[0]);
	function = find_function(object, unit, address, &ok);
	if (!ok || !function)
		return ok;
	if (!function->read) {
		struct tm_die_walk walk = {.work = object->work};

		tm_work_begin(object->work, TM_WORK_READING, object->path, 0);
		function->read = true;
		function->name = tm_object_function_name(object, &function->die, strings);
		function->stub = tm_die_is_stub(&function->die);
		ok = walk_calls(&walk, function, &function->die, 0, 0);
		object->damaged |= walk.damaged;
	}
	depth = find_calls(function, address, calls, TM_MAX_INLINED);
	for (size_t i = depth; i > 0; i--) {
		struct tm_frame_name *frame = &ret->frames[ret->count - 1];
		struct inlined_call *call = calls[i - 1];

		if (!call->name)
			call->name = tm_object_function_name(object, &call->die, strings);
		frame->function = call->name;
		frame->inlined = true;
		ret->frames[ret->count] = (struct tm_frame_name){0};
		find_call_line(unit, strings, &call->die, &ret->frames[ret->count]);
		ret->count++;
	}
	ret->stub = function->stub;
	ret->frames[ret->count - 1].function = function->name;
	ret->function_start = part_start(function, address) - object->debug_bias;
	return ok;
}
