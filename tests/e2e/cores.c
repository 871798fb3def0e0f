/*
 * Threads keep blocks of many sizes from several call paths, then wait; the
 * main thread frees some, passes checkpoint(), and allocates once more.  For
 * cores, which must tell what the live process told.  May use libc and pthreads.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 3
#define BLOCKS 400

void *kept[THREADS][BLOCKS];
static pthread_barrier_t filled;

__attribute__((noinline)) static void *small(int i)
{
	void *volatile block = malloc((size_t)(16 + i % 7 * 8)); /* line: small */

	return block;
}

__attribute__((noinline)) static void *table(int i)
{
	void *volatile block = calloc((size_t)(i + 1), 24); /* line: table */

	return block;
}

static inline __attribute__((always_inline)) void *text(int i)
{
	void *volatile block = realloc(malloc(10), (size_t)(100 + i)); /* line: text */

	return block;
}

__attribute__((noinline)) static void *choose(int i)
{
	switch (i % 3) {
	case 0:
		return small(i);
	case 1:
		return table(i);
	}
	return text(i);
}

static void *fill(void *argument)
{
	void **blocks = argument;

	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = choose(i);
	pthread_barrier_wait(&filled);
	pause();
	return NULL;
}

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("");
}

void *last;

int main(void)
{
	pthread_t thread;

	pthread_barrier_init(&filled, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread, NULL, fill, kept[i]);
	pthread_barrier_wait(&filled);
	for (int i = 0; i < BLOCKS; i += 10)
		free(kept[0][i]);
	usleep(50000); /* the threads are asleep */
	checkpoint();
	last = malloc(5000);
	free(last);
	puts("end");
	return 0;
}
