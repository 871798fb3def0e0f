/*
 * DWARF expressions as they occur in call frame information.
 *
 * Uses cfi.h; its stack is in struct tm_cfi.  Steps and depth are bounded,
 * and memory is read through the machine's load alone.
 */
#include "cfi.h"

#define OP_ADDR 0x03
#define OP_DEREF 0x06
#define OP_CONST1U 0x08
#define OP_CONST8S 0x0f
#define OP_CONSTU 0x10
#define OP_CONSTS 0x11
#define OP_DUP 0x12
#define OP_DROP 0x13
#define OP_OVER 0x14
#define OP_PICK 0x15
#define OP_SWAP 0x16
#define OP_ROT 0x17
#define OP_ABS 0x19
#define OP_AND 0x1a
#define OP_DIV 0x1b
#define OP_MINUS 0x1c
#define OP_MOD 0x1d
#define OP_MUL 0x1e
#define OP_NEG 0x1f
#define OP_NOT 0x20
#define OP_OR 0x21
#define OP_PLUS 0x22
#define OP_PLUS_UCONST 0x23
#define OP_SHL 0x24
#define OP_SHR 0x25
#define OP_SHRA 0x26
#define OP_XOR 0x27
#define OP_BRA 0x28
#define OP_EQ 0x29
#define OP_GE 0x2a
#define OP_GT 0x2b
#define OP_LE 0x2c
#define OP_LT 0x2d
#define OP_NE 0x2e
#define OP_SKIP 0x2f
#define OP_LIT0 0x30
#define OP_BREG0 0x70
#define OP_BREGX 0x92
#define OP_DEREF_SIZE 0x94
#define OP_NOP 0x96

struct evaluation {
	struct tm_cfi *cfi;
	const struct tm_cfi_machine *machine;
	struct tm_cfi_cursor cursor;
	uint64_t start; /* of the operations */
	uint32_t depth;
	bool bad;
};

static uint64_t pop(struct evaluation *e)
{
	if (e->depth == 0) {
		e->bad = true;
		return 0;
	}
	return e->cfi->stack[--e->depth];
}

static void push(struct evaluation *e, uint64_t value)
{
	if (e->depth == TM_CFI_EXPRESSION_STACK)
		e->bad = true;
	else
		e->cfi->stack[e->depth++] = value;
}

/* Pushes a copy of the value `below` entries under the top. */
static void pick(struct evaluation *e, uint64_t below)
{
	if (below >= e->depth)
		e->bad = true;
	else
		push(e, e->cfi->stack[e->depth - 1 - below]);
}

static void push_register(struct evaluation *e, uint64_t number, int64_t offset)
{
	if (number >= TM_DWARF_REGISTERS || !(e->machine->known >> number & 1))
		e->bad = true;
	else
		push(e, e->machine->registers[number] + (uint64_t)offset);
}

static void dereference(struct evaluation *e, uint64_t bytes)
{
	uint64_t value = 0;
	uint64_t address = pop(e);

	if (e->bad || bytes == 0 || bytes > 8 ||
	    !e->machine->load(e->machine->context, address, &value)) {
		e->bad = true;
		return;
	}
	if (bytes < 8)
		value &= (UINT64_C(1) << (8 * bytes)) - 1;
	push(e, value);
}

static void branch(struct evaluation *e, int64_t offset, bool taken)
{
	uint64_t target = e->cursor.at + (uint64_t)offset;

	if (!taken)
		return;
	if (target < e->start || target > e->cursor.end)
		e->bad = true;
	else
		e->cursor.at = target;
}

static void divide(struct evaluation *e, int64_t left, int64_t right)
{
	if (right == 0)
		e->bad = true;
	else if (right == -1)
		push(e, 0 - (uint64_t)left);
	else
		push(e, (uint64_t)(left / right));
}

static void shift(struct evaluation *e, unsigned int op, uint64_t value, uint64_t by)
{
	if (op == OP_SHRA)
		push(e, (uint64_t)((int64_t)value >> (by < 64 ? by : 63)));
	else if (by >= 64)
		push(e, 0);
	else
		push(e, op == OP_SHL ? value << by : value >> by);
}

/* Operations on the two topmost values. */
static void binary(struct evaluation *e, unsigned int op)
{
	uint64_t right = pop(e);
	uint64_t left = pop(e);
	int64_t a = (int64_t)left, b = (int64_t)right;

	if (e->bad)
		return;
	switch (op) {
	case OP_AND:
		push(e, left & right);
		break;
	case OP_DIV:
		divide(e, a, b);
		break;
	case OP_MINUS:
		push(e, left - right);
		break;
	case OP_MOD:
		if (right == 0)
			e->bad = true;
		else
			push(e, left % right);
		break;
	case OP_MUL:
		push(e, left * right);
		break;
	case OP_OR:
		push(e, left | right);
		break;
	case OP_PLUS:
		push(e, left + right);
		break;
	case OP_SHL:
	case OP_SHR:
	case OP_SHRA:
		shift(e, op, left, right);
		break;
	case OP_XOR:
		push(e, left ^ right);
		break;
	case OP_EQ:
		push(e, left == right);
		break;
	case OP_GE:
		push(e, a >= b);
		break;
	case OP_GT:
		push(e, a > b);
		break;
	case OP_LE:
		push(e, a <= b);
		break;
	case OP_LT:
		push(e, a < b);
		break;
	case OP_NE:
		push(e, left != right);
		break;
	case OP_SWAP:
		push(e, right);
		push(e, left);
		break;
	default:
		e->bad = true;
	}
}

static void rotate(struct evaluation *e)
{
	uint64_t first = pop(e);
	uint64_t second = pop(e);
	uint64_t third = pop(e);

	push(e, first);
	push(e, third);
	push(e, second);
}

/* Operations on the topmost value, and those that only push. */
static void other(struct evaluation *e, unsigned int op)
{
	struct tm_cfi_cursor *cursor = &e->cursor;
	uint64_t value;
	unsigned int bytes;

	switch (op) {
	case OP_ADDR:
		push(e, tm_cfi_read(cursor, 8));
		break;
	case OP_DEREF:
		dereference(e, 8);
		break;
	case OP_CONSTU:
		push(e, tm_cfi_uleb(cursor));
		break;
	case OP_CONSTS:
		push(e, (uint64_t)tm_cfi_sleb(cursor));
		break;
	case OP_DUP:
		pick(e, 0);
		break;
	case OP_DROP:
		pop(e);
		break;
	case OP_OVER:
		pick(e, 1);
		break;
	case OP_PICK:
		pick(e, tm_cfi_read(cursor, 1));
		break;
	case OP_ROT:
		rotate(e);
		break;
	case OP_ABS:
		value = pop(e);
		push(e, (int64_t)value < 0 ? 0 - value : value);
		break;
	case OP_NEG:
		push(e, 0 - pop(e));
		break;
	case OP_NOT:
		push(e, ~pop(e));
		break;
	case OP_PLUS_UCONST:
		push(e, pop(e) + tm_cfi_uleb(cursor));
		break;
	case OP_BRA:
		value = tm_cfi_sign(tm_cfi_read(cursor, 2), 2);
		branch(e, (int64_t)value, pop(e) != 0);
		break;
	case OP_SKIP:
		branch(e, (int64_t)tm_cfi_sign(tm_cfi_read(cursor, 2), 2), true);
		break;
	case OP_BREGX:
		value = tm_cfi_uleb(cursor);
		push_register(e, value, tm_cfi_sleb(cursor));
		break;
	case OP_DEREF_SIZE:
		dereference(e, tm_cfi_read(cursor, 1));
		break;
	case OP_NOP:
		break;
	default:
		if (op >= OP_CONST1U && op <= OP_CONST8S) {
			bytes = 1u << ((op - OP_CONST1U) / 2);
			value = tm_cfi_read(cursor, bytes);
			push(e, op & 1 ? tm_cfi_sign(value, bytes) : value);
		} else if (op >= OP_LIT0 && op < OP_LIT0 + 32) {
			push(e, op - OP_LIT0);
		} else if (op >= OP_BREG0 && op < OP_BREG0 + 32) {
			push_register(e, op - OP_BREG0, tm_cfi_sleb(cursor));
		} else {
			e->bad = true;
		}
	}
}

static bool is_binary(unsigned int op)
{
	return op == OP_SWAP || (op >= OP_AND && op <= OP_MUL) || op == OP_OR || op == OP_PLUS ||
	       (op >= OP_SHL && op <= OP_XOR) || (op >= OP_EQ && op <= OP_NE);
}

bool tm_cfi_evaluate(struct tm_cfi *cfi, const struct tm_cfi_machine *machine, uint64_t expression,
		     const uint64_t *initial, uint64_t *ret)
{
	struct evaluation e = {.cfi = cfi, .machine = machine};
	uint32_t steps;

	tm_cfi_open_block(cfi, expression, &e.cursor);
	e.start = e.cursor.at;
	if (initial)
		push(&e, *initial);
	for (steps = 0; !e.bad && !e.cursor.bad && e.cursor.at < e.cursor.end; steps++) {
		unsigned int op = (unsigned int)tm_cfi_read(&e.cursor, 1);

		if (steps == TM_CFI_EXPRESSION_STEPS)
			return false;
		if (is_binary(op))
			binary(&e, op);
		else
			other(&e, op);
	}
	*ret = pop(&e);
	return !e.bad && !e.cursor.bad;
}
