/*
 * From the registers of a frame to the return addresses of all its callers.
 *
 * Any thread may call these at any moment, signal handlers included.  They
 * never fault and never wait, whatever the stack holds.
 */
#ifndef TM_UNWIND_H
#define TM_UNWIND_H

#include "cfi.h"

/* Where a walk stands. */
struct tm_walk {
	uint64_t key; /* the address whose rule holds, + 1: a return address as it is */
	uint64_t rsp;
	uint64_t rbp;
	uint64_t epoch;         /* of the rule cache */
	struct tm_stack *stack; /* the stack that rsp is on */
	bool exact;             /* the frame was interrupted at key - 1 */
};

/*
 * A frame of the last walk, and how the step into it can be checked: the
 * frame is there again if its callee stands where it stood and the two words
 * that the step loaded have not changed.
 */
struct tm_trail_frame {
	uint64_t key; /* found at rsp - 8 */
	uint64_t rsp;
	uint64_t rbp;
	uint64_t rbp_at; /* where rbp was found: on the stack, or here if the step left it alone */
};

#define TM_TRAIL_FRAMES 128u

/* Where the frames of a trail end. */
#define TM_ENDING_OTHER 0u /* before those of its walk did */
#define TM_ENDING_WHOLE 1u /* at the outermost frame of the stack */
#define TM_ENDING_LIMIT 2u /* at the walk's limit, or later */

/* The last walk, as far as it was made of usual frames, and the one being made. */
struct tm_trail {
	uint64_t epoch;            /* of the rules that the steps came from */
	struct tm_trail_frame *at; /* frames from here inward are passed */
	uint32_t count;
	uint32_t fresh_count; /* frames of this walk that were not in the last one */
	uint32_t kept;        /* frames of the last walk that this one ends with */
	uint32_t ending;      /* TM_ENDING_* of the last walk */
	uint64_t limit;       /* of the last walk */
	bool open;            /* neither matched to its end nor cut off by a special frame */
	bool overflow;        /* more frames were fresh than there is room for */
	struct tm_trail_frame frame[TM_TRAIL_FRAMES]; /* outermost first */
	struct tm_trail_frame fresh[TM_TRAIL_FRAMES]; /* most recent first */
};

/* Working memory of one thread; begins zeroed. */
struct tm_unwinder {
	struct tm_walk walk;
	struct tm_stack other; /* the stack being walked, when it is not the thread's */
	struct tm_cfi cfi;
	struct tm_cfi_machine machine;
	uint64_t next[TM_DWARF_REGISTERS]; /* the caller's registers in the making */
	uint32_t next_known;
	uint32_t
		same; /* outermost frames found that the walk before had found too, as its outermost */
	struct tm_trail trail;
};

/*
 * Writes at most limit return addresses to addresses, most recent first,
 * beginning with start->rip; returns how many.  TM_NODE_EXACT is or-ed to the
 * address of a frame that a signal interrupted.  *complete is false when
 * frames were left off because of limit.
 * `stack` is what is known of the thread's stack; {0, 0} for nothing yet.
 * unwinder->same tells how many frames, counted from the last, need no second
 * look by a caller who kept the result of the walk before.
 */
size_t tm_unwind(struct tm_unwinder *unwinder, const struct tm_registers *start,
		 struct tm_stack *stack, uint64_t *addresses, size_t limit,
		 bool *complete) TM_HIDDEN;

/* Makes all threads forget cached rules: modules came or went. */
void tm_unwind_forget_rules(void) TM_HIDDEN;

/* ---- parts of a walk, between unwind.c, fullwalk.c and stack.c --------- */

#define TM_STACK_PROBES 16u /* pages that one question may add to a range */
#define TM_STACK_MAX_FRAME (UINT64_C(64) << 20)

/* How a step ended. */
#define TM_STEP_ON 0u   /* the walk stands at the caller */
#define TM_STEP_END 1u  /* there is no caller, or none that can be found */
#define TM_STEP_FULL 2u /* all registers are needed */

/* The same as tm_unwind, following all registers and caching nothing. */
size_t tm_unwind_full(struct tm_unwinder *unwinder, const struct tm_registers *start,
		      struct tm_stack *stack, uint64_t *addresses, size_t limit,
		      bool *complete) TM_HIDDEN;

/*
 * The rule for walk.key from its module: with kind STEP or FULL the row is in
 * unwinder->cfi.
 */
uint64_t tm_unwind_rule(struct tm_unwinder *unwinder) TM_HIDDEN;

/*
 * Where an interrupted instruction stands in the program's own code, when it
 * is in a relay or in a relocated prologue; pc itself otherwise.
 */
uint64_t tm_unwind_original(uint64_t pc) TM_HIDDEN;

/* Whether the 8 bytes at address can be read: asks the kernel. */
bool tm_is_readable(uint64_t address) TM_HIDDEN;

/* Makes a range hold 8 bytes at rsp.  False when they cannot be read. */
bool tm_stack_begin(struct tm_stack *stack, uint64_t rsp) TM_HIDDEN;

/* Makes the walk's range hold 8 bytes at an address above its low end. */
bool tm_stack_reach(struct tm_unwinder *unwinder, uint64_t address) TM_HIDDEN;

/* Lets the walk go on at rsp, on another stack perhaps; own is the thread's. */
bool tm_stack_switch(struct tm_unwinder *unwinder, struct tm_stack *own, uint64_t rsp) TM_HIDDEN;

static inline uint64_t tm_stack_word(uint64_t address)
{
	uint64_t value;

	__builtin_memcpy(&value, (const void *)address, sizeof(value));
	return value;
}

/* Reads 8 bytes of the walk's stack, at or above its low end. */
static inline bool tm_stack_load(struct tm_unwinder *unwinder, uint64_t address, uint64_t *ret)
{
	const struct tm_stack *stack = unwinder->walk.stack;

	if (unlikely(address < stack->low || address > stack->high - 8) &&
	    !tm_stack_reach(unwinder, address))
		return false;
	*ret = tm_stack_word(address);
	return true;
}

/* Steps over a frame without rows whose rbp is a frame pointer. */
static inline bool tm_step_frame_pointer(struct tm_unwinder *unwinder, uint64_t rsp, uint64_t rbp,
					 uint64_t *ret_rbp, uint64_t *ret_rip)
{
	return rbp % 8 == 0 && rbp >= rsp && tm_stack_load(unwinder, rbp, ret_rbp) &&
	       tm_stack_load(unwinder, rbp + 8, ret_rip) && *ret_rip != 0;
}

#endif
