/*
 * Debug files from debuginfod: see symbolize_parts.h.  The library is loaded
 * when a file is wanted for the first time: it brings half a dozen others, and
 * most sessions never need it.  Its cache on disk answers without the network.
 *
 * May use: libdebuginfod.  Must not use: Python, gdb; must not be reached
 * unless the user has switched debuginfod on.
 */
#include "symbolize_parts.h"

#include <dlfcn.h>
#include <elfutils/debuginfod.h>
#include <stdlib.h>
#include <unistd.h>

#define LIBRARY "libdebuginfod.so.1"

struct tm_fetcher {
	void *library; /* NULL: there is none */
	debuginfod_client *client;
	__typeof__(debuginfod_begin) *begin;
	__typeof__(debuginfod_end) *end;
	__typeof__(debuginfod_find_debuginfo) *find;
	__typeof__(debuginfod_set_progressfn) *set_progress;
	__typeof__(debuginfod_set_user_data) *set_data;
};

/* What a callback has to ask: the same for every fetcher. */
static __typeof__(debuginfod_get_user_data) *get_data;

static bool load_function(void *library, const char *name, void *ret)
{
	*(void **)ret = dlsym(library, name);
	return *(void **)ret != NULL;
}

static void load(struct tm_fetcher *fetcher)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return;
	if (load_function(library, "debuginfod_begin", &fetcher->begin) &&
	    load_function(library, "debuginfod_end", &fetcher->end) &&
	    load_function(library, "debuginfod_find_debuginfo", &fetcher->find) &&
	    load_function(library, "debuginfod_set_progressfn", &fetcher->set_progress) &&
	    load_function(library, "debuginfod_set_user_data", &fetcher->set_data) &&
	    load_function(library, "debuginfod_get_user_data", &get_data))
		fetcher->client = fetcher->begin();
	if (fetcher->client)
		fetcher->library = library;
	else
		dlclose(library);
}

void tm_fetcher_free(struct tm_fetcher *fetcher)
{
	if (!fetcher)
		return;
	if (fetcher->library)
		fetcher->end(fetcher->client); /* the library stays: it has state of its own */
	free(fetcher);
}

/* Called while it waits and while it reads; not 0 ends the attempt. */
static int on_progress(debuginfod_client *client, long done, long all)
{
	struct tm_search *search = get_data(client);

	/* Without `all`, `done` counts how often it has waited (debuginfod_find_debuginfo(3)). */
	search->work.total = all > 0 ? (uint64_t)all : 0;
	return !tm_work_at(&search->work, all > 0 && done > 0 ? (uint64_t)done : 0);
}

char *tm_fetch_debug_file(struct tm_search *search, const uint8_t *build_id, size_t size)
{
	struct tm_fetcher *fetcher = search->fetcher;
	char *path = NULL;
	int fd;

	if (!fetcher) {
		fetcher = calloc(1, sizeof(*fetcher));
		if (!fetcher)
			return NULL;
		search->fetcher = fetcher;
		load(fetcher);
	}
	if (!fetcher->library)
		return NULL;
	fetcher->set_data(fetcher->client, search);
	fetcher->set_progress(fetcher->client, on_progress);
	fd = fetcher->find(fetcher->client, build_id, (int)size, &path);
	if (fd < 0)
		return NULL;
	close(fd);
	return path;
}
