/*
 * A bad_alloc is thrown out of operator new a thousand times; after each, a
 * block is allocated much deeper in the stack than the call that threw, and
 * one by a thread that ended in the middle of an exception.
 */
#include <cstdio>
#include <cstdlib>
#include <new>
#include <pthread.h>

void *kept[2001];
static int count;
volatile std::size_t huge = std::size_t(1) << 60;

__attribute__((noinline)) static void allocate(int depth)
{
	volatile char room[256];

	room[0] = 0;
	if (depth)
		allocate(depth - 1);
	else
		kept[count++] = std::malloc(64); // line: deep
	room[1] = room[0];
}

__attribute__((noinline)) static void throw_out_of_new()
{
	kept[2000] = ::operator new(huge);
}

static void *leave_thread(void *argument)
{
	try {
		throw_out_of_new();
	} catch (const std::bad_alloc &) {
		allocate(10);
		pthread_exit(argument);
	}
	return nullptr;
}

extern "C" __attribute__((noinline)) void checkpoint()
{
	__asm__ volatile("" : : : "memory");
}

int main()
{
	pthread_t thread;
	int caught = 0, i;

	checkpoint();
	for (i = 0; i < 1000; i++) {
		try {
			throw_out_of_new();
		} catch (const std::bad_alloc &) {
			caught++;
		}
		if (i == 500)
			checkpoint();
		allocate(20);
	}
	for (i = 0; i < 100; i++) {
		pthread_create(&thread, nullptr, leave_thread, nullptr);
		pthread_join(thread, nullptr);
	}
	std::printf("%d caught, %d kept\n", caught, count);
	checkpoint();
	return 0;
}
