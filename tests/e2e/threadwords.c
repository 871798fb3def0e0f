/*
 * Prints, again and again, what is in the word of its thread's control block at 0x38 from the
 * thread pointer; with an argument, puts something there first.  `second`: it has a second
 * thread, which then does that in its own.  `again`: between two of its checkpoints threads
 * come and go, one after another on the same stack, and allocate what nobody frees.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN UINT64_C(0x1122334455667788)

static pthread_barrier_t barrier;
static int is_used;
static void *volatile block;

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("");
}

static uint64_t word(void)
{
	uint64_t result;

	__asm__ volatile("movq %%fs:0x38, %0" : "=r"(result));
	return result;
}

static void use_it(void)
{
	__asm__ volatile("movq %0, %%fs:0x38" : : "r"(OWN));
}

static void *allocate(void *argument)
{
	int i;

	for (i = 0; i < 100; i++)
		block = malloc(1000);
	return argument;
}

static void *idle(void *argument)
{
	if (is_used)
		use_it();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	printf("second thread: %#lx\n", (unsigned long)word());
	return argument;
}

int main(int count, char **arguments)
{
	pthread_t thread, other;
	int i, j;

	is_used = count > 1 && strcmp(arguments[1], "again");
	if (is_used && strcmp(arguments[1], "second"))
		use_it();
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, idle, NULL);
	pthread_barrier_wait(&barrier);
	for (i = 0; i < 4; i++) {
		checkpoint();
		allocate(NULL);
		for (j = 0; j < 100 && count > 1 && !is_used; j++) {
			pthread_create(&other, NULL, allocate, NULL);
			pthread_join(other, NULL);
		}
	}
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	printf("first thread: %#lx\n", (unsigned long)word());
	return 0;
}
