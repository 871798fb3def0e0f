/*
 * Keeps its own list of live blocks over many threads and random operations, so
 * that a debugger can compare it with the trace table at any instant.
 *
 * Before an operation its thread writes what it is about to do into its
 * `flight`, and clears it after the list is up to date.  A block that no flight
 * names is certain: the table must hold it exactly.  May use libc and pthread;
 * must never allocate between `ready` and the end but through SITE().
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef THREADS
#define THREADS 8
#define PARTITIONS 16
#define RECORDS 2048 /* in each partition */
#endif
#define ACTORS 8 /* who allocates in another way, beside the threads */
#define DEEPEST 30
#define DEPTH_MASK 255
#define ACTOR(kind) ((uint32_t)(kind) << 8) /* in a record's depth: who it was */

struct record {
	uint64_t address; /* 0: no block; written by the holder of the partition */
	uint64_t size;
	uint32_t line;  /* of the call */
	uint32_t depth; /* calls of descend_* above it */
};

struct flight {
	uint64_t active;   /* 1 between `began` and `landed` */
	uint64_t record;   /* index into records of the block concerned */
	uint64_t releases; /* 1: the old block may go; 0: only a new one may come */
	struct record before;
	struct record after; /* address unknown: 0 */
};

struct record records[PARTITIONS * RECORDS];
struct flight flights[THREADS + ACTORS];
uint64_t operations[THREADS];
uint64_t wanted;     /* operations of each thread, at least */
volatile int go;     /* set by the debugger: begin */
volatile int leave;  /* set by the debugger: finish when `wanted` are done */
volatile int paused; /* threads that finished */
static int partition_locks[PARTITIONS];
static pthread_barrier_t gate;
static int failures;

static inline void barrier(void)
{
	__asm__ volatile("" ::: "memory");
}

static inline void began(struct flight *f)
{
	barrier();
	f->active = 1;
	barrier();
}

static inline void landed(struct flight *f)
{
	barrier();
	f->active = 0;
	barrier();
}

#ifdef DOMAIN
/* All blocks come from an allocator of the program's own. */
__attribute__((noinline)) static void *pool_alloc(size_t size)
{
	void *block = malloc(size);

	barrier();
	return block;
}

__attribute__((noinline)) static void pool_free(void *block)
{
	free(block);
	barrier();
}

__attribute__((noinline)) static void *pool_realloc(void *block, size_t size)
{
	void *new = realloc(block, size);

	barrier();
	return new;
}

#define malloc(size) pool_alloc(size)
#define calloc(count, size) pool_alloc((count) * (size))
#define posix_memalign(place, alignment, size) ((void)(alignment), *(place) = pool_alloc(size), 0)
#define aligned_alloc(alignment, size) pool_alloc(size)
#define memalign(alignment, size) pool_alloc(size)
#define realloc(block, size) pool_realloc(block, size)
#define reallocarray(block, count, size) pool_realloc(block, (count) * (size))
#define free(block) pool_free(block)
#endif

/* The line of the call, the flight and the call itself stand on one line. */
#define SITE(f, call) ((f)->after.line = __LINE__, began(f), call)

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void mark(void *block, size_t size)
{
	if (size >= 1) {
		((unsigned char *)block)[0] = (unsigned char)((uintptr_t)block >> 4);
		((unsigned char *)block)[size - 1] = (unsigned char)((uintptr_t)block >> 4);
	}
}

static void check(const void *block, uintptr_t was, size_t size, int whole)
{
	const unsigned char *bytes = block;

	if (size >= 1 && (bytes[0] != (unsigned char)(was >> 4) ||
			  (whole && bytes[size - 1] != (unsigned char)(was >> 4))))
		__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
}

static size_t random_size(uint64_t *random)
{
	uint64_t kind = next_random(random) % 100;

	if (kind < 2)
		return 0;
	if (kind < 80)
		return next_random(random) % 256;
	if (kind < 97)
		return next_random(random) % 4096;
	return next_random(random) % 200000;
}

static void *allocate(struct flight *f, size_t size, uint64_t *random)
{
	size_t alignment = (size_t)16 << next_random(random) % 6;
	void *block = NULL;

	f->after.size = size;
	switch (next_random(random) % 10) {
	case 0:
		return SITE(f, calloc(1, size));
	case 1:
		f->after.size = size / 8 * 8;
		return SITE(f, calloc(size / 8, 8));
	case 2:
		if (SITE(f, posix_memalign(&block, alignment, size)))
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		return block;
	case 3:
		return SITE(f, aligned_alloc(alignment, size));
	case 4:
		return SITE(f, memalign(alignment, size));
	case 5:
		return SITE(f, realloc(NULL, size));
	case 6:
		f->after.size = size / 4 * 4;
		return SITE(f, reallocarray(NULL, size / 4, 4));
	default:
		return SITE(f, malloc(size));
	}
}

static void resize(struct flight *f, struct record *r, size_t size, uint64_t *random)
{
	uintptr_t old = r->address;
	size_t common;
	void *block;

	switch (next_random(random) % 8) {
	case 0: /* fails and keeps the old block */
		f->after = *r;
		began(f);
		block = realloc((void *)old, (size_t)PTRDIFF_MAX + size);
		if (block)
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		return;
#ifndef OTHER_ALLOCATOR
	case 1: /* realloc(p, 0) is glibc's free */
		f->after.size = 0;
		f->after.line = 0;
		began(f);
		block = realloc((void *)old, 0);
		if (block)
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		r->address = 0;
		return;
#endif
	case 2:
		size = size / 16 * 16 + 16;
		f->after.size = size;
		block = SITE(f, reallocarray((void *)old, size / 16, 16));
		break;
	default:
		size += 1;
		f->after.size = size;
		block = SITE(f, realloc((void *)old, size));
		break;
	}
	common = r->size < size ? r->size : size;
	check(block, old, common, 0);
	mark(block, size);
	r->address = (uintptr_t)block;
	r->size = size;
	r->line = f->after.line;
	r->depth = f->after.depth;
}

__attribute__((noinline)) static void operate(struct flight *f, uint64_t *random, uint32_t depth)
{
	uint32_t partition = next_random(random) % PARTITIONS;
	struct record *r;
	void *block;
	int i;

	while (__atomic_exchange_n(&partition_locks[partition], 1, __ATOMIC_ACQUIRE))
		partition = (partition + 1) % PARTITIONS;
	for (i = 0; i < 4; i++) {
		r = &records[partition * RECORDS + next_random(random) % RECORDS];
		f->record = r - records;
		f->before = *r;
		f->after.depth = depth;
		f->releases = r->address != 0;
		if (!r->address) {
			block = allocate(f, random_size(random), random);
			mark(block, f->after.size);
			r->size = f->after.size;
			r->line = f->after.line;
			r->depth = depth;
			barrier();
			r->address = (uintptr_t)block;
		} else if (next_random(random) % 4 == 0) {
			resize(f, r, random_size(random), random);
		} else {
			check((void *)r->address, r->address, r->size, 1);
			f->after.line = 0;
			began(f);
			free((void *)r->address);
			r->address = 0;
		}
		landed(f);
	}
	__atomic_store_n(&partition_locks[partition], 0, __ATOMIC_RELEASE);
}

static void descend_even(struct flight *f, uint64_t *random, uint32_t depth, uint32_t left);

__attribute__((noinline)) static void descend_odd(struct flight *f, uint64_t *random,
						  uint32_t depth, uint32_t left)
{
	if (left)
		descend_even(f, random, depth, left - 1); /* line: descend_odd */
	else
		operate(f, random, depth); /* line: operate_odd */
	barrier();
}

__attribute__((noinline)) static void descend_even(struct flight *f, uint64_t *random,
						   uint32_t depth, uint32_t left)
{
	char room[(depth & DEPTH_MASK) % 3 * 48 + 16]; /* frames of varying size */

	__asm__ volatile("" : : "r"(room) : "memory");
	if (left)
		descend_odd(f, random, depth, left - 1); /* line: descend_even */
	else
		operate(f, random, depth); /* line: operate_even */
	barrier();
}

__attribute__((noinline)) static void *work(void *argument)
{
	uint64_t index = (uint64_t)(uintptr_t)argument;
	uint64_t random = 88172645463325252ull + index * 7919;
	struct flight *f = &flights[index];
	uint32_t depth;

	pthread_barrier_wait(&gate);
	while (!go)
		usleep(1000);
	while (!leave || operations[index] < wanted) {
		depth = next_random(&random) % DEEPEST;
		descend_even(f, &random, depth, depth); /* line: work */
		operations[index] += 4;
	}
	__atomic_fetch_add(&paused, 1, __ATOMIC_RELEASE);
	while (leave != 2)
		usleep(1000);
	return NULL;
}

/* ---- others who allocate ------------------------------------------------- */

static uint64_t actor_random[ACTORS];
volatile pid_t kept_child; /* one that waits to be looked at */
volatile uint64_t acts;    /* how often an actor did something */

__attribute__((noinline)) static void act(uint32_t kind, uint32_t actor)
{
	uint64_t *random = &actor_random[actor];
	uint32_t depth;

	if (!*random)
		*random = 0x9e3779b97f4a7c15ull + actor * 7919;
	depth = next_random(random) % DEEPEST;
	/* line: act */ descend_even(&flights[THREADS + actor], random, depth | ACTOR(kind), depth);
	barrier();
}

/* Kind 1: children of a program with many threads allocate, and end in three ways. */
static void *forker(void *unused)
{
	uint32_t i;

	(void)unused;
	while (!leave) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			for (i = 0; i < 200; i++)
				act(1, 0); /* line: actor1 */
			if (acts % 3 == 0)
				execl("/bin/true", "true", NULL);
			if (acts % 3 == 1 || acts < 5 || kept_child)
				_exit(failures != 0);
			for (;;)
				pause();
		}
		if (acts % 3 == 2 && acts >= 5 && !kept_child)
			kept_child = child;
		else if (waitpid(child, &status, 0) != child || status)
			__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
		acts++;
		usleep(1000);
	}
	return unused;
}

/* Kind 2: threads that come and go. */
static void *visitor(void *unused)
{
	act(2, (uint32_t)(uintptr_t)unused); /* line: actor2 */
	return unused;
}

static void *doorman(void *unused)
{
	pthread_t visitors[4];
	uintptr_t i;

	(void)unused;
	while (!leave) {
		for (i = 0; i < 4; i++)
			pthread_create(&visitors[i], NULL, visitor, (void *)i);
		for (i = 0; i < 4; i++)
			pthread_join(visitors[i], NULL);
		acts += 4;
	}
	return NULL;
}

/* Kind 3: a signal's handler, while its thread sleeps. */
static void on_signal(int number)
{
	(void)number;
	act(3, 0); /* line: actor3 */
	acts++;
}

static void *sleeper(void *unused)
{
	sigset_t none;

	(void)unused;
	sigemptyset(&none);
	signal(SIGUSR1, on_signal);
	while (!leave)
		sigsuspend(&none);
	return unused;
}

static void *waker(void *argument)
{
	while (!leave) {
		usleep(300);
		pthread_kill(*(pthread_t *)argument, SIGUSR1);
	}
	/* He may have gone to sleep between the last one and the end. */
	pthread_kill(*(pthread_t *)argument, SIGUSR1);
	return argument;
}

/* Kind 4: coroutines with small stacks of their own. */
#define COROUTINES 4
static ucontext_t scheduler, coroutines[COROUTINES];
static char stacks[COROUTINES][32768] __attribute__((aligned(16)));

static void coroutine(int number)
{
	for (;;) {
		act(4, (uint32_t)number); /* line: actor4 */
		swapcontext(&coroutines[number], &scheduler);
	}
}

static void *juggler(void *unused)
{
	int i;

	(void)unused;
	for (i = 0; i < COROUTINES; i++) {
		getcontext(&coroutines[i]);
		coroutines[i].uc_stack.ss_sp = stacks[i];
		coroutines[i].uc_stack.ss_size = sizeof(stacks[i]);
		coroutines[i].uc_link = NULL;
		makecontext(&coroutines[i], (void (*)(void))coroutine, 1, i);
	}
	while (!leave) {
		for (i = 0; i < COROUTINES; i++)
			swapcontext(&scheduler, &coroutines[i]);
		acts += COROUTINES;
	}
	return unused;
}

/* Kind 5: code of a library that is loaded and unloaded again and again. */
static void give_back(struct flight *f, struct record *r)
{
	f->record = r - records;
	f->before = *r;
	f->releases = 1;
	f->after.line = 0;
	began(f);
	free((void *)r->address);
	r->address = 0;
	landed(f);
}

static void *librarian(void *argument)
{
	struct flight *f = &flights[THREADS];
	struct record *r = &records[PARTITIONS * RECORDS - 1];
	uint64_t random = 5;

	while (__atomic_exchange_n(&partition_locks[PARTITIONS - 1], 1, __ATOMIC_ACQUIRE))
		usleep(10);
	give_back(f, r); /* this too may be what a stop finds him at */
	while (!leave) {
		void *library = dlopen(argument, RTLD_NOW);
		void *(*allocate_there)(size_t) = library ? dlsym(library, "allocate") : NULL;
		size_t size = random_size(&random);
		void *block;

		if (!allocate_there)
			abort();
		f->record = r - records;
		f->before = *r;
		f->after.size = size;
		f->after.depth = ACTOR(5);
		f->releases = 0;
		block = SITE(f, allocate_there(size)); /* line: actor5 */
		r->size = size;
		r->line = f->after.line;
		r->depth = ACTOR(5);
		barrier();
		r->address = (uintptr_t)block;
		landed(f);
		dlclose(library);
		usleep(500);
		give_back(f, r);
		acts++;
	}
	return NULL;
}

#ifdef EXCEPTIONS
int throw_and_catch(int depth);

/* Kind 6: between exceptions that operator new throws, from deeper and less deep. */
static void *catcher(void *unused)
{
	int i;

	(void)unused;
	for (i = 0; !leave; i++) {
		if (!throw_and_catch(i * 7 % 40))
			abort();
		act(6, 0); /* line: actor6 */
		acts++;
	}
	return NULL;
}
#endif

static pthread_t actors[2];

static void begin_acting(const char *who, char *argument)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (!strcmp(who, "signals"))
		pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (!strcmp(who, "forks"))
		pthread_create(&actors[0], NULL, forker, NULL);
	if (!strcmp(who, "visitors"))
		pthread_create(&actors[0], NULL, doorman, NULL);
	if (!strcmp(who, "coroutines"))
		pthread_create(&actors[0], NULL, juggler, NULL);
	if (!strcmp(who, "libraries"))
		pthread_create(&actors[0], NULL, librarian, argument);
#ifdef EXCEPTIONS
	if (!strcmp(who, "exceptions"))
		pthread_create(&actors[0], NULL, catcher, NULL);
#endif
	if (!strcmp(who, "signals")) {
		pthread_create(&actors[0], NULL, sleeper, NULL);
		pthread_create(&actors[1], NULL, waker, &actors[0]);
	}
}

static void end_acting(void)
{
	if (actors[1]) /* first: he needs the other one */
		pthread_join(actors[1], NULL);
	if (actors[0])
		pthread_join(actors[0], NULL);
	if (kept_child)
		kill(kept_child, SIGKILL);
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	uint64_t i, total = 0;

	wanted = (argc > 1 ? strtoull(argv[1], NULL, 0) : 2000000) / THREADS;
	if (argc > 2 && !strcmp(argv[2], "alone")) { /* no debugger will set them */
		go = 1;
		leave = 2;
	}
	pthread_barrier_init(&gate, NULL, THREADS + 1);
	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i);
	pthread_barrier_wait(&gate);
	write(1, "ready\n", 6);
	while (!go)
		usleep(1000);
	if (argc > 2)
		begin_acting(argv[2], argv[3]);
	while (paused < THREADS)
		usleep(1000);
	end_acting();
	write(1, "paused\n", 7);
	while (leave != 2)
		usleep(1000);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < PARTITIONS * RECORDS; i++)
		free((void *)records[i].address);
	for (i = 0; i < THREADS; i++)
		total += operations[i];
	printf("%llu operations, %d failures\n", (unsigned long long)total, failures);
	return failures != 0;
}
