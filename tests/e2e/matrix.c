/*
 * What every row of the matrix is: keeps fifty blocks when it is told to,
 * gives them back when it is told again, and ends with status 7.
 *
 * Waits on standard input.  Uses nothing but read and write once it runs, so
 * that it also lives in a sandbox; OWN gives it a malloc of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#define HAS_SECCOMP 1
#endif

#define BLOCKS 50
#define SIZE 100

static char *kept[BLOCKS];
static int is_strict;

#ifdef OWN
static char area[1 << 20];
static size_t used;

__attribute__((noinline)) void *malloc(size_t size)
{
	size_t start = used;

	if (size > sizeof(area) - used)
		return NULL;
	used += (size + 15) & ~(size_t)15;
	return &area[start];
}

__attribute__((noinline)) void free(void *block)
{
	if (block)
		*(volatile char *)block = 0;
}
#endif

static void say(const char *format, unsigned long value)
{
	char line[64];
	int length = snprintf(line, sizeof(line), format, value);

	if (write(1, line, (size_t)length) != length)
		abort();
}

static void wait_for_word(void)
{
	char word;

	if (read(0, &word, 1) != 1)
		abort();
}

#ifdef HAS_SECCOMP
/* Only what an allocator and this program need; anything else kills the process. */
static void forbid_all_but_memory(void)
{
#define ALLOW(name)                                            \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		ALLOW(read),
		ALLOW(write),
		ALLOW(mmap),
		ALLOW(munmap),
		ALLOW(madvise),
		ALLOW(brk),
		ALLOW(mremap),
		ALLOW(exit_group),
		ALLOW(exit),
		ALLOW(restart_syscall),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		abort();
}
#endif

static void prepare(const char *how)
{
	if (!strcmp(how, "limit")) {
		struct rlimit limit = {96 << 20, 96 << 20};

		if (setrlimit(RLIMIT_AS, &limit))
			abort();
	}
#ifdef HAS_SECCOMP
	if (!strcmp(how, "filter"))
		forbid_all_but_memory();
	if (!strcmp(how, "strict")) {
		is_strict = 1;
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			abort();
	}
#endif
}

__attribute__((noinline)) static void allocate(int i)
{
	kept[i] = malloc(SIZE); /* line: kept */
	__asm__ volatile("" : : : "memory");
}

__attribute__((noinline)) static void work(void)
{
	int i;

	for (i = 0; i < BLOCKS; i++) {
		allocate(i); /* line: work */
		memset(kept[i], i, SIZE);
	}
}

int main(int argc, char **argv)
{
	unsigned long sum = 0;
	int i;

	free(malloc(SIZE)); /* the allocator is set up */
	if (argc > 1)
		prepare(argv[1]);
	say("ready\n", 0);
	wait_for_word();
	work(); /* line: main */
	say("allocated %#lx\n", (unsigned long)kept[0]);
	wait_for_word();
	for (i = 0; i < BLOCKS; i++) {
		sum += (unsigned long)kept[i][SIZE - 1];
		free(kept[i]);
	}
	say("sum %lu\n", sum);
#ifdef HAS_SECCOMP
	if (is_strict)
		syscall(SYS_exit, 7);
#endif
	_exit(7);
}
