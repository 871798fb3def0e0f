/*
 * Waits, once, in the system call that its argument names and prints what came
 * of it: a debugger that attaches meanwhile must not be noticed.  "nanosleep" takes
 * as many seconds as the second argument says; "vfork" and "long_vfork" wait for a
 * child of vfork, the second one for a child that waits for a byte.  May use libc.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct timespec forever = {1000, 0};
static struct timespec long_enough;

static long in_epoll(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(0);

	epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
	return epoll_wait(epoll, &event, 1, 1000000);
}

static long in_semtimedop(void)
{
	struct sembuf down = {0, -1, 0};
	int set = semget(IPC_PRIVATE, 1, 0600);
	long result;

	printf("set %d\n", set);
	fflush(stdout);
	result = semtimedop(set, &down, 1, &forever);
	semctl(set, 0, IPC_RMID);
	return result;
}

static long in_sigtimedwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return sigtimedwait(&set, NULL, &forever) == SIGUSR1 ? 1 : -1;
}

static long in_recv(void)
{
	struct timeval timeout = {1000, 0};
	char byte;

	setsockopt(0, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	return recv(0, &byte, 1, 0);
}

static long in_poll(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	return poll(&input, 1, 1000000);
}

static long in_ppoll(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, SIGINT);
	return ppoll(&input, 1, &forever, &set);
}

static long in_select(void)
{
	struct timeval timeout = {1000, 0};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(0, &set);
	return select(1, &set, NULL, NULL, &timeout);
}

static long in_nanosleep(void)
{
	return nanosleep(&long_enough, NULL) ? -1 : 1;
}

static long in_vfork(void)
{
	int status;
	pid_t child = vfork();

	if (child == 0) {
		execlp("sleep", "sleep", "0.1", NULL);
		_exit(127);
	}
	return waitpid(child, &status, 0) == child && status == 0 ? 1 : -1;
}

static long in_long_vfork(void)
{
	int status;
	char byte;
	pid_t child = vfork();

	if (child == 0) {
		ssize_t got = read(0, &byte, 1);

		_exit(got != 1);
	}
	return waitpid(child, &status, 0) == child && status == 0 ? 1 : -1;
}

static long in_write(void)
{
	return write(1, "+", 1);
}

static const struct {
	const char *name;
	long (*function)(void);
} ways[] = {{"epoll", in_epoll},
	    {"semtimedop", in_semtimedop},
	    {"sigtimedwait", in_sigtimedwait},
	    {"recv", in_recv},
	    {"poll", in_poll},
	    {"ppoll", in_ppoll},
	    {"select", in_select},
	    {"nanosleep", in_nanosleep},
	    {"vfork", in_vfork},
	    {"long_vfork", in_long_vfork},
	    {"write", in_write}};

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "poll";
	size_t i;
	long result = -2;

	if (argc > 2)
		long_enough.tv_sec = atoi(argv[2]);
	printf("ready\n");
	fflush(stdout);
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(ways[i].name, name))
			result = ways[i].function();
	printf("%s: %ld, %s\n", name, result, result < 0 ? strerror(errno) : "no error");
	free(malloc(10));
	return 0;
}
