/*
 * Adds up many numbers, then few, each time in a temporary array: what is left
 * is small, what it took on the way is not.  examples/peak.gdb tells the two apart.
 */
#include <stdlib.h>

__attribute__((noinline)) static double *sum(int count)
{
	double *numbers = malloc(count * sizeof(*numbers));
	double *total = malloc(sizeof(*total));

	*total = 0;
	for (int index = 0; index < count; index++)
		numbers[index] = index;
	for (int index = 0; index < count; index++)
		*total += numbers[index];
	free(numbers);
	return total;
}

void summed(const double *total);
__attribute__((noinline)) void summed(const double *total)
{
	__asm__ volatile("" : : "r"(total) : "memory");
}

int main(void)
{
	summed(NULL);
	summed(sum(100000));
	summed(sum(1000));
	return 0;
}
