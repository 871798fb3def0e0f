/*
 * Opening an object file and finding its separate debug files: see
 * symbolize_parts.h.  By build id first, then by .gnu_debuglink, each checked;
 * never over the network, so that the debugger does not hang.
 *
 * May use: libdw, libelf, elf_file.h.  Must not use: Python, gdb.
 */
#define _GNU_SOURCE
#include "symbolize_parts.h"

#include <elfutils/libdwelf.h>
#include <gelf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_section(const struct tm_elf *file, const char *wanted)
{
	Elf_Scn *section = NULL;
	size_t names;

	if (elf_getshdrstrndx(file->elf, &names) < 0)
		return false;
	while ((section = elf_nextscn(file->elf, section))) {
		const char *name;
		GElf_Shdr header;

		if (!gelf_getshdr(section, &header) || header.sh_type == SHT_NOBITS)
			continue;
		name = elf_strptr(file->elf, names, header.sh_name);
		if (name && !strcmp(name, wanted))
			return true;
	}
	return false;
}

static bool has_debug_info(const struct tm_elf *file)
{
	return has_section(file, ".debug_info") || has_section(file, ".zdebug_info");
}

/* Opens quietly: a file that cannot be used costs names, no more. */
static bool open_quietly(const char *path, struct tm_elf *ret)
{
	struct tm_error *error = tm_elf_open_mapped(path, ret);

	tm_error_free(error);
	return !error;
}

static bool same_build_id(const struct tm_elf *file, const void *id, size_t size)
{
	const void *found;
	ssize_t found_size = dwelf_elf_gnu_build_id(file->elf, &found);

	return found_size > 0 && (size_t)found_size == size && !memcmp(found, id, size);
}

/* The checksum of .gnu_debuglink: CRC-32 as in zlib. */
static bool same_checksum(const struct tm_elf *file, uint32_t wanted)
{
	uint32_t table[256], checksum = 0xffffffffu;
	uint8_t bytes[65536];
	uint64_t at = 0;
	ssize_t got;

	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
	}
	while ((got = pread(file->fd, bytes, sizeof(bytes), (off_t)at)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			checksum = table[(checksum ^ bytes[i]) & 0xff] ^ checksum >> 8;
		at += (uint64_t)got;
	}
	return got == 0 && ~checksum == wanted;
}

/* What makes a file the debug file of an object. */
struct wanted {
	const uint8_t *build_id;
	size_t build_id_size; /* 0: none, the checksum decides */
	uint32_t checksum;
};

static bool try_debug_file(const char *path, const struct wanted *wanted, struct tm_elf *ret)
{
	struct tm_elf file;

	if (!open_quietly(path, &file))
		return false;
	if (wanted->build_id_size ? same_build_id(&file, wanted->build_id, wanted->build_id_size)
				  : same_checksum(&file, wanted->checksum)) {
		*ret = file;
		ret->path = NULL; /* it was borrowed */
		return true;
	}
	tm_elf_close(&file);
	return false;
}

static bool find_by_build_id(const struct tm_directories *directories, const uint8_t *build_id,
			     size_t size, struct tm_elf *ret)
{
	const struct wanted wanted = {.build_id = build_id, .build_id_size = size};
	char name[2 * TM_BUILD_ID_MAX + 16], path[PATH_MAX];
	size_t length;

	if (size < 2 || size > TM_BUILD_ID_MAX)
		return false;
	length = (size_t)snprintf(name, sizeof(name), "%02x/", build_id[0]);
	for (size_t i = 1; i < size; i++)
		length +=
			(size_t)snprintf(name + length, sizeof(name) - length, "%02x", build_id[i]);
	for (size_t i = 0; i < directories->count; i++) {
		int needed = snprintf(path, sizeof(path), "%s/.build-id/%s.debug",
				      directories->paths[i], name);

		if (needed > 0 && (size_t)needed < sizeof(path) &&
		    try_debug_file(path, &wanted, ret))
			return true;
	}
	return false;
}

/* Looks beside the object, in .debug there, and in the same folder under each debug directory. */
static bool find_by_link(const struct tm_directories *directories, const char *object,
			 const char *link, const struct wanted *wanted, struct tm_elf *ret)
{
	const char *slash = strrchr(object, '/');
	int folder = slash ? (int)(slash - object) : 0;
	char path[PATH_MAX];

	if (!slash || strchr(link, '/'))
		return false;
	for (size_t i = 0; i < directories->count + 2; i++) {
		int needed;

		if (i < 2)
			needed = snprintf(path, sizeof(path), "%.*s/%s%s", folder, object,
					  i ? ".debug/" : "", link);
		else
			needed = snprintf(path, sizeof(path), "%s%.*s/%s",
					  directories->paths[i - 2], folder, object, link);
		if (needed > 0 && (size_t)needed < sizeof(path) &&
		    try_debug_file(path, wanted, ret))
			return true;
	}
	return false;
}

static bool find_debug_file(struct tm_object *object, const struct tm_directories *directories)
{
	struct wanted wanted = {
		.build_id = object->build_id,
		.build_id_size = object->build_id_size,
	};
	char real[PATH_MAX];
	const char *link;
	GElf_Word checksum;

	if (find_by_build_id(directories, object->build_id, object->build_id_size, &object->debug))
		return true;
	if (!object->main.elf)
		return false;
	link = dwelf_elf_gnu_debuglink(object->main.elf, &checksum);
	if (!link)
		return false;
	wanted.checksum = checksum;
	if (find_by_link(directories, object->path, link, &wanted, &object->debug))
		return true;
	return realpath(object->path, real) && strcmp(real, object->path) != 0 &&
	       find_by_link(directories, real, link, &wanted, &object->debug);
}

/*
 * What several debug files share (made by dwz) is in a file of its own.
 * `from` is the debug file that names it, relative to its own place.
 */
static void open_alternate(struct tm_object *object, const struct tm_directories *directories,
			   const struct tm_elf *from)
{
	char own[64], real[PATH_MAX], path[2 * PATH_MAX];
	const char *name;
	const void *build_id;
	ssize_t size = dwelf_dwarf_gnu_debugaltlink(object->dwarf, &name, &build_id);
	struct wanted wanted = {.build_id = build_id};
	ssize_t length;
	char *slash;

	if (size <= 0 || size > (ssize_t)TM_BUILD_ID_MAX)
		return;
	wanted.build_id_size = (size_t)size;
	if (!find_by_build_id(directories, build_id, (size_t)size, &object->alternate)) {
		snprintf(own, sizeof(own), "/proc/self/fd/%d", from->fd);
		length = readlink(own, real, sizeof(real) - 1);
		if (length <= 0)
			return;
		real[length] = 0;
		slash = strrchr(real, '/');
		if (*name == '/' || !slash)
			snprintf(path, sizeof(path), "%.*s", PATH_MAX, name);
		else
			snprintf(path, sizeof(path), "%.*s/%.*s", (int)(slash - real), real,
				 PATH_MAX, name);
		if (!try_debug_file(path, &wanted, &object->alternate))
			return;
	}
	object->alternate_dwarf = dwarf_begin_elf(object->alternate.elf, DWARF_C_READ, NULL);
	if (object->alternate_dwarf)
		dwarf_setalt(object->dwarf, object->alternate_dwarf);
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
	const void *build_id;
	ssize_t size;

	if (!open_quietly(object->path, &object->main))
		return;
	size = dwelf_elf_gnu_build_id(object->main.elf, &build_id);
	if (object->must_match &&
	    (size != (ssize_t)object->build_id_size ||
	     memcmp(build_id, object->build_id, object->build_id_size) != 0)) {
		/* Not what the process runs: names from it would be wrong. */
		tm_elf_close(&object->main);
		return;
	}
	if (!object->must_match && size > 0 && size <= (ssize_t)TM_BUILD_ID_MAX) {
		memcpy(object->build_id, build_id, (size_t)size);
		object->build_id_size = (size_t)size;
	}
}

void tm_object_open(struct tm_object *object, const struct tm_directories *directories)
{
	const struct tm_elf *source = &object->main;
	uint64_t main_load, debug_load;

	if (object->opened)
		return;
	object->opened = true;
	/* Not every object has all three, and descriptor 0 is the debugger's input. */
	object->main.fd = object->debug.fd = object->alternate.fd = -1;
	open_main(object);
	if (!object->main.elf || !has_debug_info(&object->main)) {
		if (!find_debug_file(object, directories))
			return;
		source = &object->debug;
		if (object->main.elf && first_load(&object->main, &main_load) &&
		    first_load(&object->debug, &debug_load))
			object->debug_bias = debug_load - main_load;
	}
	object->dwarf = dwarf_begin_elf(source->elf, DWARF_C_READ, NULL);
	if (object->dwarf)
		open_alternate(object, directories, source);
}

void tm_object_close(struct tm_object *object)
{
	tm_object_units_deinit(object);
	tm_object_symbols_deinit(object);
	if (object->dwarf)
		dwarf_end(object->dwarf);
	if (object->alternate_dwarf)
		dwarf_end(object->alternate_dwarf);
	if (object->opened) {
		tm_elf_close(&object->alternate);
		tm_elf_close(&object->debug);
		tm_elf_close(&object->main);
	}
	free(object->path);
	*object = (struct tm_object){0};
}
