/*
 * From a row of call frame information to the 8-byte rule that walks cache.
 *
 * Uses cfi.h alone.  Whatever does not fit a rule becomes TM_RULE_FULL; a
 * rule never says anything that the row does not.
 */
#include "cfi.h"

/* Whether the block at address consists of these bytes. */
static bool block_is(const struct tm_cfi *cfi, uint64_t address, const uint8_t *bytes,
		     unsigned int count)
{
	struct tm_cfi_cursor cursor;
	unsigned int i;

	tm_cfi_open_block(cfi, address, &cursor);
	if (cursor.bad || cursor.end - cursor.at != count)
		return false;
	for (i = 0; i < count; i++)
		if (tm_cfi_read(&cursor, 1) != bytes[i])
			return false;
	return true;
}

/* breg `base`; `tail` (0: nothing): matches that block and takes the offset. */
static bool block_is_breg(const struct tm_cfi *cfi, uint64_t address, uint8_t base, uint8_t tail,
			  int64_t *ret)
{
	struct tm_cfi_cursor cursor;

	tm_cfi_open_block(cfi, address, &cursor);
	if (tm_cfi_read(&cursor, 1) != (uint64_t)0x70 + base)
		return false;
	*ret = tm_cfi_sleb(&cursor);
	if (tail && tm_cfi_read(&cursor, 1) != tail)
		return false;
	return !cursor.bad && cursor.at == cursor.end;
}

#define OP_DEREF 0x06

static bool is_stored_at_breg(const struct tm_cfi *cfi, unsigned int number, uint8_t base,
			      int64_t offset)
{
	int64_t found;

	return cfi->row.kind[number] == TM_CFI_EXPRESSION &&
	       block_is_breg(cfi, (uint64_t)cfi->row.value[number], base, 0, &found) &&
	       found == offset;
}

/* The frame that the kernel made to call a signal handler, as its C library describes it. */
static bool is_kernel_signal_frame(const struct tm_cfi *cfi)
{
	int64_t offset;

	return cfi->signal_frame && cfi->row.cfa_kind == TM_CFI_VAL_EXPRESSION &&
	       block_is_breg(cfi, (uint64_t)cfi->row.cfa_value, TM_DWARF_RSP, OP_DEREF, &offset) &&
	       offset == TM_UCONTEXT_RSP &&
	       is_stored_at_breg(cfi, TM_DWARF_RIP, TM_DWARF_RSP, TM_UCONTEXT_RIP) &&
	       is_stored_at_breg(cfi, TM_DWARF_RBP, TM_DWARF_RSP, TM_UCONTEXT_RBP);
}

/*
 * The linker describes all stubs of a PLT with one row:
 *   CFA = rsp + 8 + ((rip & 15) >= limit) * 8
 * which is a constant at any one address.
 */
static bool is_plt(const struct tm_cfi *cfi, uint64_t pc, int64_t *ret)
{
	uint8_t expected[] = {0x77, 8, 0x80, 0, 0x3f, 0x1a, 0, 0x2a, 0x33, 0x24, 0x22};
	unsigned int limit;

	for (limit = 0; limit < 16; limit++) {
		expected[6] = (uint8_t)(0x30 + limit);
		if (block_is(cfi, (uint64_t)cfi->row.cfa_value, expected, sizeof(expected))) {
			*ret = (pc & 15) >= limit ? 16 : 8;
			return true;
		}
	}
	return false;
}

static bool is_unchanged(const struct tm_cfi_row *row, unsigned int number)
{
	return row->kind[number] == TM_CFI_UNSPECIFIED || row->kind[number] == TM_CFI_SAME;
}

/* gcc's frames with a realigned stack: the CFA is stored below rbp, rbp's old value at rbp. */
static bool is_realigned(const struct tm_cfi *cfi, int64_t *ret)
{
	return block_is_breg(cfi, (uint64_t)cfi->row.cfa_value, TM_DWARF_RBP, OP_DEREF, ret) &&
	       is_stored_at_breg(cfi, TM_DWARF_RBP, TM_DWARF_RBP, 0);
}

static uint64_t pack(uint64_t kind, int64_t cfa_offset, int64_t rbp_offset)
{
	if (cfa_offset != (int32_t)cfa_offset || rbp_offset < -(1 << 23) || rbp_offset >= 1 << 23)
		return TM_RULE_FULL;
	return kind | (uint64_t)cfa_offset << 32 | (uint64_t)(uint32_t)(rbp_offset * 256);
}

uint64_t tm_cfi_compile(const struct tm_cfi *cfi, uint64_t pc)
{
	const struct tm_cfi_row *row = &cfi->row;
	uint64_t kind = TM_RULE_STEP;
	int64_t cfa_offset = row->cfa_value, rbp_offset = 0;

	if (row->kind[TM_DWARF_RIP] == TM_CFI_UNDEFINED)
		return TM_RULE_END;
	if (cfi->signal_frame)
		return is_kernel_signal_frame(cfi) ? TM_RULE_SIGNAL : TM_RULE_FULL;
	if (cfi->return_register != TM_DWARF_RIP || row->kind[TM_DWARF_RIP] != TM_CFI_OFFSET ||
	    row->value[TM_DWARF_RIP] != -8 || row->kind[TM_DWARF_RSP] != TM_CFI_UNSPECIFIED)
		return TM_RULE_FULL;
	if (row->cfa_kind == TM_CFI_VAL_EXPRESSION) {
		if (is_realigned(cfi, &cfa_offset))
			return pack(TM_RULE_REALIGNED, cfa_offset, 0);
		if (!is_plt(cfi, pc, &cfa_offset))
			return TM_RULE_FULL;
	} else if (row->cfa_register == TM_DWARF_RBP) {
		kind |= TM_RULE_FROM_RBP;
	} else if (row->cfa_register != TM_DWARF_RSP) {
		return TM_RULE_FULL;
	}
	if (row->kind[TM_DWARF_RBP] == TM_CFI_OFFSET) {
		kind |= TM_RULE_RBP_SAVED;
		rbp_offset = row->value[TM_DWARF_RBP];
	} else if (!is_unchanged(row, TM_DWARF_RBP)) {
		return TM_RULE_FULL;
	}
	if (!(kind & TM_RULE_FROM_RBP) && cfa_offset < 8)
		return TM_RULE_FULL; /* nobody calls from below */
	return pack(kind, cfa_offset, rbp_offset);
}
