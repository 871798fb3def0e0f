/*
 * Allocates, forks, and allocates once more on each side, another size on each.
 * May use libc.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void *kept[2];

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("");
}

int main(void)
{
	int status = 0;
	pid_t child;

	checkpoint();
	kept[0] = malloc(100);
	child = fork();
	kept[1] = malloc(child ? 200 : 300);
	checkpoint();
	if (child && waitpid(child, &status, 0) == child)
		printf("child ended with %d\n", status);
	return 0;
}
