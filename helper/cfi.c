/*
 * .eh_frame_hdr, .eh_frame and their programs: from an address to a row of
 * rules, and from a row to the 8 bytes that the unwinder caches.
 *
 * Uses cfi.h alone.  Never reads outside the section it was given, never
 * follows a pointer out of it, calls nothing.
 */
#include "cfi.h"

/* ---- reading ---------------------------------------------------------- */

uint64_t tm_cfi_uleb_long(struct tm_cfi_cursor *cursor)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	uint8_t byte;

	do {
		byte = (uint8_t)tm_cfi_read(cursor, 1);
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	return value;
}

int64_t tm_cfi_sleb(struct tm_cfi_cursor *cursor)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	uint8_t byte;

	do {
		byte = (uint8_t)tm_cfi_read(cursor, 1);
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (shift < 64 && (byte & 0x40))
		value |= ~UINT64_C(0) << shift;
	return (int64_t)value;
}

/* A cursor from address to the end of the section. */
static void open_at(const struct tm_cfi *cfi, uint64_t address, struct tm_cfi_cursor *ret)
{
	ret->at = address;
	ret->end = cfi->section.high;
	ret->bad = address < cfi->section.low || address > cfi->section.high;
}

static void skip(struct tm_cfi_cursor *cursor, uint64_t bytes)
{
	if (cursor->bad || bytes > cursor->end - cursor->at)
		cursor->bad = true;
	else
		cursor->at += bytes;
}

void tm_cfi_open_block(const struct tm_cfi *cfi, uint64_t address, struct tm_cfi_cursor *ret)
{
	uint64_t length;

	open_at(cfi, address, ret);
	length = tm_cfi_uleb(ret);
	if (ret->bad || length > ret->end - ret->at)
		ret->bad = true;
	else
		ret->end = ret->at + length;
}

#define ENCODING_OMIT 0xff
#define ENCODING_INDIRECT 0x80
#define ENCODING_APPLICATION 0x70
#define ENCODING_ALIGNED 0x50
#define ENCODING_PCREL 0x10
#define ENCODING_DATAREL 0x30
#define ENCODING_FORMAT 0x0f
#define ENCODING_DATAREL_SDATA4 0x3b

/* Bytes of a fixed-size format; 0 for LEB128 and for unknown formats. */
static unsigned int format_bytes(uint8_t encoding)
{
	switch (encoding & ENCODING_FORMAT) {
	case 0x00:
	case 0x04:
	case 0x08:
	case 0x0c:
		return 8;
	case 0x02:
	case 0x0a:
		return 2;
	case 0x03:
	case 0x0b:
		return 4;
	default:
		return 0;
	}
}

/* Reads the value alone, without what the encoding says to add to it. */
static uint64_t read_format(struct tm_cfi_cursor *cursor, uint8_t encoding)
{
	unsigned int bytes = format_bytes(encoding);
	uint64_t value;

	if (bytes) {
		value = tm_cfi_read(cursor, bytes);
		return encoding & 0x08 ? tm_cfi_sign(value, bytes) : value;
	}
	if ((encoding & ENCODING_FORMAT) == 0x01)
		return tm_cfi_uleb(cursor);
	if ((encoding & ENCODING_FORMAT) == 0x09)
		return (uint64_t)tm_cfi_sleb(cursor);
	cursor->bad = true;
	return 0;
}

/* Reads a pointer; data_base is what data-relative ones are counted from, 0: none. */
static uint64_t read_pointer(struct tm_cfi_cursor *cursor, uint8_t encoding, uint64_t data_base)
{
	uint64_t position;

	if ((encoding & ENCODING_APPLICATION) == ENCODING_ALIGNED)
		skip(cursor, -cursor->at & 7);
	position = cursor->at;
	if (encoding & ENCODING_INDIRECT)
		cursor->bad = true;
	switch (encoding & ENCODING_APPLICATION) {
	case 0:
	case ENCODING_ALIGNED:
		return read_format(cursor, encoding);
	case ENCODING_PCREL:
		return position + read_format(cursor, encoding);
	case ENCODING_DATAREL:
		if (data_base)
			return data_base + read_format(cursor, encoding);
		/* fallthrough */
	default:
		cursor->bad = true;
		return 0;
	}
}

/* ---- CIE and FDE ------------------------------------------------------ */

/*
 * Opens the CIE or FDE at address: the cursor is left behind its length, and
 * ends where the entry ends.  False at a terminator or nonsense.
 */
static bool open_entry(const struct tm_cfi *cfi, uint64_t address, struct tm_cfi_cursor *ret)
{
	uint64_t length;

	open_at(cfi, address, ret);
	length = tm_cfi_read(ret, 4);
	if (length == 0xffffffff)
		length = tm_cfi_read(ret, 8);
	if (ret->bad || length == 0 || length > ret->end - ret->at)
		return false;
	ret->end = ret->at + length;
	return true;
}

#define MAX_AUGMENTATION 16

/* The augmentation string's letters, and the data they describe. */
static bool parse_augmentation(struct tm_cfi *cfi, struct tm_cfi_cursor *letters,
			       struct tm_cfi_cursor *cursor)
{
	uint64_t length = tm_cfi_uleb(cursor);
	struct tm_cfi_cursor data = *cursor;
	uint8_t letter, encoding;

	skip(cursor, length);
	if (cursor->bad)
		return false;
	data.end = cursor->at;
	cfi->has_augmentation = true;
	for (;;) {
		letter = (uint8_t)tm_cfi_read(letters, 1);
		if (letter == 'R') {
			cfi->encoding = (uint8_t)tm_cfi_read(&data, 1);
		} else if (letter == 'S') {
			cfi->signal_frame = true;
		} else if (letter == 'L') {
			tm_cfi_read(&data, 1);
		} else if (letter == 'P') {
			encoding = (uint8_t)tm_cfi_read(&data, 1);
			if ((encoding & ENCODING_APPLICATION) == ENCODING_ALIGNED)
				skip(&data, -data.at & 7);
			if (encoding != ENCODING_OMIT)
				read_format(&data, encoding);
		} else if (letter != 'B' && letter != 'G') {
			break; /* the end, or unknown: its data is skipped by length */
		}
	}
	return !letters->bad && !data.bad;
}

static bool parse_cie(struct tm_cfi *cfi, uint64_t address)
{
	struct tm_cfi_cursor cursor, letters;
	uint8_t version, letter;
	unsigned int length = 0;

	if (!open_entry(cfi, address, &cursor) || tm_cfi_read(&cursor, 4) != 0)
		return false;
	version = (uint8_t)tm_cfi_read(&cursor, 1);
	if (version != 1 && version != 3)
		return false;
	letters = cursor;
	do
		letter = (uint8_t)tm_cfi_read(&cursor, 1);
	while (letter && !cursor.bad && ++length <= MAX_AUGMENTATION);
	if (letter)
		return false;

	cfi->encoding = 0;
	cfi->has_augmentation = false;
	cfi->signal_frame = false;
	cfi->code_alignment = tm_cfi_uleb(&cursor);
	cfi->data_alignment = tm_cfi_sleb(&cursor);
	cfi->return_register = version == 1 ? tm_cfi_read(&cursor, 1) : tm_cfi_uleb(&cursor);
	letter = (uint8_t)tm_cfi_read(&letters, 1);
	if (letter == 'z') {
		if (!parse_augmentation(cfi, &letters, &cursor))
			return false;
	} else if (letter) {
		return false;
	}
	cfi->cie_program = cursor.at;
	cfi->cie_program_end = cursor.end;
	return !cursor.bad;
}

/* Reads the entry at address as an FDE with its CIE.  False for anything else. */
static TM_NOINLINE bool parse_fde(struct tm_cfi *cfi, uint64_t address)
{
	struct tm_cfi_cursor cursor;
	uint64_t position, distance, range;

	if (!open_entry(cfi, address, &cursor))
		return false;
	position = cursor.at;
	distance = tm_cfi_read(&cursor, 4);
	if (distance == 0 || !parse_cie(cfi, position - distance))
		return false;
	cfi->pc_start = read_pointer(&cursor, cfi->encoding, 0);
	range = read_format(&cursor, cfi->encoding & 0x07);
	if (cfi->has_augmentation)
		skip(&cursor, tm_cfi_uleb(&cursor));
	cfi->pc_end = cfi->pc_start + range;
	cfi->fde_program = cursor.at;
	cfi->fde_program_end = cursor.end;
	return !cursor.bad && cfi->pc_end >= cfi->pc_start;
}

/* Without a table: every entry from the first on.  0 when none holds pc. */
static TM_NOINLINE uint64_t find_fde_linear(struct tm_cfi *cfi, uint64_t eh_frame, uint64_t pc)
{
	struct tm_cfi_cursor cursor;
	uint64_t at = eh_frame;

	while (open_entry(cfi, at, &cursor)) {
		if (parse_fde(cfi, at) && pc >= cfi->pc_start && pc < cfi->pc_end)
			return at;
		at = cursor.end;
	}
	return 0;
}

/* The FDE of the table's last entry whose first address is not above pc, or 0. */
static uint64_t find_fde_in_table(struct tm_cfi *cfi, struct tm_cfi_cursor *table, uint64_t count,
				  uint8_t encoding, uint64_t pc)
{
	uint64_t hdr = cfi->section.hdr;
	unsigned int bytes = format_bytes(encoding);
	uint64_t first = 0, last = count; /* the entry sought is in [first, last) or is none */
	struct tm_cfi_cursor entry;

	while (last - first > 1) {
		uint64_t middle = first + (last - first) / 2;

		entry = *table;
		skip(&entry, middle * 2 * bytes);
		if (read_pointer(&entry, encoding, hdr) <= pc)
			first = middle;
		else
			last = middle;
		if (entry.bad)
			return 0;
	}
	entry = *table;
	skip(&entry, first * 2 * bytes + bytes);
	first = read_pointer(&entry, encoding, hdr);
	return entry.bad ? 0 : first;
}

/* The address of the only FDE that may hold pc, or 0. */
static TM_NOINLINE uint64_t find_fde(struct tm_cfi *cfi, uint64_t pc)
{
	const struct tm_cfi_section *section = &cfi->section;
	struct tm_cfi_cursor cursor;
	uint8_t version, frame_encoding, count_encoding, table_encoding;
	uint64_t eh_frame, count;

	if (section->low > section->high || section->hdr < section->low ||
	    section->hdr > section->high || section->hdr_size > section->high - section->hdr)
		return 0;
	if (!section->hdr_size)
		return find_fde_linear(cfi, section->hdr, pc);
	open_at(cfi, section->hdr, &cursor);
	cursor.end = section->hdr + section->hdr_size;
	version = (uint8_t)tm_cfi_read(&cursor, 1);
	frame_encoding = (uint8_t)tm_cfi_read(&cursor, 1);
	count_encoding = (uint8_t)tm_cfi_read(&cursor, 1);
	table_encoding = (uint8_t)tm_cfi_read(&cursor, 1);
	if (version != 1 || frame_encoding == ENCODING_OMIT)
		return 0;
	eh_frame = read_pointer(&cursor, frame_encoding, section->hdr);
	if (cursor.bad)
		return 0;
	if (count_encoding == ENCODING_OMIT || table_encoding == ENCODING_OMIT ||
	    format_bytes(table_encoding) == 0)
		return find_fde_linear(cfi, eh_frame, pc);
	count = read_pointer(&cursor, count_encoding, section->hdr);
	if (cursor.bad || count == 0 ||
	    count > (cursor.end - cursor.at) / (2 * format_bytes(table_encoding)))
		return 0;
	return find_fde_in_table(cfi, &cursor, count, table_encoding, pc);
}

/* ---- programs --------------------------------------------------------- */

#define CFA_ADVANCE_LOC 1 /* these three in the two high bits */
#define CFA_OFFSET 2
#define CFA_RESTORE 3
#define CFA_NOP 0x00
#define CFA_SET_LOC 0x01
#define CFA_ADVANCE_LOC1 0x02
#define CFA_ADVANCE_LOC2 0x03
#define CFA_ADVANCE_LOC4 0x04
#define CFA_OFFSET_EXTENDED 0x05
#define CFA_RESTORE_EXTENDED 0x06
#define CFA_UNDEFINED 0x07
#define CFA_SAME_VALUE 0x08
#define CFA_REGISTER 0x09
#define CFA_REMEMBER_STATE 0x0a
#define CFA_RESTORE_STATE 0x0b
#define CFA_DEF_CFA 0x0c
#define CFA_DEF_CFA_REGISTER 0x0d
#define CFA_DEF_CFA_OFFSET 0x0e
#define CFA_DEF_CFA_EXPRESSION 0x0f
#define CFA_EXPRESSION 0x10
#define CFA_OFFSET_EXTENDED_SF 0x11
#define CFA_DEF_CFA_SF 0x12
#define CFA_DEF_CFA_OFFSET_SF 0x13
#define CFA_VAL_OFFSET 0x14
#define CFA_VAL_OFFSET_SF 0x15
#define CFA_VAL_EXPRESSION 0x16
#define CFA_GNU_ARGS_SIZE 0x2e
#define CFA_GNU_NEGATIVE_OFFSET_EXTENDED 0x2f

/* Rules for registers that the walk does not follow (vector registers) are dropped. */
static void set_rule(struct tm_cfi *cfi, uint64_t number, uint8_t kind, int64_t value)
{
	if (number < TM_DWARF_REGISTERS) {
		cfi->row.kind[number] = kind;
		cfi->row.value[number] = value;
	}
}

static void restore_rule(struct tm_cfi *cfi, uint64_t number)
{
	if (number < TM_DWARF_REGISTERS)
		set_rule(cfi, number, cfi->initial.kind[number], cfi->initial.value[number]);
}

static int64_t factored(const struct tm_cfi *cfi, uint64_t offset)
{
	return (int64_t)(offset * (uint64_t)cfi->data_alignment);
}

static bool set_cfa(struct tm_cfi *cfi, uint64_t number, int64_t offset)
{
	cfi->row.cfa_kind = TM_CFI_VAL_OFFSET;
	cfi->row.cfa_register = (uint8_t)number;
	cfi->row.cfa_value = offset;
	return number < TM_DWARF_REGISTERS;
}

/* The address of the block at the cursor, which is left behind it. */
static int64_t take_block(struct tm_cfi_cursor *cursor)
{
	uint64_t address = cursor->at;

	skip(cursor, tm_cfi_uleb(cursor));
	return (int64_t)address;
}

/* Instructions that define the CFA.  False when there is no such instruction. */
static bool define_cfa(struct tm_cfi *cfi, struct tm_cfi_cursor *cursor, uint8_t op)
{
	struct tm_cfi_row *row = &cfi->row;
	uint64_t number;

	switch (op) {
	case CFA_DEF_CFA:
		number = tm_cfi_uleb(cursor);
		return set_cfa(cfi, number, (int64_t)tm_cfi_uleb(cursor));
	case CFA_DEF_CFA_SF:
		number = tm_cfi_uleb(cursor);
		return set_cfa(cfi, number, factored(cfi, (uint64_t)tm_cfi_sleb(cursor)));
	case CFA_DEF_CFA_REGISTER:
		return row->cfa_kind == TM_CFI_VAL_OFFSET &&
		       set_cfa(cfi, tm_cfi_uleb(cursor), row->cfa_value);
	case CFA_DEF_CFA_OFFSET_SF:
		return row->cfa_kind == TM_CFI_VAL_OFFSET &&
		       set_cfa(cfi, row->cfa_register,
			       factored(cfi, (uint64_t)tm_cfi_sleb(cursor)));
	case CFA_DEF_CFA_EXPRESSION:
		row->cfa_kind = TM_CFI_VAL_EXPRESSION;
		row->cfa_register = 0;
		row->cfa_value = take_block(cursor);
		return true;
	default:
		return false;
	}
}

/* Instructions about one register, whose number comes first. */
static bool define_register(struct tm_cfi *cfi, struct tm_cfi_cursor *cursor, uint8_t op)
{
	uint64_t number = tm_cfi_uleb(cursor);

	switch (op) {
	case CFA_OFFSET_EXTENDED:
		set_rule(cfi, number, TM_CFI_OFFSET, factored(cfi, tm_cfi_uleb(cursor)));
		return true;
	case CFA_OFFSET_EXTENDED_SF:
		set_rule(cfi, number, TM_CFI_OFFSET, factored(cfi, (uint64_t)tm_cfi_sleb(cursor)));
		return true;
	case CFA_GNU_NEGATIVE_OFFSET_EXTENDED:
		set_rule(cfi, number, TM_CFI_OFFSET, factored(cfi, 0 - tm_cfi_uleb(cursor)));
		return true;
	case CFA_VAL_OFFSET:
		set_rule(cfi, number, TM_CFI_VAL_OFFSET, factored(cfi, tm_cfi_uleb(cursor)));
		return true;
	case CFA_VAL_OFFSET_SF:
		set_rule(cfi, number, TM_CFI_VAL_OFFSET,
			 factored(cfi, (uint64_t)tm_cfi_sleb(cursor)));
		return true;
	case CFA_RESTORE_EXTENDED:
		restore_rule(cfi, number);
		return true;
	case CFA_UNDEFINED:
		set_rule(cfi, number, TM_CFI_UNDEFINED, 0);
		return true;
	case CFA_SAME_VALUE:
		set_rule(cfi, number, TM_CFI_SAME, 0);
		return true;
	case CFA_REGISTER:
		set_rule(cfi, number, TM_CFI_REGISTER, (int64_t)tm_cfi_uleb(cursor));
		return true;
	case CFA_EXPRESSION:
		set_rule(cfi, number, TM_CFI_EXPRESSION, take_block(cursor));
		return true;
	case CFA_VAL_EXPRESSION:
		set_rule(cfi, number, TM_CFI_VAL_EXPRESSION, take_block(cursor));
		return true;
	default:
		return false;
	}
}

/* The location that an instruction goes on to; the same one when it does not move it. */
static inline uint64_t advance(const struct tm_cfi *cfi, struct tm_cfi_cursor *cursor, uint8_t op,
			       uint64_t location)
{
	if (op >> 6 == CFA_ADVANCE_LOC)
		return location + (op & 0x3f) * cfi->code_alignment;
	if (op == CFA_SET_LOC)
		return read_pointer(cursor, cfi->encoding, 0);
	return location + tm_cfi_read(cursor, 1u << (op - CFA_ADVANCE_LOC1)) * cfi->code_alignment;
}

/* Runs one program up to pc.  False for nonsense. */
static TM_NOINLINE bool run(struct tm_cfi *cfi, uint64_t start, uint64_t end, uint64_t pc)
{
	struct tm_cfi_cursor cursor = {.at = start, .end = end, .bad = false};
	uint64_t location = cfi->pc_start, next;
	uint32_t depth = 0;

	while (cursor.at < cursor.end) {
		uint8_t op = *(const uint8_t *)cursor.at++;

		if (op >> 6 == CFA_ADVANCE_LOC || (op >= CFA_SET_LOC && op <= CFA_ADVANCE_LOC4)) {
			next = advance(cfi, &cursor, op, location);
			if (cursor.bad || next < location)
				return false;
			if (next > pc)
				return true;
			location = next;
			cfi->row_start = next;
		} else if (op == CFA_DEF_CFA_OFFSET) {
			if (cfi->row.cfa_kind != TM_CFI_VAL_OFFSET)
				return false;
			cfi->row.cfa_value = (int64_t)tm_cfi_uleb(&cursor);
		} else if (op >> 6 == CFA_OFFSET) {
			set_rule(cfi, op & 0x3f, TM_CFI_OFFSET,
				 factored(cfi, tm_cfi_uleb(&cursor)));
		} else if (op >> 6 == CFA_RESTORE) {
			restore_rule(cfi, op & 0x3f);
		} else if (op == CFA_REMEMBER_STATE) {
			if (depth == TM_CFI_REMEMBERED)
				return false;
			cfi->remembered[depth++] = cfi->row;
		} else if (op == CFA_RESTORE_STATE) {
			if (depth == 0)
				return false;
			cfi->row = cfi->remembered[--depth];
		} else if (op == CFA_GNU_ARGS_SIZE) {
			tm_cfi_uleb(&cursor);
		} else if (op != CFA_NOP) {
			bool cfa = (op >= CFA_DEF_CFA && op <= CFA_DEF_CFA_EXPRESSION) ||
				   op == CFA_DEF_CFA_SF || op == CFA_DEF_CFA_OFFSET_SF;

			if (!(cfa ? define_cfa(cfi, &cursor, op)
				  : define_register(cfi, &cursor, op)))
				return false;
		}
		if (cursor.bad)
			return false;
	}
	return true;
}

bool tm_cfi_find(struct tm_cfi *cfi, const struct tm_cfi_section *section, uint64_t pc)
{
	uint64_t fde;
	unsigned int i;

	cfi->section = *section;
	fde = find_fde(cfi, pc);
	if (!fde || !parse_fde(cfi, fde) || pc < cfi->pc_start || pc >= cfi->pc_end)
		return false;
	cfi->row.cfa_kind = TM_CFI_UNSPECIFIED;
	cfi->row.cfa_register = 0;
	cfi->row.cfa_value = 0;
	for (i = 0; i < TM_DWARF_REGISTERS; i++)
		set_rule(cfi, i, TM_CFI_UNSPECIFIED, 0);
	cfi->initial = cfi->row;
	cfi->row_start = cfi->pc_start;
	if (!run(cfi, cfi->cie_program, cfi->cie_program_end, cfi->pc_start))
		return false;
	cfi->initial = cfi->row;
	return run(cfi, cfi->fde_program, cfi->fde_program_end, pc) &&
	       cfi->row.cfa_kind != TM_CFI_UNSPECIFIED;
}
