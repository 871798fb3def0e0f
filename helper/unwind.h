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
	uint64_t rbp_at;        /* where rbp was found, as long as the log does not tell; 0 then */
	uint64_t epoch;         /* of the rule cache */
	struct tm_stack *stack; /* the stack that rsp is on */
	bool exact;             /* the frame was interrupted at key - 1 */
};

/* A word of memory that a walk read. */
struct tm_word {
	uint64_t at, value;
};

struct tm_path;
struct tm_recall;

#define TM_WORDS_A_FRAME 2 /* at most: the return address, and rbp if it leads to an address */

/*
 * What a walk depended on, in the order in which it read it.  A walk is a
 * function of where it starts, the rules, and what it reads at addresses that
 * follow from those and from what it read before.  So a walk from the same
 * rip and rsp, by rules of the same epoch and to the same limit, reads the
 * same places as long as each holds what it held; and if all do, it ends the
 * same way.  Of rbp only the values that led to an address are in the list: in
 * code without frame pointers it holds anything.
 */
struct tm_log {
	uint64_t epoch;              /* of the rules */
	uint64_t nonzero_at;         /* a word of which only that it is not 0 mattered; 0: none */
	struct tm_word *words, *end; /* room for those of a frame at least */
	struct tm_word *next;        /* behind the last one written */
	bool whole; /* nothing else mattered: what can be read, what is mapped; all is there */
	struct tm_word spare[TM_WORDS_A_FRAME]; /* the room when nobody asks for the log */
	struct tm_word *plain; /* from here on rbp did not matter: each word is a return address */

	/* join.h: from where the walk may go on as a remembered one did. */
	struct tm_recall *recall;     /* NULL: it has to go all the way by itself */
	uint64_t generation;          /* id of the one it is for */
	uint64_t mine;                /* what its joints are made of */
	const struct tm_path *before; /* what was whole where its words are written, or NULL */
	const struct tm_path *joined; /* with which it went on, or NULL; then … */
	uint32_t fresh;               /* … after so many frames of its own … */
	uint32_t skipped;             /* … in place of so many of that one's */
};

/* Working memory of one thread; begins zeroed. */
struct tm_unwinder {
	struct tm_walk walk;
	struct tm_stack other; /* the stack being walked, when it is not the thread's */
	struct tm_cfi cfi;
	struct tm_cfi_machine machine;
	uint64_t next[TM_DWARF_REGISTERS]; /* the caller's registers in the making */
	struct tm_log log; /* of the last walk; who asks for it gives words and end */
};

/*
 * Writes at most limit return addresses to addresses, most recent first,
 * beginning with start->rip; returns how many.  TM_NODE_EXACT is or-ed to the
 * address of a frame that a signal interrupted.  *complete is false when
 * frames were left off because of limit.
 * `stack` is what is known of the thread's stack; {0, 0} for nothing yet.
 * unwinder->log tells what it depended on.
 */
size_t tm_unwind(struct tm_unwinder *unwinder, const struct tm_registers *start,
		 struct tm_stack *stack, uint64_t *addresses, size_t limit,
		 bool *complete) TM_HIDDEN;

/* Makes all threads forget cached rules: modules came or went. */
void tm_unwind_forget_rules(void) TM_HIDDEN;

/* How often that was done. */
extern uint64_t tm_rules_epoch TM_HIDDEN;

/*
 * The same and the number of the generation, added up: it is counted up before any of
 * them is.  So who finds here what was the sum of an epoch and of the number of a
 * generation, knows that both are what they were.
 */
extern uint64_t tm_recall_base TM_HIDDEN;

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
