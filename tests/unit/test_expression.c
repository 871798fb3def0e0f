/*
 * DWARF expressions: what each operation computes, and what is refused.
 *
 * links: helper/cfi.c helper/expression.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cfi.h"

static struct tm_cfi cfi;

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

#define EVALUATES_TO(value, ...)                                                \
	do {                                                                    \
		const uint8_t expression[] = {__VA_ARGS__};                     \
		uint64_t result = 0;                                            \
		assert_true(evaluate(expression, sizeof(expression), &result)); \
		assert_int_equal(result, value);                                \
	} while (0)

#define IS_NONSENSE(...)                                                         \
	do {                                                                     \
		const uint8_t expression[] = {__VA_ARGS__};                      \
		uint64_t result;                                                 \
		assert_false(evaluate(expression, sizeof(expression), &result)); \
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operations_compute),
		cmocka_unit_test(branches_stay_inside),
		cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
