/*
 * Does one kind of work over and over, for a debugger to stop in the middle of
 * it, then keeps KEPT blocks of KEPT_SIZE bytes, passes checkpoint() and prints
 * a sum that depends on all that went before.  May use libc, pthread and dl.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define KEPT 7
#define KEPT_SIZE 1234

static uint64_t sum;
static volatile sig_atomic_t handled;
static int idle_pipe[2];
static int interrupted; /* system calls that ended with EINTR */
void *kept[KEPT];

void checkpoint(void);
__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("" ::: "memory");
}

static void handler(int number)
{
	handled += number == SIGUSR1;
}

__attribute__((noinline)) static void keep(void)
{
	int i;

	for (i = 0; i < KEPT; i++)
		kept[i] = malloc(KEPT_SIZE); /* line: keep */
}

static void *idle(void *argument)
{
	char byte;

	if (read(idle_pipe[0], &byte, 1) < 0)
		interrupted++;
	return argument;
}

__attribute__((noinline)) static void churn(int rounds)
{
	unsigned char *blocks[64] = {NULL};
	uint64_t random = 88172645463325252ull;
	size_t size;
	int i, slot;

	for (i = 0; i < rounds; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		slot = random % 64;
		size = 1 + (random >> 8) % 5000;
		if (blocks[slot]) {
			sum = sum * 31 + blocks[slot][0];
			free(blocks[slot]);
		}
		blocks[slot] = malloc(size);
		blocks[slot][0] = (unsigned char)size;
	}
	for (i = 0; i < 64; i++)
		free(blocks[i]);
}

static void *churn_thread(void *argument)
{
	char byte;

	if (read(idle_pipe[0], &byte, 1) < 0) /* all begin at once */
		interrupted++;
	free(malloc(100));
	return argument;
}

__attribute__((noinline)) static void many_threads(int count)
{
	pthread_t threads[1000];
	int i;

	for (i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, churn_thread, NULL);
	write(1, "ready\n", 6);
	while (!handled) /* in whichever thread SIGUSR1 arrives */
		usleep(10000);
	for (i = 0; i < count; i++)
		if (write(idle_pipe[1], "x", 1) != 1)
			interrupted++;
	for (i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	sum = count;
}

__attribute__((noinline)) static void open_libraries(int rounds)
{
	void *library, *function;
	int i;

	for (i = 0; i < rounds; i++) {
		library = dlopen("libzstd.so.1", RTLD_NOW);
		function = library ? dlsym(library, "ZSTD_versionNumber") : NULL;
		sum += function ? ((unsigned int (*)(void))(uintptr_t)function)() > 0 : 0;
		if (library)
			dlclose(library);
	}
}

static void wait_in_epoll(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(0), count;

	epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
	write(1, "ready\n", 6);
	while ((count = epoll_wait(epoll, &event, 1, 60000)) < 0)
		interrupted++;
	sum = count;
	close(epoll);
}

static void wait_in_read(void)
{
	char line[16];

	write(1, "ready\n", 6);
	sum = read(0, line, sizeof(line));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "churn";
	pthread_t thread;

	signal(SIGUSR1, handler);
	if (pipe(idle_pipe) < 0)
		return 2;
	if (!strcmp(mode, "churn")) {
		pthread_create(&thread, NULL, idle, NULL); /* makes libc take its locks */
		churn(200000);
		if (write(idle_pipe[1], "x", 1) != 1)
			return 2;
		pthread_join(thread, NULL);
	} else if (!strcmp(mode, "dlopen")) {
		open_libraries(20);
	} else if (!strcmp(mode, "epoll")) {
		wait_in_epoll();
	} else if (!strcmp(mode, "read")) {
		wait_in_read();
	} else {
		many_threads(atoi(mode));
	}
	keep();
	checkpoint();
	printf("%s: sum %llu, %d handled, %d interrupted\n", mode, (unsigned long long)sum,
	       (int)handled, interrupted);
	return 0;
}
