/*
 * Which part of a stack can be read, found out without ever faulting.
 *
 * Uses raw system calls alone.  Ranges grow by whole pages that the kernel
 * was asked about; nothing here reads the stack itself.
 */
#include "sys.h"
#include "unwind.h"

#define INVALID_HOW (-1)

static uint64_t page_of(uint64_t address)
{
	return address & ~(uint64_t)(TM_PAGE - 1);
}

/*
 * The kernel copies the signal set before it looks at `how`: EFAULT tells
 * that the 8 bytes cannot be read, EINVAL that they can; no state changes.
 * Where that call may be forbidden: since Linux 5.14 the page can be asked to
 * be there.
 */
bool tm_is_readable(uint64_t address)
{
	if (sys_is_quiet())
		return sys_madvise(page_of(address), TM_PAGE, TM_MADV_POPULATE_READ) == 0;
	return sys_rt_sigprocmask(INVALID_HOW, (const void *)address, NULL, 8) == -TM_EINVAL;
}

/* Grows the range downward to the page of rsp, if all in between can be read. */
static bool grow_down(struct tm_stack *stack, uint64_t rsp)
{
	uint64_t page = stack->low;

	if (stack->low - page_of(rsp) > TM_STACK_PROBES * TM_PAGE)
		return false;
	while (page > rsp) {
		page -= TM_PAGE;
		if (!tm_is_readable(page))
			return false;
	}
	stack->low = page;
	return true;
}

/* Grows the range upward so that 8 bytes at address are in it; gives up after some pages. */
static bool grow_up(struct tm_stack *stack, uint64_t address)
{
	unsigned int i;

	for (i = 0; i < TM_STACK_PROBES && address > stack->high - 8; i++) {
		if (!tm_is_readable(stack->high))
			return false;
		stack->high += TM_PAGE;
	}
	return address <= stack->high - 8;
}

bool tm_stack_begin(struct tm_stack *stack, uint64_t rsp)
{
	if (rsp >= UINT64_C(1) << 56)
		return false;
	if (stack->high) {
		/* What can be read, can be read to the ends of its pages. */
		stack->low = page_of(stack->low);
		stack->high = page_of(stack->high + TM_PAGE - 1);
		if (rsp >= stack->low && rsp <= stack->high - 8)
			return true;
		if (rsp < stack->low && grow_down(stack, rsp))
			return true;
		if (rsp > stack->high - 8 && rsp < stack->high + TM_STACK_PROBES * TM_PAGE &&
		    grow_up(stack, rsp))
			return true;
	}
	stack->low = stack->high = 0;
	stack->changes++;
	if (!tm_is_readable(page_of(rsp)))
		return false;
	stack->low = page_of(rsp);
	stack->high = stack->low + TM_PAGE;
	return grow_up(stack, rsp);
}

/* Bytes below an address found behind a large frame that are made known with it. */
#define SAVED_REGISTERS 64

bool tm_stack_reach(struct tm_unwinder *unwinder, uint64_t address)
{
	struct tm_stack *stack = unwinder->walk.stack;
	struct tm_stack far;

	if (address < stack->low || address >= UINT64_C(1) << 56)
		return false;
	if (address <= stack->high - 8 || grow_up(stack, address))
		return true;
	/*
	 * A frame of many pages, or the end of the stack.  The range goes on
	 * behind the frame, for this walk; each walk adds some of its pages.
	 */
	if (address - stack->high > TM_STACK_MAX_FRAME || address - stack->high < TM_PAGE)
		return false;
	far.low = page_of(address - SAVED_REGISTERS);
	far.high = far.low + TM_PAGE;
	if (!tm_is_readable(far.low) || !grow_up(&far, address))
		return false;
	unwinder->other = far;
	unwinder->walk.stack = &unwinder->other;
	return true;
}

bool tm_stack_switch(struct tm_unwinder *unwinder, struct tm_stack *own, uint64_t rsp)
{
	struct tm_stack *other = &unwinder->other;

	if (rsp >= own->low && own->high && rsp <= own->high - 8) {
		unwinder->walk.stack = own;
		return true;
	}
	unwinder->walk.stack = other;
	return tm_stack_begin(other, rsp);
}
