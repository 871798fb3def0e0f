/*
 * The floor: the least that any tracer could do, to be preloaded into a program
 * that was built with frame pointers.  Follows their chain, hashes the stack,
 * keeps the hash in one open-addressing table and the block in another.
 *
 * It is no tracer: it keeps no frames, forgets when its table is full, and
 * believes every frame pointer.  FLOOR_FRAMES is how many frames it follows,
 * FLOOR_BLOCKS how many blocks its table should hold.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);

struct slot {
	uint64_t address; /* 0: never used; GONE */
	uint64_t value;   /* low 32 bits: size, high: stack */
};

#define GONE 1
#define STACKS 65536u
#define PROBES 4096u

static struct slot *slots;
static uint64_t mask;
static uint64_t stacks[STACKS];
static long frames = 10;

static void *map(uint64_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static __attribute__((constructor)) void begin(void)
{
	const char *blocks = getenv("FLOOR_BLOCKS"), *depth = getenv("FLOOR_FRAMES");
	uint64_t wanted = blocks ? strtoul(blocks, NULL, 10) : 1u << 20, size = 4096;

	while (size < wanted * 2)
		size *= 2;
	if (depth)
		frames = atol(depth);
	mask = size - 1;
	slots = map(size * sizeof(*slots));
}

static uint64_t hash_of(uint64_t address)
{
	return (address >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20;
}

static uint32_t stack_of(const uint64_t *frame)
{
	uint64_t hash = 0;
	uint32_t i, turn;
	long depth;

	for (depth = 0; depth < frames; depth++) {
		const uint64_t *caller = (const uint64_t *)frame[0];

		hash = (hash ^ frame[1]) * UINT64_C(0xd6e8feb86659fd93);
		if (caller <= frame || (uintptr_t)caller - (uintptr_t)frame > 1 << 20)
			break;
		frame = caller;
	}
	hash |= 1;
	for (turn = 0, i = (uint32_t)(hash >> 32); turn < STACKS; turn++, i++) {
		uint64_t *place = &stacks[i % STACKS], seen = *place;

		if (seen == hash)
			break;
		if (seen == 0 && __atomic_compare_exchange_n(place, &seen, hash, 0,
							     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			break;
	}
	return i % STACKS;
}

static void put(void *block, size_t size, const uint64_t *frame)
{
	uint64_t value, i, turn;

	if (!slots || !block)
		return;
	value = (uint64_t)stack_of(frame) << 32 | (uint32_t)size;
	for (turn = 0, i = hash_of((uint64_t)block); turn < PROBES; turn++, i++) {
		struct slot *slot = &slots[i & mask];
		uint64_t seen = slot->address;

		if (seen <= GONE &&
		    __atomic_compare_exchange_n(&slot->address, &seen, (uint64_t)block, 0,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			slot->value = value;
			return;
		}
	}
}

static void take(void *block)
{
	uint64_t i, turn;

	if (!slots || !block)
		return;
	for (turn = 0, i = hash_of((uint64_t)block); turn < PROBES; turn++, i++) {
		struct slot *slot = &slots[i & mask];

		if (slot->address == (uint64_t)block) {
			uint64_t next = slots[(i + 1) & mask].address;

			__atomic_store_n(&slot->address, next ? GONE : 0, __ATOMIC_RELEASE);
			return;
		}
		if (!slot->address)
			return;
	}
}

void *malloc(size_t size)
{
	void *block = __libc_malloc(size);

	put(block, size, __builtin_frame_address(0));
	return block;
}

void *calloc(size_t count, size_t size)
{
	void *block = __libc_calloc(count, size);

	put(block, count * size, __builtin_frame_address(0));
	return block;
}

void *realloc(void *old, size_t size)
{
	void *block;

	take(old);
	block = __libc_realloc(old, size);
	put(block, size, __builtin_frame_address(0));
	return block;
}

void free(void *block)
{
	take(block);
	__libc_free(block);
}
