/*
 * Programs for libtm-preload.so, one for each first argument, that keep a
 * known number of blocks of a known size on each line and then wait for a line
 * on standard input.  With -DPLUGIN a library that one of them loads.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef PLUGIN

/* Frames of two sizes, so that the one's unwind table is wrong for the other. */
__attribute__((noinline)) void *plugin_allocate(void)
{
	char room[PLUGIN];

	memset(room, 1, sizeof(room));
	__asm__ volatile("" : : "r"(room) : "memory");
	return malloc(PLUGIN); /* line: plugin */
}

#else

#define THREADS 50
#define BLOCKS 300

static void *kept[1000];
static void *kept_by_thread[THREADS][BLOCKS];

static void wait_for_line(const char *said)
{
	char byte;

	dprintf(1, "%s\n", said);
	while (read(0, &byte, 1) == 1 && byte != '\n')
		;
}

static void keep_blocks(void)
{
	int i;

	for (i = 0; i < 20; i++)
		kept[i] = malloc(1001); /* line: malloc */
	for (i = 20; i < 30; i++)
		kept[i] = calloc(3, 334); /* line: calloc */
	for (i = 0; i < 5; i++)
		kept[i] = realloc(kept[i], 5001); /* line: realloc */
	kept[30] = aligned_alloc(64, 1088);       /* line: aligned_alloc */
	if (posix_memalign(&kept[31], 64, 1005))  /* line: posix_memalign */
		abort();
	kept[32] = reallocarray(NULL, 7, 143); /* line: reallocarray */
	for (i = 10; i < 20; i++)
		free(kept[i]);
}

static int blocks(void)
{
	keep_blocks();
	wait_for_line("ready");
	kept[40] = malloc(1007); /* line: later */
	free(kept[0]);
	wait_for_line("again");
	return 0;
}

static void *allocate(void *argument)
{
	long number = (long)argument;
	int turn, i;

	for (turn = 0; turn < 20; turn++) {
		for (i = 0; i < BLOCKS; i++)
			kept_by_thread[number][i] = malloc(500 + (size_t)number); /* line: thread */
		for (i = turn == 19 ? BLOCKS / 2 : 0; i < BLOCKS; i++)
			free(kept_by_thread[number][i]);
	}
	return NULL;
}

static int threads(void)
{
	pthread_t thread[THREADS];
	long i;

	for (i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, allocate, (void *)i);
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	wait_for_line("ready");
	return 0;
}

static int forks(void)
{
	int i, status;
	pid_t child;

	for (i = 0; i < 10; i++)
		kept[i] = malloc(1111); /* line: before */
	child = fork();
	if (child == 0) {
		for (i = 0; i < 5; i++)
			free(kept[i]);
		for (i = 10; i < 30; i++)
			kept[i] = malloc(2222); /* line: child */
		dprintf(1, "child %d\n", getpid());
		pause();
	}
	for (i = 10; i < 40; i++)
		kept[i] = malloc(3333); /* line: parent */
	wait_for_line("parent ready");
	waitpid(child, &status, 0);
	return 0;
}

/* A second library where the first one was: its frames are walked by its own table. */
static int plugins(char **paths)
{
	void *(*function)(void);
	void *library;
	int i, turn;

	wait_for_line("before");
	for (turn = 0; turn < 4; turn++) {
		library = dlopen(paths[turn % 2], RTLD_NOW | RTLD_LOCAL);
		*(void **)&function = dlsym(library, "plugin_allocate");
		dprintf(1, "%p\n", *(void **)&function);
		for (i = 0; i < 10; i++)
			kept[turn * 10 + i] = function(); /* line: call */
		if (turn < 3)
			dlclose(library);
	}
	wait_for_line("ready");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2 || !strcmp(argv[1], "blocks"))
		return blocks();
	if (!strcmp(argv[1], "threads"))
		return threads();
	if (!strcmp(argv[1], "forks"))
		return forks();
	if (!strcmp(argv[1], "plugins"))
		return plugins(argv + 2);
	if (!strcmp(argv[1], "exec")) {
		kept[0] = malloc(4444);
		execl(argv[0], argv[0], "blocks", NULL);
	}
	keep_blocks();
	wait_for_line("ready");
	abort();
}

#endif
