/*
 * Every row of every FDE of large system binaries: our rows, and our compiled
 * rules, against what libdwarf says.
 *
 *     test_cfi_oracle [-limit FDES] [FILE …]
 *
 * Without files: libc, the loader, libstdc++, libcrypto, python3, its library and gdb.
 * Prints TAP, one line a file.
 *
 * links: helper/cfi.c helper/rule.c
 */
#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cfi.h"
#include "libdwarf_frames.h"

#define MAX_COMPLAINTS 10

static uint64_t fde_limit = UINT64_MAX;

struct counts {
	uint64_t fdes, rows, differences;
	uint64_t kinds[8]; /* compiled rules by kind */
};

/* A file laid out as the loader would, at bias. */
struct image {
	uint8_t *memory;
	uint64_t size, bias;
	struct tm_cfi_section section;
};

static bool load_image(int fd, struct image *image)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	uint64_t low = UINT64_MAX, high = 0;
	unsigned int pass, i;

	if (pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return false;
	memset(image, 0, sizeof(*image));
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < header.e_phnum; i++) {
			off_t at = (off_t)(header.e_phoff + i * sizeof(segment));

			if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
				return false;
			if (segment.p_type == PT_GNU_EH_FRAME) {
				image->section.hdr = image->bias + segment.p_vaddr;
				image->section.hdr_size = segment.p_memsz;
			}
			if (segment.p_type != PT_LOAD)
				continue;
			if (segment.p_vaddr < low)
				low = segment.p_vaddr;
			if (segment.p_vaddr + segment.p_memsz > high)
				high = segment.p_vaddr + segment.p_memsz;
			if (pass &&
			    pread(fd, image->memory + (segment.p_vaddr - low), segment.p_filesz,
				  (off_t)segment.p_offset) != (ssize_t)segment.p_filesz)
				return false;
		}
		if (pass)
			break;
		image->size = high - low;
		image->memory = mmap(NULL, image->size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (image->memory == MAP_FAILED)
			return false;
		image->bias = (uint64_t)image->memory - low;
	}
	image->section.low = (uint64_t)image->memory;
	image->section.high = image->section.low + image->size;
	return true;
}

static void unload_image(struct image *image)
{
	munmap(image->memory, image->size);
}

/* ---- libdwarf's row in our terms -------------------------------------- */

/* One rule, blocks by their bytes. */
struct expected {
	unsigned int kind;
	int64_t value;
	const uint8_t *block;
	uint64_t block_size;
};

static struct expected expect(const struct Dwarf_Regtable_Entry3_s *entry)
{
	struct expected result = {.value = rule_offset(entry)};

	if (entry->dw_value_type == DW_EXPR_EXPRESSION ||
	    entry->dw_value_type == DW_EXPR_VAL_EXPRESSION) {
		result.kind = entry->dw_value_type == DW_EXPR_EXPRESSION ? TM_CFI_EXPRESSION
									 : TM_CFI_VAL_EXPRESSION;
		result.block = rule_block(entry, &result.block_size);
	} else if (entry->dw_regnum == UNSPECIFIED) {
		result.kind = TM_CFI_UNSPECIFIED;
	} else if (entry->dw_regnum == DW_FRAME_SAME_VAL) {
		result.kind = TM_CFI_SAME;
	} else if (entry->dw_regnum == DW_FRAME_UNDEFINED_VAL) {
		result.kind = TM_CFI_UNDEFINED;
	} else if (entry->dw_value_type == DW_EXPR_VAL_OFFSET) {
		result.kind = TM_CFI_VAL_OFFSET;
	} else if (entry->dw_offset_relevant) {
		result.kind = TM_CFI_OFFSET;
	} else {
		result.kind = TM_CFI_REGISTER;
		result.value = entry->dw_regnum;
	}
	return result;
}

static bool same_block(const struct image *image, int64_t address, const struct expected *expected)
{
	struct tm_cfi_cursor cursor;
	struct tm_cfi cfi;

	cfi.section = image->section;
	tm_cfi_open_block(&cfi, (uint64_t)address, &cursor);
	return !cursor.bad && cursor.end - cursor.at == expected->block_size &&
	       memcmp((const void *)cursor.at, expected->block, expected->block_size) == 0;
}

static bool same_rule(const struct image *image, unsigned int kind, int64_t value,
		      const struct expected *expected)
{
	if (UNSPECIFIED == DW_FRAME_SAME_VAL && kind == TM_CFI_SAME)
		kind = TM_CFI_UNSPECIFIED;
	if (kind != expected->kind)
		return false;
	switch (kind) {
	case TM_CFI_UNSPECIFIED:
	case TM_CFI_SAME:
	case TM_CFI_UNDEFINED:
		return true;
	case TM_CFI_EXPRESSION:
	case TM_CFI_VAL_EXPRESSION:
		return same_block(image, value, expected);
	default:
		return value == expected->value;
	}
}

/* A row that every rule can hold: to call it special would only cost time. */
static bool is_usual(const struct Dwarf_Regtable_Entry3_s *cfa, const struct expected *rip,
		     const struct expected *rbp)
{
	return !expect(cfa).block &&
	       (cfa->dw_regnum == TM_DWARF_RSP || cfa->dw_regnum == TM_DWARF_RBP) &&
	       rip->kind == TM_CFI_OFFSET && rip->value == -8 &&
	       (rbp->kind == TM_CFI_OFFSET || rbp->kind == TM_CFI_UNSPECIFIED ||
		rbp->kind == TM_CFI_SAME);
}

/* What a compiled rule may claim, judged by libdwarf's row alone. */
static bool rule_holds(uint64_t rule, uint64_t pc, const Dwarf_Regtable3 *table)
{
	static const uint8_t plt[] = {0x77, 8, 0x80, 0, 0x3f, 0x1a};
	const struct Dwarf_Regtable_Entry3_s *cfa = &table->rt3_cfa_rule;
	struct expected rip = expect(&table->rt3_rules[TM_DWARF_RIP]);
	struct expected rbp = expect(&table->rt3_rules[TM_DWARF_RBP]);
	struct expected block = expect(cfa);
	uint64_t kind = rule & TM_RULE_KIND_MASK;

	if (kind == TM_RULE_FULL)
		return !is_usual(cfa, &rip, &rbp);
	if (kind == TM_RULE_END || rip.kind == TM_CFI_UNDEFINED)
		return kind == TM_RULE_END && rip.kind == TM_CFI_UNDEFINED;
	if (kind == TM_RULE_SIGNAL) /* rip at rsp + 168 */
		return rip.kind == TM_CFI_EXPRESSION && rip.block_size == 3 &&
		       memcmp(rip.block, "\x77\xa8\x01", 3) == 0;
	if (rip.kind != TM_CFI_OFFSET || rip.value != -8)
		return false;
	if (kind == TM_RULE_REALIGNED)
		return block.block_size >= 3 && block.block[0] == 0x76 &&
		       block.block[block.block_size - 1] == 0x06 && rbp.kind == TM_CFI_EXPRESSION &&
		       rbp.block_size == 2 && memcmp(rbp.block, "\x76\x00", 2) == 0;
	if (kind != TM_RULE_STEP)
		return false;
	if (rule & TM_RULE_RBP_SAVED) {
		if (rbp.kind != TM_CFI_OFFSET || rbp.value != tm_rule_rbp_offset(rule))
			return false;
	} else if (rbp.kind != TM_CFI_UNSPECIFIED && rbp.kind != TM_CFI_SAME) {
		return false;
	}
	if (block.block)
		return !(rule & TM_RULE_FROM_RBP) && block.block_size == 11 &&
		       memcmp(block.block, plt, sizeof(plt)) == 0 &&
		       tm_rule_cfa_offset(rule) == ((pc & 15) >= block.block[6] - 0x30u ? 16 : 8);
	return cfa->dw_regnum == (rule & TM_RULE_FROM_RBP ? TM_DWARF_RBP : TM_DWARF_RSP) &&
	       rule_offset(cfa) == tm_rule_cfa_offset(rule);
}

static const char *compare(const struct image *image, struct tm_cfi *cfi, uint64_t vaddr,
			   const Dwarf_Regtable3 *table, struct counts *counts)
{
	const struct Dwarf_Regtable_Entry3_s *cfa = &table->rt3_cfa_rule;
	struct expected expected = expect(cfa);
	static char text[80];
	unsigned int i;
	uint64_t rule;

	if (!tm_cfi_find(cfi, &image->section, image->bias + vaddr))
		return "no row";
	if (expected.block) { /* libdwarf has no word for what kind of expression a CFA is */
		if (cfi->row.cfa_kind != TM_CFI_VAL_EXPRESSION ||
		    !same_block(image, cfi->row.cfa_value, &expected))
			return "CFA expression";
	} else if (cfi->row.cfa_kind != TM_CFI_VAL_OFFSET ||
		   cfi->row.cfa_register != cfa->dw_regnum ||
		   cfi->row.cfa_value != rule_offset(cfa)) {
		return "CFA";
	}
	for (i = 0; i < TM_DWARF_REGISTERS; i++) {
		expected = expect(&table->rt3_rules[i]);
		if (!same_rule(image, cfi->row.kind[i], cfi->row.value[i], &expected)) {
			snprintf(text, sizeof(text), "register %u: %u, not %u", i, cfi->row.kind[i],
				 expected.kind);
			return text;
		}
	}
	rule = tm_cfi_compile(cfi, vaddr);
	counts->kinds[(rule & TM_RULE_KIND_MASK) >> 2]++;
	return rule_holds(rule, vaddr, table) ? NULL : "compiled rule";
}

static void check_fde(Dwarf_Fde fde, const char *name, const struct image *image,
		      struct tm_cfi *cfi, struct counts *counts)
{
	static struct Dwarf_Regtable_Entry3_s rules[DW_REG_TABLE_SIZE];
	Dwarf_Regtable3 table = {.rt3_reg_table_size = DW_REG_TABLE_SIZE, .rt3_rules = rules};
	Dwarf_Addr low, pc, next;
	Dwarf_Unsigned length;
	Dwarf_Bool more;

	counts->fdes++;
	if (!fde_range(fde, &low, &length))
		abort();
	for (pc = low; pc < low + length; pc = next) {
		const char *complaint;
		uint64_t last;
		bool by_address; /* a PLT: its rules differ inside the row */

		if (!row_at(fde, pc, &table, &more, &next)) {
			printf("# %s: libdwarf has no row at %#" PRIx64 "\n", name, (uint64_t)pc);
			counts->differences++;
			return;
		}
		if (!more || next <= pc || next > low + length)
			next = low + length;
		counts->rows++;
		/* The row's first and last byte; all the first bytes of a PLT. */
		by_address = table.rt3_cfa_rule.dw_value_type == DW_EXPR_VAL_EXPRESSION;
		last = by_address && next - pc > 64 ? pc + 64 : next - 1;
		complaint = compare(image, cfi, pc, &table, counts);
		for (; !complaint && last > pc; last = by_address ? last - 1 : pc)
			complaint = compare(image, cfi, last, &table, counts);
		if (complaint && counts->differences++ < MAX_COMPLAINTS)
			printf("# %s: %#" PRIx64 ": %s\n", name, (uint64_t)pc, complaint);
	}
}

/* False when the file cannot be compared at all. */
static bool check_file(const char *name, struct counts *counts)
{
	static struct tm_cfi cfi;
	struct image image;
	Dwarf_Debug debug;
	Dwarf_Cie *cies;
	Dwarf_Fde *fdes;
	Dwarf_Signed cie_count, fde_count, i;
	int fd = open(name, O_RDONLY);

	memset(counts, 0, sizeof(*counts));
	if (fd < 0 || !load_image(fd, &image))
		return false;
	if (!open_debug(fd, &debug))
		return false;
	dwarf_set_frame_rule_initial_value(debug, UNSPECIFIED);
	dwarf_set_frame_cfa_value(debug, DW_FRAME_CFA_COL3);
	dwarf_set_frame_same_value(debug, DW_FRAME_SAME_VAL);
	dwarf_set_frame_undefined_value(debug, DW_FRAME_UNDEFINED_VAL);
	if (dwarf_get_fde_list_eh(debug, &cies, &cie_count, &fdes, &fde_count, NULL) != DW_DLV_OK)
		return false;
	for (i = 0; i < fde_count && counts->fdes < fde_limit; i++)
		check_fde(fdes[i], name, &image, &cfi, counts);
	free_fdes(debug, cies, cie_count, fdes, fde_count);
	close_debug(debug);
	unload_image(&image);
	close(fd);
	return true;
}

/* The first file of that name, whatever version is in it; the pattern where there is none. */
static const char *installed(const char *pattern)
{
	static glob_t found;

	return glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathv[0] : pattern;
}

int main(int argc, char **argv)
{
	static char *const known[] = {
		"/lib/x86_64-linux-gnu/libc.so.6",
		"/lib64/ld-linux-x86-64.so.2",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
		"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/bin/python3",
		"/usr/lib/x86_64-linux-gnu/libpython3.*.so.1.0",
		"/usr/bin/gdb",
	};
	char *const *files = argv + 1;
	int count = argc - 1, failed = 0, i;

	if (count >= 2 && strcmp(files[0], "-limit") == 0) {
		fde_limit = strtoull(files[1], NULL, 0);
		files += 2;
		count -= 2;
	}
	if (count == 0) {
		files = known;
		count = sizeof(known) / sizeof(*known);
	}
	printf("1..%d\n", count);
	for (i = 0; i < count; i++) {
		const char *file = installed(files[i]);
		struct counts counts;
		bool read, good;

		if (access(file, R_OK) != 0) {
			printf("ok %d - %s # SKIP not installed\n", i + 1, file);
			continue;
		}
		read = check_file(file, &counts);
		good = read && counts.rows && !counts.differences;
		printf("%sok %d - %s: %" PRIu64 " FDEs, %" PRIu64 " rows, %" PRIu64
		       " differences\n",
		       good ? "" : "not ", i + 1, file, counts.fdes, counts.rows,
		       counts.differences);
		if (!read)
			printf("# cannot be read\n");
		printf("# rules: %" PRIu64 " step, %" PRIu64 " end, %" PRIu64 " signal, %" PRIu64
		       " realigned, %" PRIu64 " full\n",
		       counts.kinds[0], counts.kinds[1], counts.kinds[2], counts.kinds[3],
		       counts.kinds[4]);
		fflush(stdout);
		failed += !good;
	}
	return failed != 0;
}
