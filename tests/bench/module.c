/*
 * One of the shared objects that modules.c loads, many times under different
 * names: passes a call on to the next one.
 */
void (*chain_end)(void);

void pass_on(void *const *next, long calls)
{
	if (calls > 1)
		((void (*)(void *const *, long))next[1])(next + 1, calls - 1);
	else
		chain_end();
	__asm__ volatile("");
}
