/*
 * Finding the debug file of an object: see symbolize_parts.h.  By build id
 * first, then by .gnu_debuglink, last from debuginfod; each is checked.
 *
 * May use: libdw, libelf, elf_file.h.  Must not use: Python, gdb; must not use
 * the network itself.
 */
#define _GNU_SOURCE
#include "symbolize_parts.h"

#include <elfutils/libdwelf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool same_build_id(const struct tm_elf *file, const void *id, size_t size)
{
	const void *found;
	ssize_t found_size = dwelf_elf_gnu_build_id(file->elf, &found);

	return found_size > 0 && (size_t)found_size == size && !memcmp(found, id, size);
}

/* The checksum of .gnu_debuglink: CRC-32 as in zlib. */
static bool same_checksum(const struct tm_elf *file, uint32_t wanted, struct tm_work *work)
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
	while ((got = pread(file->fd, bytes, sizeof(bytes), (off_t)at)) > 0 &&
	       tm_work_at(work, at)) {
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
	struct tm_work *work; /* which takes long for a big file */
};

/* A file that cannot be used costs names, no more. */
static bool try_debug_file(const char *path, const struct wanted *wanted, struct tm_elf *ret)
{
	struct tm_error *error;
	struct tm_elf file;

	error = tm_elf_open_debug(path, &file);
	if (error) {
		tm_error_free(error);
		return false;
	}
	if (wanted->build_id_size ? same_build_id(&file, wanted->build_id, wanted->build_id_size)
				  : same_checksum(&file, wanted->checksum, wanted->work)) {
		*ret = file;
		ret->path = NULL; /* it was borrowed */
		return true;
	}
	tm_elf_close(&file);
	return false;
}

bool tm_search_try(const char *path, const uint8_t *build_id, size_t size, struct tm_elf *ret)
{
	const struct wanted wanted = {.build_id = build_id, .build_id_size = size};

	return size && try_debug_file(path, &wanted, ret);
}

bool tm_search_by_build_id(struct tm_search *search, const uint8_t *build_id, size_t size,
			   struct tm_elf *ret)
{
	char name[2 * TM_BUILD_ID_MAX + 16], path[PATH_MAX];
	size_t length;

	if (size < 2 || size > TM_BUILD_ID_MAX)
		return false;
	length = (size_t)snprintf(name, sizeof(name), "%02x/", build_id[0]);
	for (size_t i = 1; i < size; i++)
		length +=
			(size_t)snprintf(name + length, sizeof(name) - length, "%02x", build_id[i]);
	for (size_t i = 0; i < search->directory_count; i++) {
		int needed = snprintf(path, sizeof(path), "%s/.build-id/%s.debug",
				      search->directories[i], name);

		if (needed > 0 && (size_t)needed < sizeof(path) &&
		    tm_search_try(path, build_id, size, ret))
			return true;
	}
	return false;
}

/* Looks beside the object, in .debug there, and in the same folder under each debug directory. */
static bool find_by_link(struct tm_search *search, const char *object, const char *link,
			 const struct wanted *wanted, struct tm_elf *ret)
{
	const char *slash = strrchr(object, '/');
	int folder = slash ? (int)(slash - object) : 0;
	char path[PATH_MAX];

	if (!slash || strchr(link, '/'))
		return false;
	for (size_t i = 0; i < search->directory_count + 2; i++) {
		int needed;

		if (i < 2)
			needed = snprintf(path, sizeof(path), "%.*s/%s%s", folder, object,
					  i ? ".debug/" : "", link);
		else
			needed = snprintf(path, sizeof(path), "%s%.*s/%s",
					  search->directories[i - 2], folder, object, link);
		if (needed > 0 && (size_t)needed < sizeof(path) &&
		    try_debug_file(path, wanted, ret))
			return true;
	}
	return false;
}

static bool find_by_any_link(struct tm_search *search, const struct tm_object *object,
			     struct tm_elf *ret)
{
	struct wanted wanted = {
		.build_id = object->build_id,
		.build_id_size = object->build_id_size,
		.work = object->work,
	};
	char real[PATH_MAX];
	const char *link;
	GElf_Word checksum;

	link = object->main.elf ? dwelf_elf_gnu_debuglink(object->main.elf, &checksum) : NULL;
	if (!link)
		return false;
	wanted.checksum = checksum;
	tm_work_begin(object->work, TM_WORK_READING, object->path, 0);
	if (find_by_link(search, object->path, link, &wanted, ret))
		return true;
	return realpath(object->path, real) && strcmp(real, object->path) != 0 &&
	       find_by_link(search, real, link, &wanted, ret);
}

static bool fetch(struct tm_search *search, const struct tm_object *object, struct tm_elf *ret)
{
	char *path = NULL;
	bool found;

	tm_work_begin(&search->work, TM_WORK_FETCHING, object->path, 0);
	if (search->debuginfod && object->build_id_size)
		path = tm_fetch_debug_file(search, object->build_id, object->build_id_size);
	found = path && tm_search_try(path, object->build_id, object->build_id_size, ret);
	free(path);
	return found;
}

bool tm_search_debug_file(struct tm_search *search, const struct tm_object *object,
			  struct tm_elf *ret)
{
	return tm_search_by_build_id(search, object->build_id, object->build_id_size, ret) ||
	       find_by_any_link(search, object, ret) || fetch(search, object, ret);
}

/* ---- packages of split debug information ------------------------------ */

bool tm_search_real_path(const struct tm_elf *file, char *ret)
{
	char own[64];
	ssize_t length;

	snprintf(own, sizeof(own), "/proc/self/fd/%d", file->fd);
	length = file->fd < 0 ? -1 : readlink(own, ret, PATH_MAX - 1);
	if (length <= 0)
		return false;
	ret[length] = 0;
	return true;
}

static bool try_package(const char *folder, const char *name, int length, struct tm_elf *ret)
{
	char path[PATH_MAX];
	struct tm_error *error;
	int needed = snprintf(path, sizeof(path), "%s%.*s.dwp", folder, length, name);

	if (needed < 0 || (size_t)needed >= sizeof(path) || access(path, R_OK) != 0)
		return false;
	error = tm_elf_open_debug(path, ret);
	ret->path = NULL; /* it was borrowed */
	tm_error_free(error);
	return !error;
}

/*
 * FILE.dwp, and for FILE.debug that of FILE too (DWARF 5, 7.3.5): beside the file, in the same
 * folder under each debug directory, and right in it, where gdb looks.
 */
static bool find_package(struct tm_search *search, const char *file, struct tm_elf *ret)
{
	int length = (int)strlen(file), ends[] = {length, length - (int)strlen(".debug")};
	const char *slash = strrchr(file, '/');
	int folder = slash ? (int)(slash + 1 - file) : 0;
	bool is_debug_file = ends[1] > folder && !strcmp(file + ends[1], ".debug");

	for (int i = 0; slash && i <= is_debug_file; i++) {
		if (try_package("", file, ends[i], ret))
			return true;
		for (size_t j = 0; j < search->directory_count; j++)
			if (try_package(search->directories[j], file, ends[i], ret) ||
			    try_package(search->directories[j], slash, ends[i] - folder + 1, ret))
				return true;
	}
	return false;
}

bool tm_search_package(struct tm_search *search, const struct tm_object *object,
		       const struct tm_elf *source, struct tm_elf *ret)
{
	char real[PATH_MAX];

	if (!object->image && find_package(search, object->path, ret))
		return true;
	if (!object->image && realpath(object->path, real) && strcmp(real, object->path) != 0 &&
	    find_package(search, real, ret))
		return true;
	return source == &object->debug && tm_search_real_path(source, real) &&
	       find_package(search, real, ret);
}

void tm_search_deinit(struct tm_search *search)
{
	for (size_t i = 0; i < search->directory_count; i++)
		free(search->directories[i]);
	free(search->directories);
	tm_fetcher_free(search->fetcher);
	*search = (struct tm_search){0};
}
