/*
 * Makes sections of call frame information byte by byte, for tests, and looks
 * rows up in a copy of exactly their size, where a sanitizer sees each read
 * outside.
 *
 * Include it in one file of a test program.
 */
#ifndef TM_TEST_CFI_SECTIONS_H
#define TM_TEST_CFI_SECTIONS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cfi.h"

#define PC 0x400000u  /* of the first function */
#define RANGE 0x100u  /* bytes of each function */
#define STRIDE 0x200u /* from one function to the next */

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
	const char *augmentation;      /* NULL: "zR" */
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
__attribute__((unused)) static bool find(const struct recipe *recipe, uint64_t offset)
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

__attribute__((unused)) static int forget_copy(void **state)
{
	(void)state;
	free(copy);
	copy = NULL;
	return 0;
}

#endif
