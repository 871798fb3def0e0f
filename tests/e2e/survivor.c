/*
 * Allocates in several threads and checks every byte of every block when it is
 * freed, while main answers each '?' on its input with what happened so far and
 * ends at 'q'.  Arguments: number of threads; "timer" for a signal every
 * millisecond; "block", "ignore" or "handle" for what becomes of SIGSEGV and
 * SIGTRAP.  May use libc and pthread.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define SLOTS 128

static atomic_ulong rounds, errors, ticks;
static atomic_bool done;

void one_round(void);
__attribute__((noinline)) void one_round(void)
{
	atomic_fetch_add(&rounds, 1);
}

static void count_tick(int number)
{
	(void)number;
	atomic_fetch_add(&ticks, 1);
}

static void on_fault(int number)
{
	(void)number;
	atomic_fetch_add(&errors, 1);
}

static int is_filled(const unsigned char *block, size_t size, unsigned char with)
{
	while (size--)
		if (block[size] != with)
			return 0;
	return 1;
}

static void *churn(void *argument)
{
	unsigned char *blocks[SLOTS] = {NULL};
	size_t sizes[SLOTS] = {0}, size;
	uint64_t random = 88172645463325252ull + (uintptr_t)argument;
	int slot;

	while (!done) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		slot = random % SLOTS;
		size = 1 + (random >> 8) % 3000;
		if (blocks[slot] && !is_filled(blocks[slot], sizes[slot], (unsigned char)slot))
			atomic_fetch_add(&errors, 1);
		if (random >> 40 & 3) {
			free(blocks[slot]);
			blocks[slot] = random >> 42 & 1 ? malloc(size) : calloc(size, 1);
		} else {
			blocks[slot] = realloc(blocks[slot], size);
		}
		sizes[slot] = size;
		memset(blocks[slot], slot, size);
		if (slot == 0)
			one_round();
	}
	for (slot = 0; slot < SLOTS; slot++)
		free(blocks[slot]);
	return NULL;
}

static void dispose(const char *how)
{
	static const int faults[] = {SIGSEGV, SIGTRAP};
	struct sigaction action;
	sigset_t set;
	int i;

	sigemptyset(&set);
	for (i = 0; i < 2; i++) {
		sigaddset(&set, faults[i]);
		memset(&action, 0, sizeof(action));
		action.sa_handler = !strcmp(how, "ignore") ? SIG_IGN : on_fault;
		if (strcmp(how, "block"))
			sigaction(faults[i], &action, NULL);
	}
	if (!strcmp(how, "block"))
		pthread_sigmask(SIG_BLOCK, &set, NULL); /* the threads inherit it */
}

static void start_timer(void)
{
	struct itimerval often = {{0, 1000}, {0, 1000}};
	struct sigaction action = {.sa_flags = SA_RESTART};

	action.sa_handler = count_tick;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 2, i;
	unsigned long interrupted = 0;
	pthread_t thread[64];
	char command;
	ssize_t got;

	for (i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "timer"))
			start_timer();
		else
			dispose(argv[i]);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)i);
	printf("ready\n");
	while ((got = read(0, &command, 1)) != 0) {
		if (got < 0)
			interrupted++;
		else if (command == '?')
			printf("rounds %lu, ticks %lu, errors %lu, interrupted %lu.\n", rounds,
			       ticks, errors, interrupted);
		else if (command == 'q')
			break;
	}
	done = 1;
	for (i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	printf("end: errors %lu, interrupted %lu\n", errors, interrupted);
	return errors || interrupted ? 1 : 42;
}
