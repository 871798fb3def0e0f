/*
 * Allocates in a constructor that runs before main, as early as a program can,
 * and again in main.  For tracing that was armed before `run`.
 */
#include <cstdio>
#include <cstdlib>

static void *volatile early;
static void *volatile late;

__attribute__((constructor(101))) static void first_constructor()
{
	early = std::malloc(4321); // line: early
}

extern "C" __attribute__((noinline)) void checkpoint()
{
	__asm__ volatile("" : : : "memory");
}

int main()
{
	late = std::malloc(1234); // line: late
	checkpoint();
	std::printf("%d\n", early && late);
	return 0;
}
