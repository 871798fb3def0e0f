/*
 * A program that tracks blocks of its own with tm.h, from two files, C and
 * C++, and from a shared library that includes it as well.
 *
 * Compiled three ways by test_track.py: this file with track_other.cc as the
 * program, and with -DLIBRARY as the library.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "tm.h"

#define DOMAIN 7

int track_in_library(unsigned int domain, void *address, size_t size);
int track_in_other(unsigned int domain, void *address, size_t size);

#ifdef LIBRARY

int track_in_library(unsigned int domain, void *address, size_t size)
{
	return tm_track(domain, address, size); /* line: library */
}

#else

extern struct tm_tracker *other_tracker(void);

static char pool[4096];
int results[16];

__attribute__((noinline)) static void checkpoint(void)
{
	__asm__ volatile("" : : : "memory");
}

/* A library that comes later is told when the loader's work is seen: at an allocation. */
static int load_later(const char *path)
{
	int (*track)(unsigned int, void *, size_t);
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return 1;
	*(void **)&track = dlsym(library, "track_in_library");
	free(malloc(1));
	results[0] = track(DOMAIN, pool, 505);
	checkpoint();
	dlclose(library);
	checkpoint();
	return 0;
}

int main(int argc, char **argv)
{
	char *block = malloc(1000); /* line: malloc */

	printf("%d\n", &tm_tracker == other_tracker());
	checkpoint();
	if (argc > 1)
		return load_later(argv[1]);
	results[0] = tm_track(DOMAIN, block, 500); /* line: first */
	results[1] = track_in_other(DOMAIN, pool, 501);
	results[2] = track_in_library(DOMAIN, pool + 512, 502);
	results[3] = tm_track(8, pool, 503); /* line: domain 8 */
	results[4] = tm_track(DOMAIN, NULL, 1);
	results[5] = tm_track(DOMAIN, pool + 1024, (size_t)1 << 47);
	checkpoint();
	results[6] = tm_track(DOMAIN, block, 600); /* line: replaced */
	results[7] = tm_untrack(DOMAIN, pool);
	results[8] = tm_untrack(DOMAIN, pool); /* gone already */
	checkpoint();
	free(block); /* takes malloc's record, not ours */
	checkpoint();
	results[9] = tm_track(DOMAIN, block, 700);
	results[10] = tm_untrack(DOMAIN, block);
	checkpoint();
	for (int i = 0; i < 11; i++)
		printf("%d ", results[i]);
	printf("\n");
	return 0;
}

#endif
