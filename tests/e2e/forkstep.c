/*
 * At every 7th instruction of a malloc whose stack is a new one a signal handler forks, and the
 * child goes on from there, allocates and exits.  Prints how many there were and how many
 * were killed.  May use libc.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_FLAG 0x100L
#define DEPTH 12

static int forks, killed, steps, stepping;

static void step(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	pid_t child;
	int status;

	(void)number;
	(void)info;
	if (!stepping) {
		registers[REG_EFL] &= ~TRAP_FLAG;
		return;
	}
	if (++steps % 7)
		return;
	child = fork();
	if (child == 0) {
		signal(SIGALRM, SIG_DFL);
		alarm(20); /* none may wait for ever */
		stepping = 0;
		registers[REG_EFL] &= ~TRAP_FLAG;
	} else if (waitpid(child, &status, 0) == child) {
		forks++;
		killed += status != 0;
	}
}

/* The bits of which say from which of two calls each frame is called.  trap: TRAP_FLAG or 0. */
__attribute__((noinline)) static void *allocate(unsigned int which, int depth, long trap)
{
	void *volatile block;

	if (depth == 0) {
		__asm__ volatile("pushfq; orq %0, (%%rsp); popfq" : : "r"(trap) : "cc", "memory");
		block = malloc(50);
		stepping = 0;
	} else if (which & 1u << (depth - 1)) {
		block = allocate(which, depth - 1, trap);
	} else {
		block = allocate(which, depth - 1, trap);
		__asm__ volatile("nop"); /* another call */
	}
	return block;
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
	unsigned int which;
	pid_t self = getpid();

	for (which = 0; which < 1u << DEPTH; which += 3)
		free(allocate(which, DEPTH, 0));
	sigaction(SIGTRAP, &action, NULL);
	stepping = 1;
	free(allocate(0x5aa, DEPTH, TRAP_FLAG));
	if (getpid() != self)
		_exit(0);
	printf("%d forks, %d killed\n", forks, killed);
	return 0;
}
