/*
 * The operating system behind few functions: raw system calls and the memory
 * functions that the compiler may call.  Each returns a negative errno.
 *
 * Where a filter (seccomp(2)) may kill the process for a system call, the
 * header says `quiet`: then only those for memory are made, which allocators
 * need as well, and all others fail with EPERM.
 */
#ifndef TM_SYS_H
#define TM_SYS_H

#include "helper.h"

#define TM_EPERM 1
#define TM_ENOENT 2
#define TM_ESRCH 3
#define TM_EAGAIN 11
#define TM_ENOMEM 12
#define TM_EFAULT 14
#define TM_EINVAL 22
#define TM_ERANGE 34

#define TM_PROT_READ 1
#define TM_PROT_WRITE 2
#define TM_MAP_PRIVATE 0x02
#define TM_MAP_ANONYMOUS 0x20
#define TM_MAP_NORESERVE 0x4000
#define TM_MADV_DONTNEED 4
#define TM_MADV_WIPEONFORK 18
#define TM_MADV_POPULATE_READ 22
#define TM_CLOCK_REALTIME 0
#define TM_CLOCK_MONOTONIC 1
#define TM_AT_FDCWD (-100)
#define TM_O_RDONLY 0
#define TM_O_RDWR 2
#define TM_O_CLOEXEC 02000000

long tm_syscall(long number, long a, long b, long c, long d, long e, long f) TM_HIDDEN;

static inline bool sys_is_quiet(void)
{
	return unlikely(load_relaxed(&tm_header.quiet));
}

/* A system call that a filter may forbid. */
static inline long sys_other(long number, long a, long b, long c, long d)
{
	return sys_is_quiet() ? -TM_EPERM : tm_syscall(number, a, b, c, d, 0, 0);
}

static inline long sys_mmap(uint64_t address, uint64_t size, int protection, int flags)
{
	return tm_syscall(9, (long)address, (long)size, protection, flags, -1, 0);
}

static inline long sys_munmap(uint64_t address, uint64_t size)
{
	return tm_syscall(11, (long)address, (long)size, 0, 0, 0, 0);
}

static inline long sys_rt_sigprocmask(int how, const void *set, void *old, size_t size)
{
	return sys_other(14, how, (long)set, (long)old, (long)size);
}

static inline long sys_read(int fd, void *buffer, size_t size)
{
	return sys_other(0, fd, (long)buffer, (long)size, 0);
}

static inline long sys_close(int fd)
{
	return sys_other(3, fd, 0, 0, 0);
}

static inline long sys_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
	return sys_other(17, fd, (long)buffer, (long)size, (long)offset);
}

static inline long sys_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
	return sys_other(18, fd, (long)buffer, (long)size, (long)offset);
}

static inline long sys_ioctl(int fd, uint32_t request, void *argument)
{
	return sys_other(16, fd, (long)request, (long)argument, 0);
}

static inline long sys_openat(int directory, const char *path, int flags)
{
	return sys_other(257, directory, (long)path, flags, 0);
}

static inline long sys_sched_yield(void)
{
	return sys_other(24, 0, 0, 0, 0);
}

static inline long sys_madvise(uint64_t address, uint64_t size, int advice)
{
	return tm_syscall(28, (long)address, (long)size, advice, 0, 0, 0);
}

static inline long sys_getpid(void)
{
	return sys_other(39, 0, 0, 0, 0);
}

static inline long sys_gettid(void)
{
	return sys_other(186, 0, 0, 0, 0);
}

static inline long sys_tgkill(int pid, int tid, int signal)
{
	return sys_other(234, pid, tid, signal, 0);
}

struct tm_timespec {
	int64_t seconds;
	int64_t nanoseconds;
};

static inline long sys_clock_gettime(int clock, struct tm_timespec *ret)
{
	return sys_other(228, clock, (long)ret, 0, 0);
}

static inline long sys_nanosleep(const struct tm_timespec *duration)
{
	return sys_other(35, (long)duration, 0, 0, 0);
}

static inline bool sys_failed(long result)
{
	return (unsigned long)result >= (unsigned long)-4095;
}

void *tm_memcpy(void *to, const void *from, size_t size) TM_HIDDEN;
void *tm_memset(void *to, int byte, size_t size) TM_HIDDEN;

#endif
