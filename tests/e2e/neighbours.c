/*
 * 64 mappings side by side, of which some are sampled; one munmap for most of
 * them, from the middle of one to the middle of another, and one for all.
 */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE 65536
#define COUNT 64

__attribute__((noinline)) void checkpoint(void)
{
	__asm__ volatile("" : : : "memory");
}

int main(void)
{
	/* By a system call: no mapping of the allocator's. */
	char *all = (char *)syscall(SYS_mmap, NULL, (size_t)COUNT * SIZE, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	checkpoint();
	for (int i = 0; i < COUNT; i++)
		mmap(all + i * SIZE, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		     0);
	checkpoint();
	munmap(all + SIZE / 2, (size_t)(COUNT - 1) * SIZE);
	checkpoint();
	munmap(all, (size_t)COUNT * SIZE);
	checkpoint();
	return 0;
}
