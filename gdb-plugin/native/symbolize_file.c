/*
 * Opening an object file and what belongs to it: see symbolize_parts.h.
 *
 * May use: libdw, libelf, elf_file.h.  Must not use: Python, gdb.
 */
#define _GNU_SOURCE
#include "symbolize_parts.h"

#include <elfutils/libdwelf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_debug_info(const struct tm_elf *file)
{
	GElf_Shdr header;

	return tm_elf_section(file, ".debug_info", &header) ||
	       tm_elf_section(file, ".zdebug_info", &header);
}

/* libelf leaves out the sections that a truncated file lost. */
static bool is_truncated(const struct tm_elf *file)
{
	GElf_Ehdr header;

	return !gelf_getehdr(file->elf, &header) || header.e_shoff > file->file_size ||
	       (uint64_t)header.e_shnum * header.e_shentsize > file->file_size - header.e_shoff;
}

/* NULL when there is none that can be read. */
static Dwarf *open_dwarf(Elf *elf)
{
	Dwarf *dwarf = dwarf_begin_elf(elf, DWARF_C_READ, NULL);

	if (!dwarf || tm_texts_end(dwarf))
		return dwarf;
	dwarf_end(dwarf);
	return NULL;
}

/*
 * What several debug files share (made by dwz) is in a file of its own.
 * `from` is the debug file that names it, relative to its own place.
 * False when it is damaged: libdw would read it all the same.
 */
static bool open_alternate(struct tm_object *object, struct tm_search *search,
			   const struct tm_elf *from)
{
	char real[PATH_MAX], path[2 * PATH_MAX];
	const char *name;
	const void *build_id;
	ssize_t size = dwelf_dwarf_gnu_debugaltlink(object->dwarf, &name, &build_id);
	char *slash;

	if (size <= 0 || size > (ssize_t)TM_BUILD_ID_MAX)
		return true;
	if (!tm_search_by_build_id(search, build_id, (size_t)size, &object->alternate)) {
		if (!tm_search_real_path(from, real))
			return true;
		slash = strrchr(real, '/');
		if (*name == '/' || !slash)
			snprintf(path, sizeof(path), "%.*s", PATH_MAX, name);
		else
			snprintf(path, sizeof(path), "%.*s/%.*s", (int)(slash - real), real,
				 PATH_MAX, name);
		if (!tm_search_try(path, build_id, (size_t)size, &object->alternate))
			return true;
	}
	object->alternate_dwarf = open_dwarf(object->alternate.elf);
	if (object->alternate_dwarf)
		dwarf_setalt(object->dwarf, object->alternate_dwarf);
	return object->alternate_dwarf != NULL;
}

static bool first_load(const struct tm_elf *file, uint64_t *ret)
{
	size_t count;

	if (elf_getphdrnum(file->elf, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr header;

		if (!gelf_getphdr(file->elf, (int)i, &header) || header.p_type != PT_LOAD)
			continue;
		*ret = header.p_vaddr;
		return true;
	}
	return false;
}

static void open_main(struct tm_object *object)
{
	struct tm_error *error;
	const void *build_id;
	ssize_t size;

	/* The vDSO has no file, and a name that is no path. */
	if (object->image && *object->path != '/')
		error = tm_elf_open_memory(object->image, object->image_size, &object->main);
	else
		error = tm_elf_open_debug(object->path, &object->main);
	size = error ? 0 : dwelf_elf_gnu_build_id(object->main.elf, &build_id);
	if (object->must_match &&
	    (size != (ssize_t)object->build_id_size ||
	     memcmp(build_id, object->build_id, object->build_id_size) != 0)) {
		/* Not what the process runs: names from it would be wrong. */
		tm_elf_close(&object->main);
		object->changed =
			!object->other_path || !tm_search_try(object->other_path, object->build_id,
							      object->build_id_size, &object->main);
	} else if (error && object->other_path) {
		tm_error_free(error);
		error = tm_elf_open_debug(object->other_path, &object->main);
	}
	tm_error_free(error);
	if (!object->main.elf && object->image)
		tm_error_free(tm_elf_open_memory(object->image, object->image_size, &object->main));
	if (!object->main.elf)
		return;
	object->damaged = is_truncated(&object->main);
	if (!object->must_match && size > 0 && size <= (ssize_t)TM_BUILD_ID_MAX) {
		memcpy(object->build_id, build_id, (size_t)size);
		object->build_id_size = (size_t)size;
	}
}

static void close_files(struct tm_object *object)
{
	tm_object_package_deinit(object);
	if (object->dwarf)
		dwarf_end(object->dwarf);
	if (object->alternate_dwarf)
		dwarf_end(object->alternate_dwarf);
	tm_elf_close(&object->mini);
	tm_elf_close(&object->package_file);
	tm_elf_close(&object->alternate);
	tm_elf_close(&object->debug);
	tm_elf_close(&object->main);
	object->dwarf = object->alternate_dwarf = NULL;
	free(object->mini_bytes);
	object->mini_bytes = NULL;
}

void tm_object_open(struct tm_object *object, struct tm_search *search)
{
	const struct tm_elf *source = &object->main;
	uint64_t main_load, debug_load;

	if (object->opened)
		return;
	object->opened = true;
	open_main(object);
	if (!object->main.elf || !has_debug_info(&object->main)) {
		source = &object->debug;
		if (tm_search_debug_file(search, object, &object->debug)) {
			object->changed = false;
			if (object->main.elf && first_load(&object->main, &main_load) &&
			    first_load(&object->debug, &debug_load))
				object->debug_bias = debug_load - main_load;
		}
	}
	if (!source->elf)
		return;
	if (is_truncated(source))
		object->damaged = true;
	object->dwarf = open_dwarf(source->elf);
	if (object->dwarf && !open_alternate(object, search, source)) {
		dwarf_end(object->dwarf);
		object->dwarf = NULL;
	}
	if (object->dwarf) {
		if (tm_search_package(search, object, source, &object->package_file) &&
		    is_truncated(&object->package_file))
			object->damaged = true;
	} else if (has_debug_info(source))
		object->damaged = true;
}

void tm_object_forget(struct tm_object *object)
{
	tm_object_units_deinit(object);
	tm_object_names_deinit(object);
	tm_object_symbols_deinit(object);
	close_files(object);
	object->debug_bias = 0;
	object->opened = object->changed = object->damaged = false;
}

void tm_object_deinit(struct tm_object *object)
{
	tm_object_forget(object);
	free(object->path);
	free(object->other_path);
	free(object->image);
	*object = (struct tm_object){0};
}
