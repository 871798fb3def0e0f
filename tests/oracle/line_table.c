/*
 * The places of addresses by libdwarf's reading of the line tables, for symbols_oracle.py.
 *
 *     line_table FILE <addresses, in hexadecimal, one a line
 *     line_table -labels FILE
 *
 * Prints FILE:LINE for each, or ? where no line table has the address.  Behind a tab follows
 * what FILE would be with the file register at 1, for rows where libdwarf has it at 0: it
 * begins the sequences of DWARF 5 there, against table 6.4 of the standard.  The row of an
 * address is the last one at or before it in the order of its sequence (DWARF 5, 6.2.5.1:
 * a row holds up to the next row's address); sequences at address 0 are of code that the
 * linker threw away.  The path is put together here by DWARF 5, 6.2.4.1, and DWARF 4,
 * 6.2.4, from the tables that libdwarf reads: its own dwarf_linesrc() takes directory 0 for
 * one that is relative to the directory of the compilation, which it is.  It also takes a row
 * at which an epilogue begins (as clang 19 marks them) for the end of a sequence.
 *
 * With -labels it prints NAME LABEL of each function to which the source gives another name
 * for the assembler (DW_AT_linkage_name that is not mangled).
 *
 * May use: libdwarf.  Must not use: what it is the judge of.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdwarf_frames.h"

struct row {
	uint64_t low, high;
	Dwarf_Line line;
	Dwarf_Line_Context table;
	unsigned int version;
};

static struct row *rows;
static size_t row_count, row_room;

static void add_row(struct row row)
{
	if (row.low >= row.high)
		return;
	if (row_count == row_room) {
		row_room = row_room ? 2 * row_room : 65536;
		rows = realloc(rows, row_room * sizeof(*rows));
		if (!rows)
			abort();
	}
	rows[row_count++] = row;
}

/* Whether a sequence ends with this row: it does not where an epilogue begins. */
static bool ends_sequence(Dwarf_Line line)
{
	Dwarf_Bool ends, prologue, epilogue;
	Dwarf_Unsigned isa, discriminator;

	if (dwarf_lineendsequence(line, &ends, NULL) != DW_DLV_OK ||
	    dwarf_prologue_end_etc(line, &prologue, &epilogue, &isa, &discriminator, NULL) !=
		    DW_DLV_OK)
		abort();
	return ends && !epilogue;
}

/* Adds the rows of one unit; sequence by sequence. */
static void add_unit(Dwarf_Die unit)
{
	Dwarf_Line_Context context;
	Dwarf_Unsigned version;
	Dwarf_Signed count;
	Dwarf_Line *lines;
	Dwarf_Small kind;
	Dwarf_Addr start = 0, address, next;
	bool begins = true;

	if (dwarf_srclines_b(unit, &version, &kind, &context, NULL) != DW_DLV_OK ||
	    dwarf_srclines_from_linecontext(context, &lines, &count, NULL) != DW_DLV_OK)
		return;
	for (Dwarf_Signed i = 0; i < count; i++) {
		bool ends = ends_sequence(lines[i]);

		if (dwarf_lineaddr(lines[i], &address, NULL) != DW_DLV_OK)
			abort();
		if (begins)
			start = address;
		begins = ends;
		if (ends || !start || i + 1 == count)
			continue;
		if (dwarf_lineaddr(lines[i + 1], &next, NULL) != DW_DLV_OK)
			abort();
		add_row((struct row){address, next, lines[i], context, (unsigned int)version});
	}
}

static int compare_rows(const void *left, const void *right)
{
	const struct row *a = left, *b = right;

	return (a->low > b->low) - (a->low < b->low);
}

static void print_path(const struct row *row, Dwarf_Unsigned file)
{
	const char *name, *directory = NULL, *compilation = NULL;
	Dwarf_Unsigned index, time, size;

	if (dwarf_srclines_files_data_b(row->table, (Dwarf_Signed)file, &name, &index, &time, &size,
					NULL, NULL) != DW_DLV_OK) {
		putchar('?');
		return;
	}
	dwarf_srclines_comp_dir(row->table, &compilation, NULL);
	if (index)
		dwarf_srclines_include_dir_data(row->table, (Dwarf_Signed)index, &directory, NULL);
	if (*name != '/') {
		if (compilation && (!directory || *directory != '/'))
			printf("%s/", compilation);
		if (directory)
			printf("%s/", directory);
	}
	printf("%s", name);
}

static void print_place(uint64_t address)
{
	size_t low = 0, high = row_count;
	Dwarf_Unsigned number, file;
	const struct row *row;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rows[middle].low <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || address >= rows[low - 1].high) {
		puts("?");
		return;
	}
	row = &rows[low - 1];
	if (dwarf_lineno(row->line, &number, NULL) != DW_DLV_OK ||
	    dwarf_line_srcfileno(row->line, &file, NULL) != DW_DLV_OK)
		abort();
	print_path(row, file);
	printf(":%" PRIu64, (uint64_t)number);
	if (row->version >= 5 && file == 0) {
		putchar('\t');
		print_path(row, 1);
	}
	putchar('\n');
}

static const char *string_of(Dwarf_Die die, Dwarf_Half attribute)
{
	char *text;

	return dwarf_die_text(die, attribute, &text, NULL) == DW_DLV_OK ? text : NULL;
}

/* The die, its siblings, and what is below them. */
static void print_labels(Dwarf_Debug debug, Dwarf_Die die)
{
	Dwarf_Die next;
	int more;

	do {
		const char *label = string_of(die, DW_AT_linkage_name);

		if (label && strncmp(label, "_Z", 2) != 0 && string_of(die, DW_AT_name))
			printf("%s %s\n", string_of(die, DW_AT_name), label);
		if (dwarf_child(die, &next, NULL) == DW_DLV_OK)
			print_labels(debug, next);
		more = dwarf_siblingof_b(debug, die, 1, &next, NULL);
		dwarf_dealloc_die(die);
		die = next;
	} while (more == DW_DLV_OK);
}

int main(int argc, char **argv)
{
	bool labels = argc == 3 && strcmp(argv[1], "-labels") == 0;
	int file = argc == 2 + labels ? open(argv[1 + labels], O_RDONLY) : -1;
	Dwarf_Debug debug;
	Dwarf_Die unit;
	uint64_t address;

	if (file < 0 || !open_debug(file, &debug))
		return 1;
	while (dwarf_next_cu_header_d(debug, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
				      NULL, NULL, NULL) == DW_DLV_OK)
		if (dwarf_siblingof_b(debug, NULL, 1, &unit, NULL) != DW_DLV_OK)
			continue;
		else if (labels)
			print_labels(debug, unit);
		else
			add_unit(unit);
	if (labels)
		return 0;
	qsort(rows, row_count, sizeof(*rows), compare_rows);
	while (scanf("%" SCNx64, &address) == 1)
		print_place(address);
	return 0;
}
