/*
 * Counts the instructions that a process executes between two addresses:
 *     countsteps PID BEGIN END
 * attaches, prints `attached`, steps to BEGIN, counts to END, prints the number
 * and detaches.  For machines without hardware counters.  May use ptrace; must
 * never write to the process.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>

static unsigned long long where(pid_t pid)
{
	return (unsigned long long)ptrace(PTRACE_PEEKUSER, pid,
					  offsetof(struct user_regs_struct, rip), 0);
}

int main(int argc, char **argv)
{
	unsigned long long begin, end, at, count = 0;
	int status, counting = 0;
	pid_t pid;

	if (argc != 4)
		return 2;
	pid = atoi(argv[1]);
	begin = strtoull(argv[2], NULL, 0);
	end = strtoull(argv[3], NULL, 0);
	if (ptrace(PTRACE_ATTACH, pid, 0, 0) < 0 || waitpid(pid, &status, 0) < 0) {
		perror("attach");
		return 1;
	}
	puts("attached");
	fflush(stdout);
	for (;;) {
		if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) < 0 || waitpid(pid, &status, 0) < 0 ||
		    !WIFSTOPPED(status)) {
			perror("step");
			return 1;
		}
		at = where(pid);
		if (at == begin)
			counting = 1;
		if (counting && at == end)
			break;
		count += counting;
	}
	ptrace(PTRACE_DETACH, pid, 0, 0);
	printf("%llu\n", count);
	return 0;
}
