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
	struct tm_search search;
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
	symbolizer->search.directories = calloc(count ? count : 1, sizeof(char *));
	for (size_t i = 0; symbolizer->search.directories && i < count; i++) {
		symbolizer->search.directories[i] = strdup(debug_directories[i]);
		if (!symbolizer->search.directories[i])
			break;
		symbolizer->search.directory_count++;
	}
	if (!symbolizer->search.directories || symbolizer->search.directory_count != count) {
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
	tm_search_deinit(&symbolizer->search);
	free(symbolizer);
}

void tm_symbolizer_use_debuginfod(struct tm_symbolizer *symbolizer)
{
	symbolizer->search.debuginfod = true;
}

void tm_symbolizer_tell(struct tm_symbolizer *symbolizer, tm_work_listener *listener, void *data)
{
	symbolizer->search.work = (struct tm_work){.listener = listener, .data = data};
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
		tm_object_deinit(symbolizer->objects[i]);
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

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_bytes(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
	return a_size == b_size && (!a_size || !memcmp(a, b, a_size));
}

static bool is_object(const struct tm_object *object, const char *path, const struct stat *status,
		      const struct tm_module_description *module)
{
	return !strcmp(object->path, path) && same_text(object->other_path, module->other_file) &&
	       object->device == status->st_dev && object->inode == status->st_ino &&
	       object->changed_at.tv_sec == status->st_mtim.tv_sec &&
	       object->changed_at.tv_nsec == status->st_mtim.tv_nsec &&
	       same_bytes(object->image, object->image_size, module->image, module->image_size) &&
	       object->must_match == (module->build_id_size > 0) &&
	       (!object->must_match || same_bytes(object->build_id, object->build_id_size,
						  module->build_id, module->build_id_size));
}

static bool copy_description(struct tm_object *object, const char *path,
			     const struct tm_module_description *module)
{
	object->path = strdup(path);
	if (module->other_file)
		object->other_path = strdup(module->other_file);
	if (module->image_size)
		object->image = malloc(module->image_size);
	if (!object->path || (module->other_file && !object->other_path) ||
	    (module->image_size && !object->image))
		return false;
	if (object->image) {
		memcpy(object->image, module->image, module->image_size);
		object->image_size = module->image_size;
	}
	if (module->build_id_size) {
		memcpy(object->build_id, module->build_id, module->build_id_size);
		object->build_id_size = module->build_id_size;
		object->must_match = true;
	}
	return true;
}

/* The object of a file that was opened before and has not changed, or a new one. */
static struct tm_object *get_object(struct tm_symbolizer *symbolizer,
				    const struct tm_module_description *module)
{
	const char *path = module->file ? module->file : module->path;
	struct tm_object **objects, *object;
	struct stat status = {0};

	/* A file that is gone can still have a debug file: not an error. */
	if (module->image_size || stat(path, &status) < 0)
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
	object->work = &symbolizer->search.work;
	/* Not every object has all of them, and descriptor 0 is the debugger's input. */
	object->main.fd = object->debug.fd = object->alternate.fd = object->mini.fd = -1;
	object->package_file.fd = -1;
	object->device = status.st_dev;
	object->inode = status.st_ino;
	object->changed_at = status.st_mtim;
	if (!copy_description(object, path, module)) {
		tm_object_deinit(object);
		free(object);
		return NULL;
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

const char *tm_symbolizer_complaint(struct tm_symbolizer *symbolizer, enum tm_complaint *ret)
{
	for (size_t i = 0; i < symbolizer->mapping_count; i++) {
		struct tm_object *object = symbolizer->mappings[i].object;

		if (object->told || !(object->changed || object->damaged))
			continue;
		object->told = true;
		*ret = object->changed ? TM_COMPLAINT_CHANGED : TM_COMPLAINT_DAMAGED;
		return symbolizer->mappings[i].path;
	}
	*ret = TM_COMPLAINT_NONE;
	return NULL;
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

	list->stub = tm_object_in_plt(object, vaddr) || (symbol && tm_is_stub_name(symbol->name));
	if (!symbol || list->stub)
		return true;
	frame->function = tm_strings_keep_function(&symbolizer->strings, symbol->name);
	list->function_start = symbol->vaddr;
	return frame->function != NULL;
}

/* An answer in `list`; an error leaves nothing behind. */
static struct tm_error *find_frames(struct tm_symbolizer *symbolizer, uint64_t address,
				    struct tm_frame_list *list)
{
	const struct mapping *mapping = find_mapping(symbolizer, address);
	uint64_t vaddr, offset;
	bool ok;

	list->stub = false;
	list->count = 1;
	list->frames[0] = (struct tm_frame_name){.offset = address};
	if (!mapping)
		return NULL;
	vaddr = address - mapping->bias;
	symbolizer->search.work.stopped = false;
	tm_object_open(mapping->object, &symbolizer->search);
	ok = tm_object_dwarf_frames(mapping->object, &symbolizer->strings, vaddr, list);
	if (!list->count) {
		list->count = 1;
		list->frames[0] = (struct tm_frame_name){0};
	}
	if (ok && !list->frames[list->count - 1].function)
		ok = name_by_symbol(symbolizer, mapping->object, vaddr, list);
	if (symbolizer->search.work.stopped) {
		tm_object_forget(mapping->object);
		return tm_error_interrupted();
	}
	if (list->stub)
		list->count = 0;
	offset = vaddr;
	if (list->count && list->frames[list->count - 1].function && list->function_start <= vaddr)
		offset = vaddr - list->function_start;
	for (size_t i = 0; i < list->count; i++) {
		list->frames[i].offset = list->frames[i].function ? offset : vaddr;
		list->frames[i].module = mapping->path;
	}
	return ok ? NULL : tm_error_no_memory();
}

struct tm_error *tm_symbolizer_resolve(struct tm_symbolizer *symbolizer, uint64_t address,
				       const struct tm_frame_name **ret, size_t *ret_count)
{
	struct tm_frame_list list;
	struct tm_error *error;
	struct answer *answer;

	if ((!symbolizer->answers || symbolizer->answer_count * 2 > symbolizer->answer_mask) &&
	    !grow_answers(symbolizer))
		return tm_error_no_memory();
	answer = answer_slot(symbolizer, address);
	if (!answer->frames) {
		error = find_frames(symbolizer, address, &list);
		if (error)
			return error;
		answer->frames = malloc((list.count ? list.count : 1) * sizeof(*answer->frames));
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
