/*
 * Four threads that allocate and free all the time and keep a part of it, each
 * with a use of its own for memory.  examples/churn.gdb looks at them while all
 * stand at the end of a round.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define ROUND 5000
#define KEPT 1000

static pthread_barrier_t barrier;
void *kept[THREADS][KEPT];

__attribute__((noinline)) static void *make_packet(uint32_t number)
{
	uint32_t *packet = calloc(1, 64 + number % 4 * 16);

	packet[0] = number;
	return packet;
}

__attribute__((noinline)) static void *make_page(uint32_t number)
{
	void *page = NULL;

	if (posix_memalign(&page, 4096, 4096) == 0)
		memset(page, (int)number, 4096);
	return page;
}

__attribute__((noinline)) static void *make_text(uint32_t number)
{
	char *text = malloc(10);

	text = realloc(text, 100 + number % 10);
	return memset(text, 'x', 100);
}

static void *make(uint32_t thread, uint32_t number)
{
	switch (thread % 3) {
	case 0:
		return make_packet(number);
	case 1:
		return make_page(number);
	default:
		return make_text(number);
	}
}

static void *work(void *argument)
{
	uint32_t thread = (uint32_t)(uintptr_t)argument, round, number;

	for (round = 0; round < 3; round++) {
		pthread_barrier_wait(&barrier);
		for (number = 0; number < ROUND; number++) {
			void **place = &kept[thread][number % KEPT];

			free(*place);
			*place = make(thread, number);
		}
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

void round_begins(uint32_t round);
__attribute__((noinline)) void round_begins(uint32_t round)
{
	__asm__ volatile("" : : "r"(round) : "memory");
}

int main(void)
{
	pthread_t threads[THREADS];
	uint32_t index, round;

	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (index = 0; index < THREADS; index++)
		pthread_create(&threads[index], NULL, work, (void *)(uintptr_t)index);
	for (round = 0; round < 3; round++) {
		round_begins(round);
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
	}
	for (index = 0; index < THREADS; index++)
		pthread_join(threads[index], NULL);
	return 0;
}
