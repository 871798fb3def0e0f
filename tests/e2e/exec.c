/*
 * Allocates, passes checkpoint(), and becomes itself once more, so often as its
 * argument says.  May use libc.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *kept;

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("");
}

int main(int count, char **arguments)
{
	char number[12];
	int times = count > 1 ? atoi(arguments[1]) : 0;

	for (int i = 0; i <= times; i++)
		kept = malloc((size_t)(1000 + times)); /* line: kept */
	checkpoint();
	if (times == 0)
		return puts("end") < 0;
	snprintf(number, sizeof(number), "%d", times - 1);
	execl("/proc/self/exe", arguments[0], number, (char *)NULL);
	return 1;
}
