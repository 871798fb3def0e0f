/*
 * Every form of operator new and delete, once; then a bad_alloc out of a huge
 * request.  Linked with libstdc++ alone, with tcmalloc and with mimalloc.
 */
#include <cstddef>
#include <cstdio>
#include <new>

struct alignas(128) Wide {
	char bytes[256];
};

void *volatile kept[16];
volatile std::size_t huge = static_cast<std::size_t>(1) << 62;

__attribute__((noinline)) void allocate()
{
	kept[0] = ::operator new(1001);                                      // line: plain
	kept[1] = ::operator new[](1002);                                    // line: array
	kept[2] = ::operator new(1003, std::nothrow);                        // line: nothrow
	kept[3] = ::operator new[](1004, std::nothrow);                      // line: nothrow array
	kept[4] = ::operator new(1005, std::align_val_t(64));                // line: aligned
	kept[5] = ::operator new[](1006, std::align_val_t(64));              // line: aligned array
	kept[6] = ::operator new(1007, std::align_val_t(64), std::nothrow);  // line: aligned nothrow
	kept[7] = ::operator new[](1008, std::align_val_t(64), std::nothrow); // line: last
	kept[8] = new Wide;                                                  // line: wide
}

__attribute__((noinline)) void release()
{
	::operator delete(kept[0], std::size_t(1001));
	::operator delete[](kept[1]);
	::operator delete(kept[2], std::nothrow);
	::operator delete[](kept[3], std::size_t(1004));
	::operator delete(kept[4], std::align_val_t(64));
	::operator delete[](kept[5], std::size_t(1006), std::align_val_t(64));
	::operator delete(kept[6], std::size_t(1007), std::align_val_t(64));
	::operator delete[](kept[7], std::align_val_t(64), std::nothrow);
	delete static_cast<Wide *>(kept[8]);
}

extern "C" __attribute__((noinline)) void checkpoint(int number)
{
	__asm__ volatile("" : : "r"(number) : "memory");
}

int main(int argc, char **)
{
	checkpoint(0);
	allocate();
	checkpoint(1);
	release();
	checkpoint(2);
	if (argc > 1) // an allocator that aborts where others throw
		return 0;
	try {
		kept[0] = ::operator new(huge);
	} catch (const std::bad_alloc &) {
		std::puts("caught bad_alloc");
	}
	try {
		kept[0] = ::operator new[](huge, std::align_val_t(64));
	} catch (const std::bad_alloc &) {
		std::puts("caught bad_alloc");
	}
	std::puts(::operator new(huge, std::nothrow) ? "allocated" : "null");
	return 0;
}
