/*
 * Loads an object that has an allocator of its own, uses it, unloads it, and
 * loads it again, while being traced.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *volatile kept[64];

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("" : : : "memory");
}

int main(int count, char **arguments)
{
	int round, i;

	if (count < 2)
		return 1;
	free(malloc(1));
	checkpoint();
	for (round = 0; round < 20; round++) {
		void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
		void *(*allocate)(size_t) =
			library ? dlsym(library, "aligned_alloc_of_its_own") : 0;
		void *(*mallocx)(size_t, int) = library ? dlsym(library, "mallocx") : 0;

		if (!allocate || !mallocx)
			return 2;
		for (i = 0; i < 10; i++) {
			kept[i] = mallocx(1000, 0);
			kept[i + 10] = allocate(50);
		}
		if (round % 10 == 0)
			checkpoint();
		dlclose(library);
	}
	puts("done");
	return 0;
}
