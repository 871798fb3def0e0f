/*
 * Goes on with one kind of work, checking its results, until `enough` is set:
 * "heap" allocates in three threads, "loader" opens and closes libraries,
 * "signals" takes a signal every millisecond whose handler writes to a pipe
 * that main reads.  Prints one line that is the same however long it took.
 * May use libc, pthread and dl.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define SLOTS 64

volatile int enough;
static int wrong, ends[2];
static volatile long sent;

static void *churn(void *argument)
{
	unsigned char *blocks[SLOTS] = {NULL};
	size_t sizes[SLOTS] = {0}, i;
	uint64_t random = 88172645463325252ull * (1 + (uintptr_t)argument);
	int slot;

	while (!enough) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		slot = random % SLOTS;
		for (i = 0; blocks[slot] && i < sizes[slot]; i++)
			if (blocks[slot][i] != (unsigned char)(slot + sizes[slot]))
				__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		sizes[slot] = 1 + (random >> 8) % (random >> 30 & 15 ? 2000 : 200000);
		if (random >> 40 & 3) {
			free(blocks[slot]);
			blocks[slot] =
				random >> 42 & 1 ? malloc(sizes[slot]) : calloc(1, sizes[slot]);
		} else {
			blocks[slot] = realloc(blocks[slot], sizes[slot]);
		}
		memset(blocks[slot], (int)(slot + sizes[slot]), sizes[slot]);
	}
	for (slot = 0; slot < SLOTS; slot++)
		free(blocks[slot]);
	return NULL;
}

static void heap(void)
{
	pthread_t threads[2];
	int i;

	for (i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)i);
	churn((void *)7);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

static void loader(void)
{
	static const char *const names[] = {"libzstd.so.1", "libz.so.1", "libelf.so.1"};
	static const char *const functions[] = {"ZSTD_versionNumber", "zlibVersion", "elf_version"};
	void *library;
	int i = 0;

	while (!enough) {
		i = (i + 1) % 3;
		library = dlopen(names[i], i == 1 ? RTLD_LAZY : RTLD_NOW);
		if (!library || !dlsym(library, functions[i]))
			wrong++;
		if (library && dlclose(library))
			wrong++;
	}
}

static void on_alarm(int number)
{
	int saved = errno;

	if (number != SIGALRM || write(ends[1], "x", 1) != 1)
		wrong++;
	sent++;
	errno = saved;
}

static void signals(void)
{
	struct itimerval often = {{0, 1000}, {0, 1000}};
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	long received = 0;
	char bytes[64];
	ssize_t got;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (!enough) {
		free(malloc(100 + received % 1000));
		got = read(ends[0], bytes, 1 + received % sizeof(bytes));
		if (got <= 0)
			wrong++;
		else
			received += got;
	}
	memset(&often, 0, sizeof(often));
	setitimer(ITIMER_REAL, &often, NULL);
	close(ends[1]);
	while ((got = read(ends[0], bytes, sizeof(bytes))) > 0)
		received += got;
	if (received != sent)
		wrong++;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "heap";

	if (pipe(ends) < 0)
		return 2;
	if (!strcmp(mode, "heap"))
		heap();
	else if (!strcmp(mode, "loader"))
		loader();
	else
		signals();
	printf("%s: %d wrong\n", mode, wrong);
	return wrong ? 1 : 42;
}
