/*
 * A signal handler that interrupts malloc and forks; both processes go on in that malloc,
 * and allocate more.  fork may be called by handlers, signal-safety(7).  Then some more blocks.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t child = -1;
static void *volatile kept[3];

static void fork_here(int number)
{
	(void)number;
	child = fork();
}

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("");
}

int main(void)
{
	int status = 0, i;

	signal(SIGUSR1, fork_here);
	kept[0] = malloc(16);
	checkpoint();
	kept[1] = malloc(1 << 20); /* the allocator calls mmap */
	kept[2] = malloc(100);
	free(kept[1]);
	if (child == 0)
		_exit(7);
	if (child > 0 && waitpid(child, &status, 0) == child)
		printf("the child's status: %#x\n", (unsigned int)status);
	for (i = 0; i < 100; i++) {
		kept[2] = malloc(1 << 16);
		free(kept[2]);
	}
	return 0;
}
