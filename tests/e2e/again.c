/*
 * For each line on standard input keeps one more block of BLOCK bytes, from a
 * call depth of its own.  For a second debugger that takes up the tracing of a
 * first one.  May use libc.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK 3000

void *kept[100];
int count;

__attribute__((noinline)) static void *keep_one(void)
{
	void *block = malloc(BLOCK); /* line: keep */

	((char *)block)[0] = 1;
	return block;
}

int main(void)
{
	char byte;

	write(1, "ready\n", 6);
	while (read(0, &byte, 1) == 1) {
		kept[count++] = keep_one(); /* line: main */
		write(1, "kept\n", 5);
	}
	printf("%d blocks\n", count);
	return 0;
}
