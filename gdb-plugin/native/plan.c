/*
 * Planning the redirection of one function: see plan.h.
 *
 * The first whole instructions that cover a 5-byte jump are moved.  What
 * depends on its own address is encoded anew; what cannot be moved, or bytes
 * that something else may run into, are refused with the reason.
 *
 * May use: Zydis, tm_layout.h, error.h.  Must not use: Python, gdb.
 */
#include "plan.h"

#include <stdbool.h>
#include <string.h>

#include <Zydis/Zydis.h>

#define REFUSE(...) tm_error_new(TM_ERROR_PLAN, __VA_ARGS__)

#define CONDITION_ALWAYS 0x10u

/* One instruction among the patched bytes. */
struct moved {
	ZydisDecodedInstruction instruction;
	uint8_t from; /* offset from the patch */
	uint8_t to;   /* offset in the relocated code */
	bool is_branch;
	uint64_t target; /* of a branch */
};

struct planner {
	const struct tm_plan_request *request;
	struct tm_plan *plan;
	ZydisDecoder decoder;
	uint64_t address;    /* of the patch */
	const uint8_t *code; /* at the patch */
	size_t available;    /* bytes of code */
	uint64_t size;       /* of the function from the patch on; 0: unknown */
	struct moved moved[TM_PATCH_POINTS];
	bool ends; /* the last moved instruction never falls through to the jump back */
};

static bool decode(const struct planner *planner, size_t at, ZydisDecodedInstruction *ret)
{
	return ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
		&planner->decoder, ZYAN_NULL, planner->code + at, planner->available - at, ret));
}

static bool is_rip_relative(const ZydisDecodedInstruction *instruction)
{
	return (instruction->attributes & ZYDIS_ATTRIB_HAS_MODRM) &&
	       instruction->raw.modrm.mod == 0 && instruction->raw.modrm.rm == 5 &&
	       instruction->raw.disp.size == 32;
}

/* The target of a branch that carries it in its own bytes. */
static bool direct_target(const ZydisDecodedInstruction *instruction, uint64_t address,
			  uint64_t *ret)
{
	if (!instruction->raw.imm[0].is_relative)
		return false;
	*ret = address + instruction->length + (uint64_t)instruction->raw.imm[0].value.s;
	return true;
}

static bool fits_rel32(uint64_t from, uint64_t to)
{
	int64_t distance = (int64_t)(to - from);

	return distance == (int32_t)distance;
}

static bool is_padding(const ZydisDecodedInstruction *instruction)
{
	return instruction->mnemonic == ZYDIS_MNEMONIC_NOP ||
	       instruction->mnemonic == ZYDIS_MNEMONIC_INT3 ||
	       (instruction->mnemonic == ZYDIS_MNEMONIC_XCHG && instruction->opcode == 0x90);
}

/* A call counts: a moved one returns to the function, not to what is moved behind it. */
static bool never_falls_through(const ZydisDecodedInstruction *instruction)
{
	return instruction->meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
	       instruction->meta.category == ZYDIS_CATEGORY_RET ||
	       instruction->meta.category == ZYDIS_CATEGORY_CALL ||
	       instruction->mnemonic == ZYDIS_MNEMONIC_UD2;
}

/*
 * A call can be moved when it is the last of the patched instructions: its
 * return address is then the first byte behind them, which stays as it is.
 */
static bool is_movable_call(const ZydisDecodedInstruction *instruction)
{
	return instruction->raw.imm[0].is_relative ||
	       (instruction->opcode == 0xff && instruction->raw.modrm.reg == 2 &&
		is_rip_relative(instruction));
}

/* Why an instruction that ends at offset `end` cannot run anywhere else, or NULL. */
static const char *unmovable(const ZydisDecodedInstruction *instruction, uint32_t end)
{
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		return "a short branch without a long form (loop or jrcxz)";
	case ZYDIS_MNEMONIC_XBEGIN:
		return "a transaction (xbegin)";
	case ZYDIS_MNEMONIC_INT3:
		return "a breakpoint (int3)";
	default:
		break;
	}
	switch (instruction->meta.category) {
	case ZYDIS_CATEGORY_CALL:
		if (end < TM_JUMP_BYTES)
			return "a call that returns";
		if (!is_movable_call(instruction))
			return "an indirect call";
		break;
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
		return "a system call";
	case ZYDIS_CATEGORY_INTERRUPT:
		return "an interrupt";
	default:
		break;
	}
	if (is_rip_relative(instruction) && instruction->address_width != 64)
		return "a 32-bit instruction-relative operand";
	/* Makers of processors do not agree on what it means. */
	if (instruction->raw.imm[0].is_relative &&
	    (instruction->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE))
		return "a 16-bit branch";
	return NULL;
}

/*
 * Behind the function's last instruction: its bytes may be taken as far as
 * they are padding, which nothing runs.
 */
static struct tm_error *take_padding(struct planner *planner, uint32_t at)
{
	while (at < TM_JUMP_BYTES) {
		ZydisDecodedInstruction instruction;

		if (at >= planner->available)
			return REFUSE("the function is too short: %u bytes, and the bytes behind "
				      "it cannot be read",
				      at);
		if (!decode(planner, at, &instruction) || !is_padding(&instruction))
			return REFUSE("the function is too short: %u bytes without padding behind",
				      at);
		at += instruction.length;
	}
	/* Padding beyond the jump need not be touched. */
	planner->plan->length = at <= TM_PATCH_BYTES ? at : TM_JUMP_BYTES;
	return NULL;
}

static struct tm_error *choose_instructions(struct planner *planner)
{
	struct tm_plan *plan = planner->plan;
	uint32_t at = 0;

	while (at < TM_JUMP_BYTES) {
		struct moved *moved = &planner->moved[plan->point_count];
		const char *reason;

		if (planner->ends && (planner->size == 0 || at >= planner->size))
			return take_padding(planner, at);
		if (planner->size && at >= planner->size)
			return REFUSE("the function is too short: %u bytes, and it runs on into "
				      "what follows",
				      at);
		if (at >= planner->available)
			return REFUSE("only %zu bytes of the function can be read",
				      planner->available);
		if (!decode(planner, at, &moved->instruction))
			return REFUSE("the instruction at +%u cannot be decoded",
				      at + plan->offset);
		reason = unmovable(&moved->instruction, at + moved->instruction.length);
		if (reason)
			return REFUSE("%s among the bytes to be patched, at +%u", reason,
				      at + plan->offset);
		moved->from = (uint8_t)at;
		moved->is_branch =
			direct_target(&moved->instruction, planner->address + at, &moved->target);
		planner->ends = never_falls_through(&moved->instruction);
		at += moved->instruction.length;
		plan->point_count++;
	}
	if (planner->size && at > planner->size)
		return REFUSE("the function's last instruction is longer than the function");
	if (at > TM_PATCH_BYTES)
		return REFUSE("the first instructions are longer than %u bytes", TM_PATCH_BYTES);
	plan->length = at;
	return NULL;
}

/* Nothing in the function may branch into the patched bytes, but to the first of them. */
static struct tm_error *check_branches(const struct planner *planner)
{
	uint64_t first = planner->address + 1;
	uint64_t behind = planner->address + planner->plan->length;
	size_t end = planner->available;
	size_t at = planner->plan->length;

	if (planner->size && planner->size < end)
		end = planner->size;
	while (at < end) {
		ZydisDecodedInstruction instruction;
		uint64_t target;

		/* Data, or an instruction newer than the decoder: look at the next byte. */
		if (!decode(planner, at, &instruction)) {
			at++;
			continue;
		}
		if (direct_target(&instruction, planner->address + at, &target) &&
		    target >= first && target < behind)
			return REFUSE("the function branches from +%zu into the bytes to be "
				      "patched, to +%llu",
				      at + planner->plan->offset,
				      (unsigned long long)(target - planner->request->function));
		at += instruction.length;
	}
	return NULL;
}

/* ---- writing the relocated code --------------------------------------- */

static void emit(struct tm_plan *plan, const void *bytes, size_t size)
{
	memcpy(plan->relocated + plan->relocated_length, bytes, size);
	plan->relocated_length += (uint32_t)size;
}

static void emit_byte(struct tm_plan *plan, unsigned int byte)
{
	plan->relocated[plan->relocated_length++] = (uint8_t)byte;
}

static void emit_rel32(struct planner *planner, uint64_t target)
{
	struct tm_plan *plan = planner->plan;
	uint64_t next = planner->request->original_at + plan->relocated_length + 4;
	uint32_t distance = (uint32_t)(target - next);

	emit(plan, &distance, sizeof(distance));
}

/* Longest: 16 bytes. */
static void emit_jump(struct planner *planner, unsigned int condition, uint64_t target)
{
	struct tm_plan *plan = planner->plan;
	uint64_t here = planner->request->original_at + plan->relocated_length;

	/* All forms end within 16 bytes of here: ask for both ends to be in reach. */
	if (fits_rel32(here, target) && fits_rel32(here + 16, target)) {
		if (condition == CONDITION_ALWAYS) {
			emit_byte(plan, 0xe9);
		} else {
			emit_byte(plan, 0x0f);
			emit_byte(plan, 0x80 | condition);
		}
		emit_rel32(planner, target);
		return;
	}
	if (condition != CONDITION_ALWAYS) {
		emit_byte(plan, 0x70 | (condition ^ 1));
		emit_byte(plan, 14);
	}
	emit(plan, "\xff\x25\0\0\0\0", 6);
	emit(plan, &target, sizeof(target));
}

/*
 * A moved call must push the return address it always had, so that unwinding
 * and exceptions find the function they know.  A real call comes first, which
 * keeps the processor's prediction of the callers' returns in step (and leads
 * over a byte, for a call to the next instruction does not count there).
 */
static void emit_call_frame(struct planner *planner)
{
	uint64_t return_address = planner->address + planner->plan->length;
	uint32_t low = (uint32_t)return_address, high = (uint32_t)(return_address >> 32);

	emit(planner->plan, "\xe8\1\0\0\0\xcc", 6); /* call 1f; int3; 1: */
	emit(planner->plan, "\xc7\x04\x24", 3);     /* movl $low, (%rsp) */
	emit(planner->plan, &low, sizeof(low));
	emit(planner->plan, "\xc7\x44\x24\x04", 4); /* movl $high, 4(%rsp) */
	emit(planner->plan, &high, sizeof(high));
}

static struct tm_error *move_operand(struct planner *planner, const struct moved *moved)
{
	const ZydisDecodedInstruction *instruction = &moved->instruction;
	struct tm_plan *plan = planner->plan;
	uint64_t old_next = planner->address + moved->from + instruction->length;
	uint64_t new_next =
		planner->request->original_at + plan->relocated_length + instruction->length;
	uint64_t operand = old_next + (uint64_t)instruction->raw.disp.value;
	uint32_t distance = (uint32_t)(operand - new_next);
	uint8_t *copy;

	if (!fits_rel32(new_next, operand))
		return REFUSE("the operand of the instruction at +%u is out of reach of its new "
			      "place",
			      moved->from + plan->offset);
	emit(plan, planner->code + moved->from, instruction->length);
	copy = plan->relocated + plan->relocated_length - instruction->length;
	memcpy(copy + instruction->raw.disp.offset, &distance, sizeof(distance));
	/* The return address is pushed already: ff /2 (call) becomes ff /4 (jmp). */
	if (instruction->meta.category == ZYDIS_CATEGORY_CALL)
		copy[instruction->raw.modrm.offset] = 0x25;
	return NULL;
}

static void move_branch(struct planner *planner, const struct moved *moved, uint64_t target)
{
	unsigned int condition = moved->instruction.opcode & 0xfu;

	if (moved->instruction.meta.category != ZYDIS_CATEGORY_COND_BR)
		condition = CONDITION_ALWAYS;
	emit_jump(planner, condition, target);
}

/*
 * Where a branch among the patched bytes leads once it is moved: a branch to
 * another of them must go to that instruction's new place.
 */
static struct tm_error *new_target(const struct planner *planner, const struct moved *moved,
				   const uint32_t *places, uint64_t *ret)
{
	const struct tm_plan *plan = planner->plan;
	uint64_t to = moved->target - planner->address;

	*ret = moved->target;
	if (to >= plan->length)
		return NULL;
	for (uint32_t i = 0; i < plan->point_count; i++) {
		if (planner->moved[i].from != to)
			continue;
		*ret = planner->request->original_at + places[i];
		return NULL;
	}
	return REFUSE("the branch at +%u leads into the middle of another instruction",
		      moved->from + plan->offset);
}

static struct tm_error *emit_all(struct planner *planner, uint32_t *places)
{
	struct tm_plan *plan = planner->plan;

	plan->relocated_length = 0;
	for (uint32_t i = 0; i < plan->point_count; i++) {
		struct moved *moved = &planner->moved[i];
		struct tm_error *error = NULL;
		uint64_t target;

		places[i] = plan->relocated_length;
		plan->points[i].from = moved->from;
		plan->points[i].to = (uint8_t)places[i];
		if (moved->instruction.meta.category == ZYDIS_CATEGORY_CALL) {
			plan->moves_call = true;
			emit_call_frame(planner);
		}
		if (moved->is_branch) {
			error = new_target(planner, moved, places, &target);
			if (!error)
				move_branch(planner, moved, target);
		} else if (is_rip_relative(&moved->instruction)) {
			error = move_operand(planner, moved);
		} else {
			emit(plan, planner->code + moved->from, moved->instruction.length);
		}
		if (error)
			return error;
	}
	if (!planner->ends)
		emit_jump(planner, CONDITION_ALWAYS, planner->address + plan->length);
	return NULL;
}

static struct tm_error *relocate(struct planner *planner)
{
	uint32_t places[TM_PATCH_POINTS] = {0};
	struct tm_error *error;

	/*
	 * A branch forward to an instruction that is moved too needs that one's
	 * place before it is known.  The length of a branch does not depend on
	 * where among the relocated bytes it leads, so a second round is exact.
	 */
	error = emit_all(planner, places);
	return error ? error : emit_all(planner, places);
}

/* ---- writing the jump ------------------------------------------------- */

static void fill_no_operations(uint8_t *bytes, size_t size)
{
	static const uint8_t forms[9][9] = {
		{0x90},
		{0x66, 0x90},
		{0x0f, 0x1f, 0x00},
		{0x0f, 0x1f, 0x40, 0x00},
		{0x0f, 0x1f, 0x44, 0x00, 0x00},
		{0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
		{0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
		{0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
		{0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
	};

	while (size > 0) {
		size_t length = size < 9 ? size : 9;

		memcpy(bytes, forms[length - 1], length);
		bytes += length;
		size -= length;
	}
}

static struct tm_error *write_jump(const struct planner *planner)
{
	struct tm_plan *plan = planner->plan;
	uint64_t next = planner->address + TM_JUMP_BYTES;
	uint32_t distance = (uint32_t)(planner->request->relay_at - next);

	if (!fits_rel32(next, planner->request->relay_at))
		return REFUSE("the relay at 0x%llx is out of reach",
			      (unsigned long long)planner->request->relay_at);
	plan->written[0] = 0xe9;
	memcpy(plan->written + 1, &distance, sizeof(distance));
	fill_no_operations(plan->written + TM_JUMP_BYTES, plan->length - TM_JUMP_BYTES);
	return NULL;
}

struct tm_error *tm_plan_patch(const struct tm_plan_request *request, struct tm_plan *ret)
{
	static const uint8_t endbr64[4] = {0xf3, 0x0f, 0x1e, 0xfa};
	struct planner planner = {.request = request, .plan = ret};
	struct tm_error *error;

	*ret = (struct tm_plan){0};
	if (!ZYAN_SUCCESS(ZydisDecoderInit(&planner.decoder, ZYDIS_MACHINE_MODE_LONG_64,
					   ZYDIS_STACK_WIDTH_64)))
		return tm_error_new(TM_ERROR_INPUT, "the instruction decoder cannot be set up");
	if (request->code_size >= sizeof(endbr64) &&
	    !memcmp(request->code, endbr64, sizeof(endbr64)))
		ret->offset = sizeof(endbr64);
	if (request->size && request->size <= ret->offset)
		return REFUSE("the function is too short: %llu bytes",
			      (unsigned long long)request->size);
	planner.address = request->function + ret->offset;
	planner.code = request->code + ret->offset;
	planner.available = request->code_size - ret->offset;
	planner.size = request->size ? request->size - ret->offset : 0;
	error = choose_instructions(&planner);
	if (!error)
		error = check_branches(&planner);
	if (!error)
		error = relocate(&planner);
	if (!error)
		error = write_jump(&planner);
	return error;
}
