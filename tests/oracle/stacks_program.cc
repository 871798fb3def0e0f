/*
 * Allocates where stacks are unusual: while exceptions pass, in signal handlers, on
 * coroutine stacks, in threads, in callbacks of the C library, deep in recursion, in frames
 * of variable size, in realigned ones.
 *
 *     stacks_program ROUNDS
 */
#include <algorithm>
#include <alloca.h>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <ucontext.h>
#include <vector>

static void allocate(int number)
{
	void *volatile block = std::malloc(16 + number % 500);

	std::free(block);
}

struct Noisy {
	explicit Noisy(int number) : number(number) {}
	~Noisy() { allocate(number); }
	int number;
};

__attribute__((noinline)) static void fall(int depth)
{
	Noisy noisy(depth);

	if (depth == 0)
		throw std::runtime_error("a text that is too long to be kept in place");
	fall(depth - 1);
}

__attribute__((noinline)) static void realigned(int depth)
{
	alignas(64) volatile char room[128];

	room[depth % 128] = 1;
	auto *more = static_cast<char *>(alloca(depth * 16 + 1));
	memset(more, 0, depth * 16 + 1);
	allocate(depth + more[0]);
	if (depth)
		realigned(depth - 1);
	room[1] = room[0];
}

static void handler(int number)
{
	allocate(number);
	realigned(3);
}

static int compare(const void *a, const void *b)
{
	allocate(1);
	return *static_cast<const int *>(a) - *static_cast<const int *>(b);
}

static ucontext_t main_context[2], coroutine_context[2];

static void coroutine(int lane)
{
	for (int i = 0;; i++) {
		allocate(i);
		realigned(i % 7);
		swapcontext(&coroutine_context[lane], &main_context[lane]);
	}
}

__attribute__((noinline)) static int deep(int depth)
{
	volatile int result = depth;

	allocate(depth);
	return depth ? deep(depth - 1) + result : 0;
}

static void work(int rounds, int lane)
{
	std::map<std::string, std::vector<std::function<int(int)>>> map;
	std::unique_ptr<char[]> room(new char[65536]);

	getcontext(&coroutine_context[lane]);
	coroutine_context[lane].uc_stack = {room.get(), 0, 65536};
	coroutine_context[lane].uc_link = nullptr;
	makecontext(&coroutine_context[lane], reinterpret_cast<void (*)()>(coroutine), 1, lane);
	for (int round = 0; round < rounds; round++) {
		int numbers[] = {5, 3, round % 9, 1, 4, 8, 2};

		try {
			fall(round % 40);
		} catch (const std::exception &error) {
			map[error.what()].push_back([&](int n) { return n + round; });
		}
		qsort(numbers, 7, sizeof(*numbers), compare);
		std::sort(numbers, numbers + 7, [](int a, int b) { allocate(2); return a > b; });
		realigned(round % 20);
		deep(round * 37 % 300);
		raise(SIGUSR1);
		raise(SIGUSR2);
		swapcontext(&main_context[lane], &coroutine_context[lane]);
		for (auto &entry : map)
			for (auto &function : entry.second)
				allocate(function(round));
		map.clear();
	}
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100;
	stack_t own = {malloc(65536), 0, 65536};
	struct sigaction action = {};

	sigaltstack(&own, nullptr);
	action.sa_handler = handler;
	sigaction(SIGUSR1, &action, nullptr);
	action.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR2, &action, nullptr);
	std::thread other(work, rounds, 1);
	work(rounds, 0);
	other.join();
}
