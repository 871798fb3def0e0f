/*
 * Many shared objects, which come and go in each other's places:
 *
 *	objects FOLDER COUNT ROUNDS
 *
 * FOLDER holds 0.so to COUNT-1.so, all built of loaded_library.c.  Half of them are loaded,
 * then one goes and one comes, ROUNDS times; each allocates one block more than the one
 * before it, modulo 3, and its blocks are freed before it goes.  At the checkpoint `blocks`
 * tells how many each has.  Says how many objects came where another one had been.
 */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_OBJECTS 1000

int blocks[MAX_OBJECTS];

static struct link_map *objects[MAX_OBJECTS];
static void *kept[MAX_OBJECTS][3];
static unsigned long places[MAX_OBJECTS];
static int reused;

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("" : : : "memory");
}

static void load(const char *folder, int number)
{
	void *(*allocate)(size_t);
	char path[4096];
	int i;

	snprintf(path, sizeof(path), "%s/%d.so", folder, number);
	objects[number] = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	allocate = objects[number] ? dlsym(objects[number], "aligned_alloc_of_its_own") : NULL;
	if (!allocate)
		exit(2);
	blocks[number] = number % 3 + 1;
	for (i = 0; i < blocks[number]; i++)
		kept[number][i] = allocate(100);
	for (i = 0; i < MAX_OBJECTS && places[i] && places[i] != objects[number]->l_addr; i++)
		;
	reused += i < MAX_OBJECTS && places[i];
	if (i < MAX_OBJECTS)
		places[i] = objects[number]->l_addr;
}

static void unload(int number)
{
	int i;

	for (i = 0; i < blocks[number]; i++)
		free(kept[number][i]);
	blocks[number] = 0;
	dlclose(objects[number]);
	objects[number] = NULL;
}

int main(int argument_count, char **arguments)
{
	int count, rounds, i;

	if (argument_count != 4)
		return 1;
	count = atoi(arguments[2]);
	rounds = atoi(arguments[3]);
	if (count > MAX_OBJECTS)
		return 1;
	checkpoint();
	for (i = 0; i < count; i += 2)
		load(arguments[1], i);
	for (i = 0; i < rounds; i++) {
		int out = i * 7 % count, in = (out + 1) % count;

		while (!objects[out])
			out = (out + 1) % count;
		while (objects[in])
			in = (in + 1) % count;
		if (i % 3) { /* into its place, or beside it */
			unload(out);
			load(arguments[1], in);
		} else {
			load(arguments[1], in);
			unload(out);
		}
	}
	checkpoint();
	printf("reused %d\n", reused);
	fflush(stdout);
	getchar();
	return 0;
}
