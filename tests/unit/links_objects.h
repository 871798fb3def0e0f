/*
 * Objects to load and to unload, under names of their own, and whether the list of
 * modules has what the loader has.
 *
 * Include it in one file of a test program, after cmocka.h; it brings helper_stubs.h.
 */
#ifndef TM_TEST_LINKS_OBJECTS_H
#define TM_TEST_LINKS_OBJECTS_H

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "helper_stubs.h"
#include "modules.h"
#include "unwind.h"

static char folder[] = "/tmp/tm-links-XXXXXX";
static char *image; /* of a small library */
static size_t image_size;

static struct tm_module_list *current(void)
{
	return (struct tm_module_list *)tm_header.modules;
}

static const char *path_of(const struct tm_module *module)
{
	return (const char *)(tm_module_array(current()) + current()->count) + module->path;
}

/* ---- objects to load ---------------------------------------------------------- */

static const char *file_name(int number)
{
	static char name[64];

	snprintf(name, sizeof(name), "%s/%d.so", folder, number);
	return name;
}

static void write_file(int number, const char *bytes)
{
	int fd;

	unlink(file_name(number)); /* of a test that failed */
	fd = open(file_name(number), O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, image_size), image_size);
	close(fd);
}

static struct link_map *load(int number)
{
	struct link_map *library;

	write_file(number, image);
	library = dlopen(file_name(number), RTLD_NOW | RTLD_LOCAL);
	assert_non_null(library);
	return library;
}

static void unload(struct link_map *library)
{
	char *name = strdup(library->l_name);

	assert_int_equal(dlclose(library), 0);
	assert_int_equal(unlink(name), 0);
	free(name);
}

static int read_library(void **state)
{
	struct link_map *library = dlopen("libdl.so.2", RTLD_NOW);
	FILE *file;

	(void)state;
	if (!library || !mkdtemp(folder))
		return -1;
	file = fopen(library->l_name, "r");
	image = malloc(1 << 20);
	image_size = fread(image, 1, 1 << 20, file);
	fclose(file);
	dlclose(library);
	return image_size ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	free(image);
	return rmdir(folder);
}

/* ---- comparing ------------------------------------------------------------------ */

static int check_object(struct dl_phdr_info *info, size_t size, void *data)
{
	const char *name = info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe";
	struct tm_module module;
	uint64_t text = 0;
	char *path;
	int i;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X)
			text = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
	if (!text)
		return 0;
	assert_true(tm_modules_find(text, &module));
	assert_int_equal(module.bias, info->dlpi_addr);
	assert_true(tm_module_executes(&module, text));
	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
			assert_int_equal(module.eh_frame_hdr,
					 info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	path = realpath(name, NULL);
	if (path)
		assert_string_equal(path_of(&module), path);
	free(path);
	++*(uint32_t *)data;
	return 0;
}

/* Each object that is loaded is listed, and no other file of the folder is. */
static void assert_listed(void)
{
	const struct tm_module *modules = tm_module_array(current());
	uint32_t i, loaded = 0, listed = 0;

	dl_iterate_phdr(check_object, &loaded);
	for (i = 0; i < current()->count; i++) {
		if (i)
			assert_true(modules[i - 1].end <= modules[i].start);
		if (modules[i].text_end && modules[i].bias &&
		    (path_of(&modules[i])[0] == '/' || !strcmp(path_of(&modules[i]), "[vdso]")))
			listed++;
	}
	assert_int_equal(listed, loaded);
}

/* A notice after a change; what it tells must be enough. */
static void notice(void)
{
	uint32_t events = tm_header.loader_events;

	tm_modules_loader_event(true);
	assert_int_equal(tm_header.loader_events, events);
}

#endif
