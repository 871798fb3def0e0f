/*
 * Holds a known number of blocks of each size, allocated in each of five ways
 * (way W has W bytes more), and frees them all; again and again.
 * The sizes are those of test_sampling.py.
 */
#include <cstddef>
#include <cstdlib>
#include <new>

static const size_t sizes[] = {16,    64,     256,     1024,    4096,    16384,
			       65536, 262144, 1 << 20, 4 << 20, 16 << 20};
static const size_t bytes_of_a_size = 32768;

struct block {
	void *memory;
	int way;
};

static block blocks[20000];

extern "C" __attribute__((noinline)) void held(int round)
{
	__asm__ volatile("" : : "r"(round) : "memory");
}

extern "C" __attribute__((noinline)) void freed(int round)
{
	__asm__ volatile("" : : "r"(round) : "memory");
}

static void *allocate(size_t size, int way)
{
	void *memory = nullptr;

	switch (way) {
	case 0:
		return malloc(size);
	case 1:
		return calloc(1, size);
	case 2:
		return realloc(malloc(size / 2), size);
	case 3:
		return ::operator new(size);
	default:
		return posix_memalign(&memory, 64, size) ? nullptr : memory;
	}
}

static void release(const block &block)
{
	if (block.way == 3)
		::operator delete(block.memory);
	else
		free(block.memory);
}

int main()
{
	for (int round = 0;; round++) {
		size_t count = 0;

		for (size_t size : sizes)
			for (int way = 0; way < 5; way++)
				for (size_t i = 0; i < (bytes_of_a_size + size - 1) / size; i++)
					blocks[count++] = {allocate(size + way, way), way};
		held(round);
		for (size_t i = 0; i < count; i++)
			release(blocks[i]);
		freed(round);
	}
}
