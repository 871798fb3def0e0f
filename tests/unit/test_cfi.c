/*
 * Call frame information on hand-made bytes, rule by rule, and on bytes made
 * to do harm.
 *
 * links: helper/cfi.c helper/rule.c helper/expression.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cfi.h"

#define PC 0x400000u   /* of the first function */
#define RANGE 0x100u   /* bytes of each function */
#define STRIDE 0x200u  /* from one function to the next */

/* ---- making sections -------------------------------------------------- */

static uint8_t bytes[16384];
static size_t size;

static void put(uint64_t value, unsigned int count)
{
	memcpy(&bytes[size], &value, count);
	size += count;
}

static void patch32(size_t at, uint64_t value)
{
	memcpy(&bytes[at], &value, 4);
}

/* What a section is made of. */
struct recipe {
	const char *augmentation; /* NULL: "zR" */
	const char *augmentation_data; /* NULL: absolute pointers */
	size_t augmentation_size;
	const uint8_t *cie;
	size_t cie_size;
	const uint8_t *fde;
	size_t fde_size;
	unsigned int functions; /* 0: one */
	bool no_table;
	bool wide_table;
	uint8_t version; /* of the CIE; 0: 1 */
	bool long_length;
	uint8_t encoding; /* of the FDE's pointers */
};

static const uint8_t usual_cie[] = {0x0c, 7, 8, 0x90, 1}; /* CFA = rsp + 8, rip at CFA - 8 */

static size_t begin_entry(const struct recipe *recipe)
{
	if (recipe->long_length) {
		put(0xffffffff, 4);
		put(0, 8);
	} else {
		put(0, 4);
	}
	return size;
}

static void align(void)
{
	while (size % 8)
		put(0, 1);
}

static void end_entry(size_t start)
{
	align();
	if (start >= 12 && memcmp(&bytes[start - 12], "\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 12) == 0)
		patch32(start - 8, size - start);
	else
		patch32(start - 4, size - start);
}

/* Where to put relative pointers: the copy is made before they are. */
static uint64_t base;

static void put_pointer(uint8_t encoding, uint64_t value)
{
	static const uint8_t widths[16] = {8, 0, 2, 4, 8, 0, 0, 0, 8, 0, 2, 4, 8, 0, 0, 0};

	if ((encoding & 0x70) == 0x10)
		value -= base + size;
	if ((encoding & 0x0f) == 0x01) {
		for (; value > 127; value >>= 7)
			put((value & 127) | 128, 1);
		put(value, 1);
	} else {
		put(value, widths[encoding & 15]);
	}
}

static void make(const struct recipe *recipe, uint64_t pc)
{
	unsigned int functions = recipe->functions ? recipe->functions : 1, i;
	size_t table, cie, cie_start, start, width = recipe->wide_table ? 8 : 4;

	size = 0;
	put(1, 1);
	put(0x1b, 1);
	put(recipe->no_table ? 0xff : 0x03, 1);
	put(recipe->no_table ? 0xff : recipe->wide_table ? 0x3c : 0x3b, 1);
	put(0, 4);
	if (!recipe->no_table)
		put(functions, 4);
	table = size;
	size += recipe->no_table ? 0 : functions * 2 * width;
	align();
	patch32(4, size - 4);
	cie = size;
	cie_start = begin_entry(recipe);
	put(0, 4);
	put(recipe->version ? recipe->version : 1, 1);
	strcpy((char *)&bytes[size], recipe->augmentation ? recipe->augmentation : "zR");
	size += strlen((char *)&bytes[size]) + 1;
	put(1, 1);
	put(0x78, 1);
	put(16, 1);
	if (recipe->augmentation_data) {
		put(recipe->augmentation_size, 1);
		memcpy(&bytes[size], recipe->augmentation_data, recipe->augmentation_size);
		size += recipe->augmentation_size;
	} else {
		put(1, 1);
		put(recipe->encoding, 1);
	}
	memcpy(&bytes[size], recipe->cie ? recipe->cie : usual_cie,
	       recipe->cie ? recipe->cie_size : sizeof(usual_cie));
	size += recipe->cie ? recipe->cie_size : sizeof(usual_cie);
	end_entry(cie_start);
	for (i = 0; i < functions; i++) {
		uint64_t function = pc + i * STRIDE;
		uint64_t first = function - base, second = size;

		if (!recipe->no_table) {
			memcpy(&bytes[table + i * 2 * width], &first, width);
			memcpy(&bytes[table + i * 2 * width + width], &second, width);
		}
		start = begin_entry(recipe);
		put(size - cie, 4);
		put_pointer(recipe->encoding, function);
		put_pointer(recipe->encoding & 0x07, RANGE);
		put(0, 1);
		memcpy(&bytes[size], recipe->fde, recipe->fde_size);
		size += recipe->fde_size;
		end_entry(start);
	}
	put(0, 4);
}

static struct tm_cfi cfi;

/* Looks up in a copy of exactly so many bytes, so that a sanitizer sees reads outside. */
static bool find_in_copy(uint8_t *copy, size_t length, uint64_t pc)
{
	struct tm_cfi_section section = {
		.hdr = (uint64_t)copy,
		.hdr_size = length,
		.low = (uint64_t)copy,
		.high = (uint64_t)copy + length,
	};

	memset(&cfi, 0xa5, sizeof(cfi));
	return tm_cfi_find(&cfi, &section, pc);
}

static uint8_t *copy;

/* Makes the section twice: pointers are relative to where its copy is. */
static bool find(const struct recipe *recipe, uint64_t offset)
{
	uint64_t pc;

	free(copy);
	base = 0;
	make(recipe, PC);
	copy = malloc(size);
	base = (uint64_t)copy;
	pc = (recipe->encoding & 0x70) || !recipe->no_table ? base + 0x100000 : PC;
	make(recipe, pc);
	memcpy(copy, bytes, size);
	return find_in_copy(copy, size, pc + offset);
}

static bool find_program(const uint8_t *program, size_t program_size, uint64_t offset)
{
	struct recipe recipe = {.fde = program, .fde_size = program_size};

	return find(&recipe, offset);
}

#define FIND(offset, ...)                                                                      \
	find_program((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), offset)

static void assert_rule(unsigned int number, unsigned int kind, int64_t value)
{
	assert_int_equal(cfi.row.kind[number], kind);
	assert_int_equal(cfi.row.value[number], value);
}

static void assert_cfa(unsigned int number, int64_t offset)
{
	assert_int_equal(cfi.row.cfa_kind, TM_CFI_VAL_OFFSET);
	assert_int_equal(cfi.row.cfa_register, number);
	assert_int_equal(cfi.row.cfa_value, offset);
}

/* ---- rows ------------------------------------------------------------- */

static void without_instructions_the_cie_s_rules_hold(void **state)
{
	(void)state;
	assert_true(FIND(0, 0));
	assert_cfa(7, 8);
	assert_rule(16, TM_CFI_OFFSET, -8);
	assert_rule(6, TM_CFI_UNSPECIFIED, 0);
	assert_true(FIND(RANGE - 1, 0));
	assert_false(FIND(RANGE, 0));
}

static void rules_hold_from_their_location_on(void **state)
{
	(void)state;
	/* advance 1; CFA offset 16; rbp at CFA - 16; advance 3; CFA register rbp */
	assert_true(FIND(0, 0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6));
	assert_cfa(7, 8);
	assert_true(FIND(1, 0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6));
	assert_cfa(7, 16);
	assert_rule(6, TM_CFI_OFFSET, -16);
	assert_true(FIND(3, 0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6));
	assert_cfa(7, 16);
	assert_true(FIND(4, 0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6));
	assert_cfa(6, 16);
}

static void locations_advance_in_all_widths(void **state)
{
	(void)state;
	assert_true(FIND(9, 0x02, 10, 0x0e, 16));
	assert_cfa(7, 8);
	assert_true(FIND(10, 0x02, 10, 0x0e, 16));
	assert_cfa(7, 16);
	assert_true(FIND(20, 0x03, 20, 0, 0x0e, 16));
	assert_cfa(7, 16);
	assert_true(FIND(19, 0x04, 20, 0, 0, 0, 0x0e, 16));
	assert_cfa(7, 8);
	assert_true(FIND(255, 0x03, 0, 1, 0x0e, 16));
	assert_cfa(7, 8);
}

static void set_loc_moves_to_an_address(void **state)
{
	uint8_t program[] = {0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0x0e, 24};
	struct recipe recipe = {.fde = program, .fde_size = sizeof(program), .no_table = true};
	uint64_t target = PC + 0x20;

	(void)state;
	memcpy(&program[1], &target, 8);
	assert_true(find(&recipe, 0x1f));
	assert_cfa(7, 8);
	assert_true(find(&recipe, 0x20));
	assert_cfa(7, 24);
	target = PC - 1; /* backwards is nonsense */
	memcpy(&program[1], &target, 8);
	assert_false(find(&recipe, 0x20));
}

static void every_instruction_sets_its_rule(void **state)
{
	(void)state;
	assert_true(FIND(0, 0x05, 12, 3));
	assert_rule(12, TM_CFI_OFFSET, -24);
	assert_true(FIND(0, 0x11, 12, 0x7d));
	assert_rule(12, TM_CFI_OFFSET, 24);
	assert_true(FIND(0, 0x2f, 12, 3));
	assert_rule(12, TM_CFI_OFFSET, 24);
	assert_true(FIND(0, 0x14, 7, 2));
	assert_rule(7, TM_CFI_VAL_OFFSET, -16);
	assert_true(FIND(0, 0x15, 7, 0x7e));
	assert_rule(7, TM_CFI_VAL_OFFSET, 16);
	assert_true(FIND(0, 0x07, 16));
	assert_rule(16, TM_CFI_UNDEFINED, 0);
	assert_true(FIND(0, 0x08, 3));
	assert_rule(3, TM_CFI_SAME, 0);
	assert_true(FIND(0, 0x09, 16, 2));
	assert_rule(16, TM_CFI_REGISTER, 2);
	assert_true(FIND(0, 0x83, 5));
	assert_rule(3, TM_CFI_OFFSET, -40);
	assert_true(FIND(0, 0x0c, 10, 0x80, 1));
	assert_cfa(10, 128);
	assert_true(FIND(0, 0x12, 6, 0x7e));
	assert_cfa(6, 16);
	assert_true(FIND(0, 0x13, 0x7c));
	assert_cfa(7, 32);
	assert_true(FIND(0, 0x2e, 32, 0x0e, 40, 0, 0));
	assert_cfa(7, 40);
}

static void expressions_are_kept_by_address(void **state)
{
	struct tm_cfi_cursor block;

	(void)state;
	assert_true(FIND(0, 0x0f, 3, 0x77, 8, 0x06, 0x10, 6, 2, 0x76, 0, 0x16, 3, 1, 0x30));
	assert_int_equal(cfi.row.cfa_kind, TM_CFI_VAL_EXPRESSION);
	tm_cfi_open_block(&cfi, (uint64_t)cfi.row.cfa_value, &block);
	assert_memory_equal((void *)block.at, "\x77\x08\x06", 3);
	assert_int_equal(block.end - block.at, 3);
	assert_int_equal(cfi.row.kind[6], TM_CFI_EXPRESSION);
	assert_int_equal(cfi.row.kind[3], TM_CFI_VAL_EXPRESSION);
	/* An offset needs a register to count from. */
	assert_false(FIND(0, 0x0f, 1, 0x30, 0x0e, 16));
	assert_false(FIND(0, 0x0f, 1, 0x30, 0x0d, 6));
}

static void restore_takes_back_what_the_cie_said(void **state)
{
	static const uint8_t cie[] = {0x0c, 7, 8, 0x90, 1, 0x86, 4};
	static const uint8_t fde[] = {0x86, 9, 0x83, 9, 0x41, 0xc6, 0x06, 3};
	struct recipe recipe = {
		.cie = cie, .cie_size = sizeof(cie), .fde = fde, .fde_size = sizeof(fde)};

	(void)state;
	assert_true(find(&recipe, 0));
	assert_rule(6, TM_CFI_OFFSET, -72);
	assert_true(find(&recipe, 1));
	assert_rule(6, TM_CFI_OFFSET, -32);
	assert_rule(3, TM_CFI_UNSPECIFIED, 0);
}

static void states_are_remembered_in_order(void **state)
{
	(void)state;
	assert_true(FIND(0, 0x0e, 16, 0x0a, 0x0e, 24, 0x0a, 0x0e, 32, 0x0b, 0x41, 0x0b));
	assert_cfa(7, 24);
	assert_true(FIND(1, 0x0e, 16, 0x0a, 0x0e, 24, 0x0a, 0x0e, 32, 0x0b, 0x41, 0x0b));
	assert_cfa(7, 16);
	assert_false(FIND(0, 0x0b));
	assert_false(FIND(0, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a));
}

static void registers_out_of_range_do_no_harm(void **state)
{
	(void)state;
	assert_true(FIND(0, 0x91, 2, 0x05, 0xff, 0xff, 0x03, 1)); /* vector registers: dropped */
	assert_rule(16, TM_CFI_OFFSET, -8);
	assert_false(FIND(0, 0x0c, 17, 8));
	assert_false(FIND(0, 0x0d, 0x80, 2));
}

static void unknown_instructions_are_nonsense(void **state)
{
	(void)state;
	assert_false(FIND(0, 0x3f));
	assert_false(FIND(0, 0x1c));
	assert_false(FIND(0, 0x2d));
}

/* ---- CIEs, FDEs, tables ----------------------------------------------- */

static void the_right_function_is_found_among_many(void **state)
{
	static const uint8_t fde[] = {0x0e, 16};
	struct recipe recipe = {.fde = fde, .fde_size = sizeof(fde)};
	unsigned int i, way;

	(void)state;
	for (way = 0; way < 3; way++) {
		recipe.no_table = way == 1;
		recipe.wide_table = way == 2;
		for (recipe.functions = 1; recipe.functions <= 40; recipe.functions += 3) {
			for (i = 0; i < recipe.functions; i++) {
				assert_true(find(&recipe, i * STRIDE));
				assert_int_equal(cfi.pc_end - cfi.pc_start, RANGE);
				assert_true(find(&recipe, i * STRIDE + RANGE - 1));
				assert_false(find(&recipe, i * STRIDE + RANGE));
			}
			assert_false(find(&recipe, (uint64_t)-1));
			assert_false(find(&recipe, recipe.functions * STRIDE));
		}
	}
}

static void pointers_are_read_in_all_encodings(void **state)
{
	static const uint8_t encodings[] = {0x00, 0x01, 0x03, 0x04, 0x0b, 0x0c, 0x1b, 0x1c, 0x10, 0x50};
	static const uint8_t fde[] = {0x0e, 16};
	struct recipe recipe = {.fde = fde, .fde_size = sizeof(fde), .no_table = true};
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(encodings); i++) {
		recipe.encoding = encodings[i];
		if (encodings[i] == 0x50) /* aligned: not where this test puts it */
			continue;
		assert_true(find(&recipe, 5));
		assert_cfa(7, 16);
	}
	recipe.encoding = 0x9b; /* indirect */
	assert_false(find(&recipe, 5));
	recipe.encoding = 0x2b; /* relative to the text: unknown here */
	assert_false(find(&recipe, 5));
}

static void augmentations_are_understood(void **state)
{
	static const uint8_t fde[] = {0x0e, 16};
	struct recipe recipe = {.fde = fde, .fde_size = sizeof(fde)};

	(void)state;
	recipe.augmentation = "zPLR";
	recipe.augmentation_data = "\x9b\1\2\3\4\x1b\0";
	recipe.augmentation_size = 7;
	assert_true(find(&recipe, 0));
	assert_false(cfi.signal_frame);
	recipe.augmentation = "zRS";
	recipe.augmentation_data = "\0";
	recipe.augmentation_size = 1;
	assert_true(find(&recipe, 0));
	assert_true(cfi.signal_frame);
	recipe.augmentation = "zRSB";
	assert_true(find(&recipe, 0));
	recipe.augmentation = "zRX"; /* unknown: skipped by its length */
	recipe.augmentation_data = "\0\1\2";
	recipe.augmentation_size = 3;
	assert_true(find(&recipe, 0));
	recipe.augmentation = "eh";
	assert_false(find(&recipe, 0));
	recipe.augmentation = "zSSSSSSSSSSSSSSSSSSSSSSSSSSSSSR";
	assert_false(find(&recipe, 0));
}

static void versions_and_lengths_are_understood(void **state)
{
	static const uint8_t fde[] = {0x0e, 16};
	struct recipe recipe = {.fde = fde, .fde_size = sizeof(fde), .version = 3};

	(void)state;
	assert_true(find(&recipe, 0));
	recipe.long_length = true;
	assert_true(find(&recipe, 0));
	recipe.version = 2;
	assert_false(find(&recipe, 0));
}

/* ---- compiled rules --------------------------------------------------- */

static uint64_t compile_at(uint64_t pc)
{
	return tm_cfi_compile(&cfi, pc);
}

static void usual_rows_become_steps(void **state)
{
	uint64_t rule;

	(void)state;
	assert_true(FIND(0, 0));
	rule = compile_at(PC);
	assert_int_equal(rule & 0xff, TM_RULE_STEP);
	assert_int_equal(tm_rule_cfa_offset(rule), 8);
	assert_true(FIND(0, 0x0c, 6, 16, 0x86, 2, 0x83, 3));
	rule = compile_at(PC);
	assert_int_equal(rule & 0xff, TM_RULE_STEP | TM_RULE_FROM_RBP | TM_RULE_RBP_SAVED);
	assert_int_equal(tm_rule_cfa_offset(rule), 16);
	assert_int_equal(tm_rule_rbp_offset(rule), -16);
	assert_true(FIND(0, 0x0e, 0xff, 0xff, 0xff, 0xff, 7, 0x86, 0xff, 0xff, 0x3f));
	rule = compile_at(PC);
	assert_int_equal(tm_rule_cfa_offset(rule), INT32_MAX);
	assert_int_equal(tm_rule_rbp_offset(rule), -8 * 0xfffff);
}

static void what_does_not_fit_is_left_to_the_full_walk(void **state)
{
	(void)state;
	assert_true(FIND(0, 0x0c, 3, 16));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
	assert_true(FIND(0, 0x0e, 0x80, 0x80, 0x80, 0x80, 8));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
	assert_true(FIND(0, 0x86, 0x81, 0x80, 0x40));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
	assert_true(FIND(0, 0x90, 2));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
	assert_true(FIND(0, 0x09, 6, 3));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
	assert_true(FIND(0, 0x09, 16, 3));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
	assert_true(FIND(0, 0x14, 7, 2));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
	assert_true(FIND(0, 0x0f, 2, 0x77, 8));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
}

static void no_return_address_is_the_end(void **state)
{
	(void)state;
	assert_true(FIND(0, 0x07, 16));
	assert_int_equal(compile_at(PC), TM_RULE_END);
}

static void plt_stubs_become_steps_by_their_address(void **state)
{
	uint64_t i;

	(void)state;
	assert_true(FIND(0, 0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22));
	for (i = 0; i < 32; i++)
		assert_int_equal(tm_rule_cfa_offset(compile_at(PC + i)), i % 16 >= 11 ? 16 : 8);
}

static void realigned_frames_become_rules(void **state)
{
	uint64_t rule;

	(void)state;
	assert_true(FIND(0, 0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0));
	rule = compile_at(PC);
	assert_int_equal(rule & TM_RULE_KIND_MASK, TM_RULE_REALIGNED);
	assert_int_equal(tm_rule_cfa_offset(rule), -8);
	/* Not when rbp is elsewhere. */
	assert_true(FIND(0, 0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 8));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
}

static void the_kernel_s_signal_frame_becomes_a_rule(void **state)
{
	uint8_t fde[] = {0x0f, 4, 0x77, 0xa0, 1, 0x06, 0x10, 16, 3,    0x77,
			 0xa8, 1, 0x10, 6,    3, 0x77, 0xf8, 0, 0, 0};
	struct recipe recipe = {
		.fde = fde,
		.fde_size = sizeof(fde),
		.augmentation = "zRS",
		.augmentation_data = "\0",
		.augmentation_size = 1,
	};

	(void)state;
	assert_true(find(&recipe, 0));
	assert_int_equal(compile_at(PC), TM_RULE_SIGNAL);
	fde[10]++;
	assert_true(find(&recipe, 0));
	assert_int_equal(compile_at(PC), TM_RULE_FULL);
}

/* ---- expressions ------------------------------------------------------ */

static bool load_word(void *context, uint64_t address, uint64_t *ret)
{
	(void)context;
	*ret = address * 16 + 0x8877665500000000;
	return address < 0x10000000;
}

static bool evaluate(const uint8_t *expression, size_t length, uint64_t *ret)
{
	struct tm_cfi_machine machine = {.known = 1u << 7 | 1u << 6 | 1u << 16, .load = load_word};
	static const uint64_t initial = 1000;
	uint8_t *block = malloc(length + 1);
	bool good;

	block[0] = (uint8_t)length;
	memcpy(block + 1, expression, length);
	machine.registers[7] = 0x2000;
	machine.registers[6] = 0x3000;
	machine.registers[16] = 0x400b;
	cfi.section.low = (uint64_t)block;
	cfi.section.high = (uint64_t)block + length + 1;
	good = tm_cfi_evaluate(&cfi, &machine, (uint64_t)block, &initial, ret);
	free(block);
	return good;
}

#define EVALUATES_TO(value, ...)                                                               \
	do {                                                                                   \
		const uint8_t expression[] = {__VA_ARGS__};                                    \
		uint64_t result = 0;                                                           \
		assert_true(evaluate(expression, sizeof(expression), &result));                \
		assert_int_equal(result, value);                                               \
	} while (0)

#define IS_NONSENSE(...)                                                                       \
	do {                                                                                   \
		const uint8_t expression[] = {__VA_ARGS__};                                    \
		uint64_t result;                                                               \
		assert_false(evaluate(expression, sizeof(expression), &result));               \
	} while (0)

#define MINUS_ONE ((uint64_t)-1)

static void operations_compute(void **state)
{
	(void)state;
	EVALUATES_TO(1000, 0x96);
	EVALUATES_TO(0x1122334455667788, 0x03, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11);
	EVALUATES_TO(0xff, 0x08, 0xff);
	EVALUATES_TO(MINUS_ONE, 0x09, 0xff);
	EVALUATES_TO(0xfffe, 0x0a, 0xfe, 0xff);
	EVALUATES_TO(MINUS_ONE - 1, 0x0b, 0xfe, 0xff);
	EVALUATES_TO(0xfffffffe, 0x0c, 0xfe, 0xff, 0xff, 0xff);
	EVALUATES_TO(MINUS_ONE, 0x0d, 0xff, 0xff, 0xff, 0xff);
	EVALUATES_TO(5, 0x0e, 5, 0, 0, 0, 0, 0, 0, 0);
	EVALUATES_TO(5, 0x0f, 5, 0, 0, 0, 0, 0, 0, 0);
	EVALUATES_TO(300, 0x10, 0xac, 2);
	EVALUATES_TO(MINUS_ONE, 0x11, 0x7f);
	EVALUATES_TO(2000, 0x12, 0x22);
	EVALUATES_TO(1000, 0x35, 0x13);
	EVALUATES_TO(2005, 0x35, 0x14, 0x22, 0x22);
	EVALUATES_TO(1000, 0x35, 0x15, 1);
	EVALUATES_TO(MINUS_ONE - 994, 0x35, 0x16, 0x1c);
	EVALUATES_TO(2, 0x31, 0x32, 0x33, 0x17); /* 1 2 3 -> 3 1 2 */
	EVALUATES_TO(1, 0x31, 0x32, 0x33, 0x17, 0x13);
	EVALUATES_TO(5, 0x09, 0xfb, 0x19);
	EVALUATES_TO(4, 0x3c, 0x36, 0x1a);
	EVALUATES_TO(MINUS_ONE - 1, 0x09, 0xfb, 0x32, 0x1b);
	EVALUATES_TO(UINT64_C(1) << 63, 0x31, 0x08, 63, 0x24, 0x09, 0xff, 0x1b);
	EVALUATES_TO(995, 0x35, 0x1c);
	EVALUATES_TO(1, 0x37, 0x33, 0x1d);
	EVALUATES_TO(21, 0x37, 0x33, 0x1e);
	EVALUATES_TO(MINUS_ONE - 6, 0x37, 0x1f);
	EVALUATES_TO(MINUS_ONE - 7, 0x37, 0x20);
	EVALUATES_TO(7, 0x35, 0x32, 0x21);
	EVALUATES_TO(1300, 0x23, 0xac, 2);
	EVALUATES_TO(40, 0x35, 0x33, 0x24);
	EVALUATES_TO(0, 0x35, 0x08, 64, 0x24);
	EVALUATES_TO(MINUS_ONE >> 4, 0x09, 0xff, 0x34, 0x25);
	EVALUATES_TO(MINUS_ONE, 0x09, 0xf8, 0x34, 0x26);
	EVALUATES_TO(6, 0x35, 0x33, 0x27);
	EVALUATES_TO(1, 0x35, 0x35, 0x29);
	EVALUATES_TO(1, 0x35, 0x09, 0xff, 0x2a);
	EVALUATES_TO(0, 0x35, 0x35, 0x2b);
	EVALUATES_TO(1, 0x35, 0x35, 0x2c);
	EVALUATES_TO(0, 0x35, 0x09, 0xff, 0x2d);
	EVALUATES_TO(1, 0x35, 0x36, 0x2e);
	EVALUATES_TO(0x2008, 0x77, 8);
	EVALUATES_TO(0x2ff8, 0x92, 6, 0x78);
	EVALUATES_TO(0x887766550002ff80, 0x76, 0x78, 0x06);
	EVALUATES_TO(0xff80, 0x76, 0x78, 0x94, 2);
	EVALUATES_TO(0x2010, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22);
}

static void branches_stay_inside(void **state)
{
	(void)state;
	EVALUATES_TO(2, 0x31, 0x28, 1, 0, 0x0f, 0x32); /* taken: over a stray byte */
	EVALUATES_TO(6, 0x30, 0x28, 1, 0, 0x36);
	EVALUATES_TO(3, 0x2f, 1, 0, 0x0f, 0x33);
	IS_NONSENSE(0x2f, 1, 0);
	IS_NONSENSE(0x2f, 0xfc, 0xff);
	IS_NONSENSE(0x2f, 0xfd, 0xff); /* for ever */
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	IS_NONSENSE(0x13, 0x22);
	IS_NONSENSE(0x13);
	IS_NONSENSE(0x30, 0x1b);
	IS_NONSENSE(0x30, 0x1d);
	IS_NONSENSE(0x15, 1);
	IS_NONSENSE(0x70, 0);       /* rax: lost */
	IS_NONSENSE(0x92, 0x20, 0); /* no such register */
	IS_NONSENSE(0x0c, 1, 2);
	IS_NONSENSE(0x0c, 0, 0, 0, 0x20, 0x06); /* cannot be read */
	IS_NONSENSE(0x77, 0, 0x94, 9);
	IS_NONSENSE(0x9c);
	IS_NONSENSE(0x12, 0x2f, 0xfc, 0xff); /* overflows */
}

/* ---- hostile bytes ---------------------------------------------------- */

static const uint8_t rich_program[] = {
	0x41, 0x0e, 16,   0x86, 2,    0x0a, 0x43, 0x0d, 6,    0x83, 3,    0x02, 4,
	0x0f, 3,    0x76, 0x78, 0x06, 0x10, 6,    2,    0x76, 0,    0x03, 8,    0,
	0x16, 3,    2,    0x77, 8,    0x0b, 0x04, 16,   0,    0,    0,    0xc6, 0x2e, 8,
};

/* Looks up and computes whatever the bytes ask for. */
static void exercise(uint8_t *section, size_t length, uint64_t pc)
{
	struct tm_cfi_machine machine = {.known = 0x1ffff, .load = load_word};
	uint64_t offset, result;
	unsigned int i;

	for (offset = 0; offset < 4 * STRIDE; offset += 37) {
		if (!find_in_copy(section, length, pc + offset))
			continue;
		tm_cfi_compile(&cfi, pc + offset);
		if (cfi.row.cfa_kind == TM_CFI_VAL_EXPRESSION)
			tm_cfi_evaluate(&cfi, &machine, (uint64_t)cfi.row.cfa_value, NULL, &result);
		for (i = 0; i < TM_DWARF_REGISTERS; i++)
			if (cfi.row.kind[i] >= TM_CFI_EXPRESSION)
				tm_cfi_evaluate(&cfi, &machine, (uint64_t)cfi.row.value[i], &offset,
						&result);
	}
}

static void make_rich(bool no_table)
{
	struct recipe recipe = {
		.fde = rich_program,
		.fde_size = sizeof(rich_program),
		.functions = 3,
		.no_table = no_table,
		.encoding = 0x1b,
		.augmentation = "zPLR",
		.augmentation_data = "\x1b\1\2\3\4\x1b\x1b",
		.augmentation_size = 7,
	};

	assert_true(find(&recipe, 5));
}

static void every_changed_byte_is_survived(void **state)
{
	unsigned int way, value;
	size_t at;

	(void)state;
	for (way = 0; way < 2; way++) {
		make_rich(way);
		for (at = 0; at < size; at++) {
			uint8_t kept = copy[at];

			for (value = 0; value < 256; value++) {
				copy[at] = (uint8_t)value;
				exercise(copy, size, base + 0x100000);
			}
			copy[at] = kept;
		}
	}
}

static void every_truncation_is_survived(void **state)
{
	unsigned int way;
	size_t length;

	(void)state;
	for (way = 0; way < 2; way++) {
		make_rich(way);
		for (length = 0; length <= size; length++) {
			uint8_t *part = malloc(length + !length);

			memcpy(part, copy, length);
			exercise(part, length, base + 0x100000);
			exercise(part, length, (uint64_t)part + 0x100000);
			free(part);
		}
	}
}

static void random_programs_are_survived(void **state)
{
	uint8_t program[64];
	struct recipe recipe = {.fde = program};
	unsigned int i, rounds = getenv("TM_TEST_FULL") && *getenv("TM_TEST_FULL") ? 5000000 : 50000;
	size_t at;

	(void)state;
	srandom(1);
	for (i = 0; i < rounds; i++) {
		recipe.fde_size = (size_t)random() % sizeof(program);
		for (at = 0; at < recipe.fde_size; at++)
			program[at] = (uint8_t)(random() % 3 ? random() % 0x30 : random());
		find(&recipe, 0);
		exercise(copy, size, base + 0x100000);
	}
}

static void a_section_outside_its_bounds_is_refused(void **state)
{
	struct tm_cfi_section section;

	(void)state;
	make_rich(false);
	section = cfi.section;
	section.hdr = section.low - 8;
	assert_false(tm_cfi_find(&cfi, &section, base + 0x100000));
	section.hdr = section.high;
	assert_false(tm_cfi_find(&cfi, &section, base + 0x100000));
	section.hdr = section.low;
	section.hdr_size = UINT64_MAX;
	assert_false(tm_cfi_find(&cfi, &section, base + 0x100000));
	section.hdr_size = 0;
	assert_false(tm_cfi_find(&cfi, &section, base + 0x100000));
}

static int forget_copy(void **state)
{
	(void)state;
	free(copy);
	copy = NULL;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_instructions_the_cie_s_rules_hold),
		cmocka_unit_test(rules_hold_from_their_location_on),
		cmocka_unit_test(locations_advance_in_all_widths),
		cmocka_unit_test(set_loc_moves_to_an_address),
		cmocka_unit_test(every_instruction_sets_its_rule),
		cmocka_unit_test(expressions_are_kept_by_address),
		cmocka_unit_test(restore_takes_back_what_the_cie_said),
		cmocka_unit_test(states_are_remembered_in_order),
		cmocka_unit_test(registers_out_of_range_do_no_harm),
		cmocka_unit_test(unknown_instructions_are_nonsense),
		cmocka_unit_test(the_right_function_is_found_among_many),
		cmocka_unit_test(pointers_are_read_in_all_encodings),
		cmocka_unit_test(augmentations_are_understood),
		cmocka_unit_test(versions_and_lengths_are_understood),
		cmocka_unit_test(usual_rows_become_steps),
		cmocka_unit_test(what_does_not_fit_is_left_to_the_full_walk),
		cmocka_unit_test(no_return_address_is_the_end),
		cmocka_unit_test(plt_stubs_become_steps_by_their_address),
		cmocka_unit_test(realigned_frames_become_rules),
		cmocka_unit_test(the_kernel_s_signal_frame_becomes_a_rule),
		cmocka_unit_test(operations_compute),
		cmocka_unit_test(branches_stay_inside),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(every_changed_byte_is_survived),
		cmocka_unit_test(every_truncation_is_survived),
		cmocka_unit_test(random_programs_are_survived),
		cmocka_unit_test(a_section_outside_its_bounds_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, forget_copy);
}
