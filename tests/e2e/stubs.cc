/*
 * Calls that go through code which nobody wrote: retpolines, thunks, linkage
 * tables, an indirect function.  And wrappers, and a library that allocates for
 * its callers.  For test_stubs.py.
 */
#include <cstdlib>
#include <string>

#define NOINLINE __attribute__((noinline, noclone))

extern "C" {
void *by_pointer, *by_thunk, *by_ifunc, *by_wrappers, *by_new, *by_library;

NOINLINE void checkpoint(void)
{
	__asm__ volatile("");
}

NOINLINE void *allocate(std::size_t size)
{
	void *block = std::malloc(size);

	__asm__ volatile("" : "+r"(block));
	return block;
}

NOINLINE void *xmalloc(std::size_t size)
{
	void *block = std::malloc(size);

	if (!block)
		std::abort();
	return block;
}

NOINLINE void *g_malloc(std::size_t size)
{
	void *block = xmalloc(size);

	__asm__ volatile("" : "+r"(block));
	return block;
}

static NOINLINE void *allocate_best(void)
{
	void *block = std::malloc(300);

	__asm__ volatile("" : "+r"(block));
	return block;
}

static void *(*choose(void))(void)
{
	return allocate_best;
}

/* Not static: it is called through the linkage table. */
void *allocate_somehow(void) __attribute__((ifunc("choose")));
}

struct left {
	virtual ~left()
	{
	}
	virtual left *copy() = 0;
	long a;
};

struct right {
	virtual ~right()
	{
	}
	virtual right *copy() = 0;
	long b;
};

/* As a `right`, copy() is a thunk that calls the function and adjusts what it gives. */
struct both : left, right {
	NOINLINE both *copy() override
	{
		return new both(*this);
	}
};

NOINLINE static void call_pointer(void *(*volatile function)(std::size_t))
{
	by_pointer = function(100);
	__asm__ volatile("");
}

NOINLINE static void call_thunk(right *object)
{
	by_thunk = dynamic_cast<void *>(object->copy());
	__asm__ volatile("");
}

NOINLINE static void call_ifunc()
{
	by_ifunc = allocate_somehow();
	__asm__ volatile("");
}

NOINLINE static void call_wrappers()
{
	by_wrappers = g_malloc(400);
	__asm__ volatile("");
}

NOINLINE static void call_new()
{
	by_new = ::operator new(500);
	__asm__ volatile("");
}

NOINLINE static void call_library(std::string &text)
{
	text.append(600, 'x');
	by_library = &text[0];
}

int main()
{
	std::string text;
	both object;

	checkpoint();
	call_pointer(allocate);
	call_thunk(&object);
	call_ifunc();
	call_wrappers();
	call_new();
	call_library(text);
	checkpoint();
	return 0;
}
