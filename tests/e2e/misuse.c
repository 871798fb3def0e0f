/*
 * Waits for lines on standard input and allocates for each; prints their number
 * at the end.  For wrong usage of the commands: nothing may change here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *kept;

int main(void)
{
	int lines = 0;
	char byte;

	write(1, "ready\n", 6);
	while (read(0, &byte, 1) == 1) {
		free(kept);
		kept = malloc(1000); /* line: kept */
		lines += byte == '\n';
		write(1, "line\n", 5);
	}
	printf("%d lines\n", lines);
	return 0;
}
