/*
 * What the helper's parts expect of the rest of the helper, for unit tests
 * that link some of them into an ordinary program: the header, the wiped
 * page, raw system calls and memory functions on top of libc.
 *
 * Include it in one file of a test program.
 */
#ifndef TM_TEST_HELPER_STUBS_H
#define TM_TEST_HELPER_STUBS_H

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "helper.h"
#include "sys.h"
#include "track.h"

struct tm_header tm_header;
struct tm_wiped tm_wiped_memory;
uint64_t test_syscalls;        /* made by the code under test */
void (*test_on_syscall)(void); /* called before each of them */
long test_forbidden = -1;      /* the number of one that fails */

long tm_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	long result;

	if (test_on_syscall)
		test_on_syscall();
	test_syscalls++;
	if (number == test_forbidden)
		return -EPERM;
	result = syscall(number, a, b, c, d, e, f);
	return result == -1 ? -errno : result;
}

void *tm_memcpy(void *to, const void *from, size_t size)
{
	return memmove(to, from, size);
}

void *tm_memset(void *to, int byte, size_t size)
{
	return memset(to, byte, size);
}

/* The variables of tm.h that a refresh found. */
uint64_t test_trackers[16];
uint32_t test_tracker_count;

void tm_track_found(int mem, uint64_t variable)
{
	(void)mem;
	if (test_tracker_count < 16)
		test_trackers[test_tracker_count++] = variable;
}

/* A program's helper image is empty. */
const uint8_t tm_eh_frame_hdr_start[1];
const uint8_t tm_eh_frame_hdr_end[1];

#endif
