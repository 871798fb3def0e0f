/*
 * Call frame information made to do harm: changed, cut off, random.  To be
 * run under a sanitizer as well.
 *
 * links: helper/cfi.c helper/rule.c helper/expression.c
 */
#include "cfi_sections.h"

static bool load_word(void *context, uint64_t address, uint64_t *ret)
{
	(void)context;
	*ret = address * 16 + 0x8877665500000000;
	return address < 0x10000000;
}

static const uint8_t rich_program[] = {
	0x41, 0x0e, 16,   0x86, 2,    0x0a, 0x43, 0x0d, 6, 0x83, 3,    0x02, 4,    0x0f,
	3,    0x76, 0x78, 0x06, 0x10, 6,    2,    0x76, 0, 0x03, 8,    0,    0x16, 3,
	2,    0x77, 8,    0x0b, 0x04, 16,   0,    0,    0, 0xc6, 0x2e, 8,
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
	unsigned int i,
		rounds = getenv("TM_TEST_FULL") && *getenv("TM_TEST_FULL") ? 5000000 : 50000;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_changed_byte_is_survived),
		cmocka_unit_test(every_truncation_is_survived),
		cmocka_unit_test(random_programs_are_survived),
		cmocka_unit_test(a_section_outside_its_bounds_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, forget_copy);
}
