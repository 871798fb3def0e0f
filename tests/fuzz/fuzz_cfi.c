/*
 * Call frame information, its expressions, and the rules made of both, from a section
 * of any bytes.  Starts from the sections of the unit tests.
 *
 * links: helper/cfi.c helper/rule.c helper/expression.c
 */
#include "fuzz.h"

#include "cfi_sections.h"

#define CODE_OFFSET 0x100000u /* from the section to the functions it is about */

static const uint8_t rich[] = {
	0x41, 0x0e, 16,   0x86, 2,    0x0a, 0x43, 0x0d, 6, 0x83, 3,    0x02, 4,    0x0f,
	3,    0x76, 0x78, 0x06, 0x10, 6,    2,    0x76, 0, 0x03, 8,    0,    0x16, 3,
	2,    0x77, 8,    0x0b, 0x04, 16,   0,    0,    0, 0xc6, 0x2e, 8,
};
static const uint8_t stubs[] = {
	0x0e, 16, 0x46, 0x0e, 24,   0x4a, 0x0f, 11,   0x77, 8,
	0x80, 0,  0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22,
};
static const uint8_t realigned[] = {
	0x44, 0x0c, 10, 0, 0x49, 0x10, 6, 2, 0x76, 0, 0x45, 0x0f, 3, 0x76, 0x78, 0x06,
};
static const uint8_t signal_frame[] = {
	0x0f, 4, 0x77, 0xa0, 1,    0x06, 0x10, 16, 3, 0x77, 0xa8, 1,
	0x10, 6, 3,    0x77, 0xf8, 0,    0x10, 3,  3, 0x77, 0x80, 1,
};

static const struct recipe recipes[] = {
	{.fde = rich,
	 .fde_size = sizeof(rich),
	 .functions = 3,
	 .encoding = 0x1b,
	 .augmentation = "zPLR",
	 .augmentation_data = "\x1b\1\2\3\4\x1b\x1b",
	 .augmentation_size = 7},
	{.fde = stubs, .fde_size = sizeof(stubs), .encoding = 0x1b, .no_table = true},
	{.fde = realigned,
	 .fde_size = sizeof(realigned),
	 .functions = 2,
	 .encoding = 0x1b,
	 .wide_table = true},
	{.fde = signal_frame,
	 .fde_size = sizeof(signal_frame),
	 .encoding = 0x1b,
	 .augmentation = "zRS",
	 .augmentation_data = "\x1b",
	 .augmentation_size = 1},
};

static bool load_word(void *context, uint64_t address, uint64_t *ret)
{
	(void)context;
	*ret = address * 16 + 0x8877665500000000;
	return address < 0x10000000;
}

static void evaluate(int64_t expression, const uint64_t *initial)
{
	const struct tm_cfi_machine machine = {.known = 0x1ffff, .load = load_word};
	uint64_t result;

	tm_cfi_evaluate(&cfi, &machine, (uint64_t)expression, initial, &result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	uint8_t *section = malloc(length ? length : 1);
	uint64_t offset, initial = 0x1000;

	memcpy(section, data, length);
	for (offset = 0; offset < 3 * STRIDE; offset += 41) {
		uint64_t pc = (uint64_t)section + CODE_OFFSET + offset, rule;

		if (!find_in_copy(section, length, pc))
			continue;
		FUZZ_REQUIRE(cfi.pc_start <= pc && pc < cfi.pc_end);
		rule = tm_cfi_compile(&cfi, pc);
		FUZZ_REQUIRE((rule & TM_RULE_KIND_MASK) <= TM_RULE_FULL);
		if (cfi.row.cfa_kind == TM_CFI_VAL_EXPRESSION)
			evaluate(cfi.row.cfa_value, NULL);
		for (unsigned int i = 0; i < TM_DWARF_REGISTERS; i++)
			if (cfi.row.kind[i] >= TM_CFI_EXPRESSION)
				evaluate(cfi.row.value[i], &initial);
	}
	free(section);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t length, size_t max_size, unsigned int seed)
{
	if (length > 16)
		return LLVMFuzzerMutate(data, length, max_size);
	/* Pointers are relative: the section is the same wherever it lies. */
	base = 0;
	make(&recipes[seed % (sizeof(recipes) / sizeof(*recipes))], CODE_OFFSET);
	if (size > max_size)
		return length;
	memcpy(data, bytes, size);
	return size;
}
