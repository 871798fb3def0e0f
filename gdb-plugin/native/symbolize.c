/*
 * The symbolizer: which object is at an address, and answers kept.  See
 * symbolize.h; the work is done in the files of symbolize_parts.h.
 *
 * May use: symbolize_parts.h.  Must not use: Python, gdb.
 */
#define _GNU_SOURCE
#include "symbolize_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* An object in the address space. */
struct mapping {
	uint64_t start;
	uint64_t end;
	uint64_t bias;
	const char *path; /* as frames show it */
	struct tm_object *object;
};

/* Frames that were worked out. */
struct answer {
	uint64_t address;
	struct tm_frame_name *frames; /* NULL: the slot is empty */
	size_t count;
};

struct tm_symbolizer {
	struct tm_directories directories;
	struct tm_strings strings;
	struct mapping *mappings; /* sorted by start, not overlapping */
	size_t mapping_count;
	struct tm_object **objects;
	size_t object_count;
	struct answer *answers; /* open addressing */
	size_t answer_mask;     /* slots - 1 */
	size_t answer_count;
};

struct tm_error *tm_symbolizer_new(const char *const *debug_directories, size_t count,
				   struct tm_symbolizer **ret)
{
	struct tm_symbolizer *symbolizer = calloc(1, sizeof(*symbolizer));

	if (!symbolizer)
		return tm_error_no_memory();
	symbolizer->directories.paths = calloc(count ? count : 1, sizeof(char *));
	for (size_t i = 0; symbolizer->directories.paths && i < count; i++) {
		symbolizer->directories.paths[i] = strdup(debug_directories[i]);
		if (!symbolizer->directories.paths[i])
			break;
		symbolizer->directories.count++;
	}
	if (!symbolizer->directories.paths || symbolizer->directories.count != count) {
		tm_symbolizer_free(symbolizer);
		return tm_error_no_memory();
	}
	*ret = symbolizer;
	return NULL;
}

void tm_symbolizer_free(struct tm_symbolizer *symbolizer)
{
	if (!symbolizer)
		return;
	tm_symbolizer_clear(symbolizer);
	for (size_t i = 0; i < symbolizer->directories.count; i++)
		free(symbolizer->directories.paths[i]);
	free(symbolizer->directories.paths);
	free(symbolizer);
}

static void forget_answers(struct tm_symbolizer *symbolizer)
{
	for (size_t i = 0; symbolizer->answers && i <= symbolizer->answer_mask; i++)
		free(symbolizer->answers[i].frames);
	free(symbolizer->answers);
	symbolizer->answers = NULL;
	symbolizer->answer_mask = 0;
	symbolizer->answer_count = 0;
}

void tm_symbolizer_clear(struct tm_symbolizer *symbolizer)
{
	forget_answers(symbolizer);
	for (size_t i = 0; i < symbolizer->object_count; i++) {
		tm_object_close(symbolizer->objects[i]);
		free(symbolizer->objects[i]);
	}
	free(symbolizer->objects);
	free(symbolizer->mappings);
	symbolizer->objects = NULL;
	symbolizer->object_count = 0;
	symbolizer->mappings = NULL;
	symbolizer->mapping_count = 0;
	tm_strings_deinit(&symbolizer->strings);
}

/* ---- modules ---------------------------------------------------------- */

static bool is_object(const struct tm_object *object, const char *path, const struct stat *status,
		      const struct tm_module_description *module)
{
	return !strcmp(object->path, path) && object->device == status->st_dev &&
	       object->inode == status->st_ino &&
	       object->changed.tv_sec == status->st_mtim.tv_sec &&
	       object->changed.tv_nsec == status->st_mtim.tv_nsec &&
	       object->must_match == (module->build_id_size > 0) &&
	       (!object->must_match ||
		(object->build_id_size == module->build_id_size &&
		 !memcmp(object->build_id, module->build_id, module->build_id_size)));
}

/* The object of a file that was opened before and has not changed, or a new one. */
static struct tm_object *get_object(struct tm_symbolizer *symbolizer,
				    const struct tm_module_description *module)
{
	const char *path = module->file ? module->file : module->path;
	struct tm_object **objects, *object;
	struct stat status = {0};

	/* A file that is gone can still have a debug file: not an error. */
	if (stat(path, &status) < 0)
		status = (struct stat){0};
	for (size_t i = 0; i < symbolizer->object_count; i++)
		if (is_object(symbolizer->objects[i], path, &status, module))
			return symbolizer->objects[i];
	objects = realloc(symbolizer->objects,
			  (symbolizer->object_count + 1) * sizeof(struct tm_object *));
	if (!objects)
		return NULL;
	symbolizer->objects = objects;
	object = calloc(1, sizeof(*object));
	if (!object)
		return NULL;
	object->path = strdup(path);
	if (!object->path) {
		free(object);
		return NULL;
	}
	object->main.fd = object->debug.fd = object->alternate.fd = -1; /* 0 is somebody's */
	object->device = status.st_dev;
	object->inode = status.st_ino;
	object->changed = status.st_mtim;
	if (module->build_id_size) {
		memcpy(object->build_id, module->build_id, module->build_id_size);
		object->build_id_size = module->build_id_size;
		object->must_match = true;
	}
	objects[symbolizer->object_count++] = object;
	return object;
}

static bool same_mapping(const struct mapping *a, const struct mapping *b)
{
	return a->start == b->start && a->end == b->end && a->bias == b->bias &&
	       a->path == b->path && a->object == b->object;
}

/* Puts a mapping in its place; those it overlaps go. */
static struct tm_error *insert_mapping(struct tm_symbolizer *symbolizer, struct mapping mapping)
{
	size_t first = 0, behind, count = symbolizer->mapping_count;
	struct mapping *mappings;

	while (first < count && symbolizer->mappings[first].end <= mapping.start)
		first++;
	behind = first;
	while (behind < count && symbolizer->mappings[behind].start < mapping.end)
		behind++;
	if (behind == first + 1 && same_mapping(&symbolizer->mappings[first], &mapping))
		return NULL;
	mappings = realloc(symbolizer->mappings, (count + 1) * sizeof(*mappings));
	if (!mappings)
		return tm_error_no_memory();
	memmove(mappings + first + 1, mappings + behind, (count - behind) * sizeof(*mappings));
	mappings[first] = mapping;
	symbolizer->mappings = mappings;
	symbolizer->mapping_count = count + 1 - (behind - first);
	forget_answers(symbolizer);
	return NULL;
}

struct tm_error *tm_symbolizer_add_module(struct tm_symbolizer *symbolizer,
					  const struct tm_module_description *module)
{
	struct mapping mapping = {
		.start = module->start,
		.end = module->end,
		.bias = module->bias,
	};

	if (module->end <= module->start)
		return tm_error_new(TM_ERROR_INPUT, "module %s ends before it starts",
				    module->path);
	if (module->build_id_size > TM_BUILD_ID_MAX)
		return tm_error_new(TM_ERROR_INPUT, "module %s has a build id of %zu bytes",
				    module->path, module->build_id_size);
	mapping.path = tm_strings_keep(&symbolizer->strings, module->path);
	mapping.object = get_object(symbolizer, module);
	if (!mapping.path || !mapping.object)
		return tm_error_no_memory();
	return insert_mapping(symbolizer, mapping);
}

static const struct mapping *find_mapping(const struct tm_symbolizer *symbolizer, uint64_t address)
{
	size_t low = 0, high = symbolizer->mapping_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbolizer->mappings[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == symbolizer->mapping_count || symbolizer->mappings[low].start > address)
		return NULL;
	return &symbolizer->mappings[low];
}

/* ---- answers ---------------------------------------------------------- */

static struct answer *answer_slot(const struct tm_symbolizer *symbolizer, uint64_t address)
{
	size_t slot = (address * UINT64_C(0x9e3779b97f4a7c15) >> 20) & symbolizer->answer_mask;

	while (symbolizer->answers[slot].frames && symbolizer->answers[slot].address != address)
		slot = (slot + 1) & symbolizer->answer_mask;
	return &symbolizer->answers[slot];
}

static bool grow_answers(struct tm_symbolizer *symbolizer)
{
	struct answer *old = symbolizer->answers;
	size_t old_slots = old ? symbolizer->answer_mask + 1 : 0;
	size_t slots = old ? old_slots * 2 : 1024;
	struct answer *answers = calloc(slots, sizeof(*answers));

	if (!answers)
		return false;
	symbolizer->answers = answers;
	symbolizer->answer_mask = slots - 1;
	for (size_t i = 0; i < old_slots; i++)
		if (old[i].frames)
			*answer_slot(symbolizer, old[i].address) = old[i];
	free(old);
	return true;
}

/* Without DWARF, or where it does not name the function: by symbol. */
static bool name_by_symbol(struct tm_symbolizer *symbolizer, struct tm_object *object,
			   uint64_t vaddr, struct tm_frame_list *list)
{
	struct tm_frame_name *frame = &list->frames[list->count - 1];
	const struct tm_symbol *symbol = tm_object_symbol(object, vaddr);

	if (!symbol)
		return true;
	frame->function = tm_strings_keep_function(&symbolizer->strings, symbol->name);
	list->function_start = symbol->vaddr;
	return frame->function != NULL;
}

static bool find_frames(struct tm_symbolizer *symbolizer, uint64_t address,
			struct tm_frame_list *list)
{
	const struct mapping *mapping = find_mapping(symbolizer, address);
	uint64_t vaddr, offset;
	bool ok;

	list->count = 1;
	list->frames[0] = (struct tm_frame_name){.offset = address};
	if (!mapping)
		return true;
	vaddr = address - mapping->bias;
	tm_object_open(mapping->object, &symbolizer->directories);
	ok = tm_object_dwarf_frames(mapping->object, &symbolizer->strings, vaddr, list);
	if (!list->count) {
		list->count = 1;
		list->frames[0] = (struct tm_frame_name){0};
	}
	if (ok && !list->frames[list->count - 1].function)
		ok = name_by_symbol(symbolizer, mapping->object, vaddr, list);
	offset = vaddr;
	if (list->frames[list->count - 1].function && list->function_start <= vaddr)
		offset = vaddr - list->function_start;
	for (size_t i = 0; i < list->count; i++) {
		list->frames[i].offset = list->frames[i].function ? offset : vaddr;
		list->frames[i].module = mapping->path;
	}
	return ok;
}

struct tm_error *tm_symbolizer_resolve(struct tm_symbolizer *symbolizer, uint64_t address,
				       const struct tm_frame_name **ret, size_t *ret_count)
{
	struct tm_frame_list list;
	struct answer *answer;

	if ((!symbolizer->answers || symbolizer->answer_count * 2 > symbolizer->answer_mask) &&
	    !grow_answers(symbolizer))
		return tm_error_no_memory();
	answer = answer_slot(symbolizer, address);
	if (!answer->frames) {
		if (!find_frames(symbolizer, address, &list))
			return tm_error_no_memory();
		answer->frames = malloc(list.count * sizeof(*answer->frames));
		if (!answer->frames)
			return tm_error_no_memory();
		memcpy(answer->frames, list.frames, list.count * sizeof(*answer->frames));
		answer->address = address;
		answer->count = list.count;
		symbolizer->answer_count++;
	}
	*ret = answer->frames;
	*ret_count = answer->count;
	return NULL;
}
