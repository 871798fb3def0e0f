/* What ledger.c is linked with to have exceptions thrown out of operator new, and through frames. */
#include <cstddef>
#include <new>

static volatile std::size_t huge = std::size_t(1) << 60;
static void *volatile kept;

__attribute__((noinline)) static void dive(int depth)
{
	volatile char room[64];

	room[0] = 0;
	if (depth)
		dive(depth - 1);
	else
		kept = ::operator new(huge);
	room[1] = room[0];
}

extern "C" int throw_and_catch(int depth)
{
	try {
		dive(depth);
	} catch (const std::bad_alloc &) {
		return 1;
	}
	return 0;
}
