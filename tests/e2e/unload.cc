/*
 * Threads allocate, check and free without a pause, and throw now and then;
 * the main thread ends on its standard input's end and says whether all that
 * was read back was what had been written.  For unloading under way.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 3
#define BLOCKS 64

static volatile bool stop;
static long wrong, rounds;

static void round_of_blocks(unsigned *seed, bool fails)
{
	unsigned char *blocks[BLOCKS];
	size_t sizes[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		sizes[i] = (size_t)(1 + rand_r(seed) % 2000);
		blocks[i] = static_cast<unsigned char *>(i % 3 ? malloc(sizes[i]) : calloc(sizes[i], 1));
		memset(blocks[i], i, sizes[i]);
	}
	for (int i = 0; i < BLOCKS; i++) {
		if (i % 5 == 0)
			blocks[i] = static_cast<unsigned char *>(realloc(blocks[i], sizes[i] + 3000));
		if (blocks[i][0] != i || blocks[i][sizes[i] - 1] != i)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		free(blocks[i]);
	}
	if (fails)
		throw new int(BLOCKS);
}

static void *work(void *argument)
{
	unsigned seed = static_cast<unsigned>(reinterpret_cast<long>(argument));

	for (long i = 0; !stop; i++) {
		try {
			round_of_blocks(&seed, i % 50 == 0);
		} catch (int *number) {
			if (*number != BLOCKS)
				__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
			delete number;
		}
		__atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED);
		if (i % 16 == 0)
			usleep(200);
	}
	return nullptr;
}

int main()
{
	pthread_t threads[THREADS];
	char byte;

	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], nullptr, work, reinterpret_cast<void *>(i + 1));
	if (write(1, "ready\n", 6) != 6)
		return 1;
	while (read(0, &byte, 1) == 1)
		;
	stop = true;
	for (pthread_t thread : threads)
		pthread_join(thread, nullptr);
	printf("%ld wrong, %s\n", wrong, rounds > 100 ? "many rounds" : "too few rounds");
	return 0;
}
