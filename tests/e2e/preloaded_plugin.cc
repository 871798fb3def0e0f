// A library in C++ that preloaded.c loads: with it comes libstdc++, after the start.
extern "C" __attribute__((noinline)) void *plugin_allocate()
{
	void *block = new char[PLUGIN];

	__asm__ volatile("" : : "r"(block) : "memory");
	return block;
}
