/*
 * A handler of SIGUSR1 on a stack of its own, and one allocation to interrupt.
 * May use libc.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

__attribute__((noinline)) void handler(int number)
{
	__asm__ volatile("" : : "r"(number));
}

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("");
}

void *volatile kept;

int main(void)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	stack_t stack = {.ss_size = 65536};

	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, NULL);
	checkpoint();
	kept = malloc(5000);
	puts("end");
	return 0;
}
