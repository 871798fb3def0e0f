/*
 * A heap that changes in a known way: live ROUNDS MILLISECONDS [epoll].  Each round
 * grow() adds 1000 bytes ten times, shrink() frees 2000 bytes, and round 2 brings
 * what was not there before; many() is there from the start, a line for each block.
 * Between two rounds the program waits in poll(2) or, when told so, in epoll_wait(2),
 * which tells of an interruption: it counts them, and says so at its end.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define SHRINKING 100

static void *kept[100000], *shrinking[SHRINKING];
static int used, left;
static int interrupted;

static void keep(void *block)
{
	memset(block, 1, 16);
	kept[used++ % 100000] = block;
}

__attribute__((noinline)) static void many(void)
{
	keep(malloc(900));
	keep(malloc(880));
	keep(malloc(860));
	keep(malloc(840));
	keep(malloc(820));
	keep(malloc(800));
	keep(malloc(780));
	keep(malloc(760));
	keep(malloc(740));
	keep(malloc(720));
	keep(malloc(700));
	keep(malloc(680));
	keep(malloc(660));
	keep(malloc(640));
	keep(malloc(620));
	keep(malloc(600));
	keep(malloc(580));
	keep(malloc(560));
	keep(malloc(540));
	keep(malloc(520));
	keep(malloc(500));
	keep(malloc(480));
	keep(malloc(460));
	keep(malloc(440));
	keep(malloc(420));
	keep(malloc(400));
	keep(malloc(380));
	keep(malloc(360));
	keep(malloc(340));
	keep(malloc(320));
}

__attribute__((noinline)) static void grow(void)
{
	int i;

	for (i = 0; i < 10; i++)
		keep(malloc(1000));
}

__attribute__((noinline)) static void fill(void)
{
	for (left = 0; left < SHRINKING; left++)
		shrinking[left] = malloc(2000);
}

__attribute__((noinline)) static void shrink(void)
{
	if (left > 0)
		free(shrinking[--left]);
}

__attribute__((noinline)) static void fresh(void)
{
	keep(calloc(1, 30000));
}

void round_done(int number);
__attribute__((noinline)) void round_done(int number)
{
	__asm__ volatile("" : : "r"(number) : "memory");
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 10, wait = argc > 2 ? atoi(argv[2]) : 10;
	int number, queue = argc > 3 ? epoll_create1(0) : -1;
	struct epoll_event event;

	many();
	fill();
	for (number = 1; number <= rounds; number++) {
		grow();
		shrink();
		if (number == 2)
			fresh();
		round_done(number);
		if (queue < 0)
			poll(NULL, 0, wait);
		else if (epoll_wait(queue, &event, 1, wait) < 0 && errno == EINTR)
			interrupted++;
	}
	printf("%d rounds, %d interrupted\n", rounds, interrupted);
	return 0;
}
