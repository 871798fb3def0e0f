/*
 * The walk for stacks with frames that need more than rip, rsp and rbp: all
 * registers, rows interpreted anew for each frame.
 *
 * Slow and rare.  Uses the same parts as unwind.c; its working memory is in
 * struct tm_unwinder.
 */
#include "modules.h"
#include "unwind.h"

/* Registers that a called function leaves as they were: rbx, rbp, r12 … r15. */
#define PRESERVED (1u << TM_DWARF_RBX | 1u << TM_DWARF_RBP | 0xfu << TM_DWARF_R12)

/* Reads any memory of the program, the stack as a rule. */
static bool load_anywhere(void *context, uint64_t address, uint64_t *ret)
{
	struct tm_unwinder *unwinder = context;
	const struct tm_stack *stack = unwinder->walk.stack;

	if ((address < stack->low || address > stack->high - 8) && !tm_is_readable(address))
		return false;
	*ret = tm_stack_word(address);
	return true;
}

static void begin(struct tm_unwinder *unwinder, const struct tm_registers *start)
{
	struct tm_cfi_machine *machine = &unwinder->machine;

	machine->load = load_anywhere;
	machine->context = unwinder;
	machine->known = PRESERVED | 1u << TM_DWARF_RSP | 1u << TM_DWARF_RIP;
	machine->registers[TM_DWARF_RBX] = start->rbx;
	machine->registers[TM_DWARF_RBP] = start->rbp;
	machine->registers[TM_DWARF_RSP] = start->rsp;
	machine->registers[TM_DWARF_R12] = start->r12;
	machine->registers[TM_DWARF_R13] = start->r13;
	machine->registers[TM_DWARF_R14] = start->r14;
	machine->registers[TM_DWARF_R15] = start->r15;
	machine->registers[TM_DWARF_RIP] = start->rip;
	unwinder->walk.key = start->rip;
	unwinder->walk.exact = false;
}

/* The DWARF numbers of the registers in the order of the kernel's ucontext. */
static unsigned int ucontext_register(unsigned int index)
{
	static const uint8_t order[] = {8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16};

	return order[index];
}

static bool step_signal(struct tm_unwinder *unwinder, struct tm_stack *own)
{
	struct tm_cfi_machine *machine = &unwinder->machine;
	uint64_t context = machine->registers[TM_DWARF_RSP];
	unsigned int i;

	for (i = 0; i < TM_DWARF_REGISTERS; i++) {
		uint64_t at = context + TM_UCONTEXT_R8 + 8 * i;

		if (!tm_stack_load(unwinder, at, &unwinder->next[ucontext_register(i)]))
			return false;
	}
	if (!tm_stack_switch(unwinder, own, unwinder->next[TM_DWARF_RSP]))
		return false;
	for (i = 0; i < TM_DWARF_REGISTERS; i++)
		machine->registers[i] = unwinder->next[i];
	machine->known = (1u << TM_DWARF_REGISTERS) - 1;
	machine->registers[TM_DWARF_RIP] = tm_unwind_original(machine->registers[TM_DWARF_RIP]);
	unwinder->walk.key = machine->registers[TM_DWARF_RIP] + 1;
	unwinder->walk.exact = true;
	return true;
}

static bool step_frame_pointer(struct tm_unwinder *unwinder)
{
	struct tm_cfi_machine *machine = &unwinder->machine;
	uint64_t rsp = machine->registers[TM_DWARF_RSP];
	uint64_t rbp = machine->registers[TM_DWARF_RBP];

	if (!(machine->known >> TM_DWARF_RBP & 1) ||
	    !tm_step_frame_pointer(unwinder, rsp, rbp, &machine->registers[TM_DWARF_RBP],
				   &machine->registers[TM_DWARF_RIP]))
		return false;
	machine->registers[TM_DWARF_RSP] = rbp + 16;
	machine->known = 1u << TM_DWARF_RSP | 1u << TM_DWARF_RIP | 1u << TM_DWARF_RBP;
	unwinder->walk.key = machine->registers[TM_DWARF_RIP];
	unwinder->walk.exact = false;
	return true;
}

static bool find_cfa(struct tm_unwinder *unwinder, uint64_t *ret)
{
	const struct tm_cfi_row *row = &unwinder->cfi.row;
	const struct tm_cfi_machine *machine = &unwinder->machine;

	if (row->cfa_kind == TM_CFI_VAL_EXPRESSION)
		return tm_cfi_evaluate(&unwinder->cfi, machine, (uint64_t)row->cfa_value, NULL,
				       ret);
	*ret = machine->registers[row->cfa_register] + (uint64_t)row->cfa_value;
	return machine->known >> row->cfa_register & 1;
}

/* The caller's value of one register.  False when it is lost. */
static bool find_register(struct tm_unwinder *unwinder, uint64_t cfa, unsigned int number)
{
	struct tm_cfi *cfi = &unwinder->cfi;
	const struct tm_cfi_machine *machine = &unwinder->machine;
	uint64_t value = (uint64_t)cfi->row.value[number];
	uint64_t *ret = &unwinder->next[number];
	uint64_t address;

	*ret = machine->registers[number];
	switch (cfi->row.kind[number]) {
	case TM_CFI_UNSPECIFIED:
		if (number == TM_DWARF_RSP) {
			*ret = cfa;
			return true;
		}
		return (cfi->signal_frame || PRESERVED >> number & 1) &&
		       machine->known >> number & 1;
	case TM_CFI_SAME:
		return machine->known >> number & 1;
	case TM_CFI_OFFSET:
		return load_anywhere(unwinder, cfa + value, ret);
	case TM_CFI_VAL_OFFSET:
		*ret = cfa + value;
		return true;
	case TM_CFI_REGISTER:
		if (value >= TM_DWARF_REGISTERS || !(machine->known >> value & 1))
			return false;
		*ret = machine->registers[value];
		return true;
	case TM_CFI_EXPRESSION:
		return tm_cfi_evaluate(cfi, machine, value, &cfa, &address) &&
		       load_anywhere(unwinder, address, ret);
	case TM_CFI_VAL_EXPRESSION:
		return tm_cfi_evaluate(cfi, machine, value, &cfa, ret);
	default:
		return false;
	}
}

static bool step_row(struct tm_unwinder *unwinder, struct tm_stack *own)
{
	struct tm_cfi_machine *machine = &unwinder->machine;
	uint64_t rsp = machine->registers[TM_DWARF_RSP];
	uint32_t known = 0;
	uint64_t cfa;
	unsigned int i;

	if (!find_cfa(unwinder, &cfa))
		return false;
	for (i = 0; i < TM_DWARF_REGISTERS; i++)
		if (find_register(unwinder, cfa, i))
			known |= 1u << i;
	if (!(known >> TM_DWARF_RIP & 1) || !(known >> TM_DWARF_RSP & 1) ||
	    unwinder->next[TM_DWARF_RIP] == 0)
		return false;
	if (unwinder->cfi.signal_frame) {
		if (!tm_stack_switch(unwinder, own, unwinder->next[TM_DWARF_RSP]))
			return false;
	} else if (unwinder->next[TM_DWARF_RSP] <= rsp ||
		   !tm_stack_reach(unwinder, unwinder->next[TM_DWARF_RSP] - 8)) {
		return false;
	}
	for (i = 0; i < TM_DWARF_REGISTERS; i++)
		machine->registers[i] = unwinder->next[i];
	machine->known = known;
	unwinder->walk.exact = unwinder->cfi.signal_frame;
	if (unwinder->walk.exact)
		machine->registers[TM_DWARF_RIP] =
			tm_unwind_original(machine->registers[TM_DWARF_RIP]);
	unwinder->walk.key = machine->registers[TM_DWARF_RIP] + unwinder->walk.exact;
	return true;
}

TM_NOINLINE size_t tm_unwind_full(struct tm_unwinder *unwinder, const struct tm_registers *start,
				  struct tm_stack *stack, uint64_t *addresses, size_t limit,
				  bool *complete)
{
	struct tm_walk *walk = &unwinder->walk;
	size_t count = 0;
	bool on = true;

	begin(unwinder, start);
	walk->stack = stack;
	*complete = true;
	while (on) {
		uint64_t rule;

		if (count == limit) {
			*complete = false;
			break;
		}
		rule = tm_unwind_rule(unwinder) & TM_RULE_KIND_MASK;
		if (rule == TM_RULE_OUTSIDE && count)
			break;
		addresses[count++] = walk->exact ? (walk->key - 1) | TM_NODE_EXACT : walk->key;
		if (rule == TM_RULE_SIGNAL)
			on = step_signal(unwinder, stack);
		else if (rule == TM_RULE_NONE)
			on = step_frame_pointer(unwinder);
		else if (rule == TM_RULE_END || rule == TM_RULE_OUTSIDE)
			on = false;
		else
			on = step_row(unwinder, stack);
	}
	return count;
}
