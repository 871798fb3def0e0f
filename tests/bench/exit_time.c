/*
 * Preloaded into a whole program: when it ends, writes to the standard error
 * its name, its processor time and the time on the wall since its libraries
 * were initialized, both in seconds, and its highest resident memory in KiB.
 * Must not allocate.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <mcheck.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double began;

static double seconds(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static __attribute__((constructor)) void begin(void)
{
	began = seconds(CLOCK_MONOTONIC);
	if (getenv("MALLOC_TRACE"))
		mtrace();
}

static __attribute__((destructor)) void tell(void)
{
	struct rusage usage;
	char text[256];
	int length;

	getrusage(RUSAGE_SELF, &usage);
	length = snprintf(text, sizeof(text), "\nEXIT %s %.6f %.6f %ld\n",
			  program_invocation_short_name, seconds(CLOCK_PROCESS_CPUTIME_ID),
			  seconds(CLOCK_MONOTONIC) - began, usage.ru_maxrss);
	if (length > 0 && write(2, text, (size_t)length) < 0)
		return;
}
