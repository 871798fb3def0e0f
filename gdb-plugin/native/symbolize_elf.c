/*
 * Functions by address from symbol tables: see symbolize_parts.h.
 *
 * May use: libelf.  Must not use: Python, gdb; must not trust any field of a
 * file.
 */
#include "symbolize_parts.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

static bool add_symbol(struct tm_object *object, size_t *capacity, struct tm_symbol symbol)
{
	if (object->symbol_count == *capacity) {
		size_t bigger = *capacity ? *capacity * 2 : 256;
		struct tm_symbol *symbols = realloc(object->symbols, bigger * sizeof(*symbols));

		if (!symbols)
			return false;
		object->symbols = symbols;
		*capacity = bigger;
	}
	object->symbols[object->symbol_count++] = symbol;
	return true;
}

/* Assemblers write functions without a size; their labels without one are no functions. */
static bool is_function(const GElf_Sym *symbol)
{
	unsigned int type = GELF_ST_TYPE(symbol->st_info);

	return (type == STT_FUNC || type == STT_GNU_IFUNC ||
		(type == STT_NOTYPE && symbol->st_size)) &&
	       symbol->st_shndx != SHN_UNDEF && symbol->st_shndx != SHN_ABS &&
	       symbol->st_shndx != SHN_COMMON;
}

/* Adds the tables of one type; bias is subtracted.  False when memory runs out. */
static bool read_tables(struct tm_object *object, size_t *capacity, const struct tm_elf *file,
			uint32_t type, uint64_t bias)
{
	Elf_Scn *section = NULL;

	while (file->elf && (section = elf_nextscn(file->elf, section))) {
		Elf_Data *symbols, *strings;
		Elf_Scn *string_section;
		GElf_Shdr header;
		GElf_Sym symbol;

		if (!gelf_getshdr(section, &header) || header.sh_type != type)
			continue;
		symbols = elf_getdata(section, NULL);
		string_section = elf_getscn(file->elf, header.sh_link);
		strings = string_section ? elf_getdata(string_section, NULL) : NULL;
		if (!symbols || !symbols->d_buf || !strings || !strings->d_buf)
			continue;
		tm_work_begin(object->work, TM_WORK_READING, object->path, symbols->d_size);
		for (int i = 1; gelf_getsym(symbols, i, &symbol); i++) {
			const char *name = (const char *)strings->d_buf + symbol.st_name;

			if (i % 4096 == 1 &&
			    !tm_work_at(object->work, (uint64_t)i * header.sh_entsize))
				return true;
			if (!is_function(&symbol) || symbol.st_name >= strings->d_size || !*name ||
			    !memchr(name, 0, strings->d_size - symbol.st_name))
				continue;
			if (!add_symbol(object, capacity,
					(struct tm_symbol){
						.vaddr = symbol.st_value - bias,
						.size = symbol.st_size,
						.name = name,
						.local = GELF_ST_BIND(symbol.st_info) == STB_LOCAL,
					}))
				return false;
		}
	}
	return true;
}

/* Of several names of one function: global, few leading underscores, short. */
static bool is_better(const struct tm_symbol *a, const struct tm_symbol *b)
{
	size_t a_underscores = strspn(a->name, "_"), b_underscores = strspn(b->name, "_");
	size_t a_length = strlen(a->name), b_length = strlen(b->name);

	if (a->local != b->local)
		return b->local;
	if (a_underscores != b_underscores)
		return a_underscores < b_underscores;
	if (a_length != b_length)
		return a_length < b_length;
	return strcmp(a->name, b->name) < 0;
}

static int compare_symbols(const void *left, const void *right)
{
	const struct tm_symbol *a = left, *b = right;

	if (a->vaddr != b->vaddr)
		return a->vaddr < b->vaddr ? -1 : 1;
	if (a->size != b->size)
		return a->size < b->size ? -1 : 1;
	return is_better(a, b) ? -1 : is_better(b, a);
}

/* Where the section that holds an address of the file's ends, or the address itself. */
static uint64_t section_end(const struct tm_elf *file, uint64_t vaddr)
{
	Elf_Scn *section = NULL;

	while (file->elf && (section = elf_nextscn(file->elf, section))) {
		GElf_Shdr header;

		if (gelf_getshdr(section, &header) && (header.sh_flags & SHF_ALLOC) &&
		    header.sh_addr <= vaddr && vaddr - header.sh_addr < header.sh_size)
			return header.sh_addr + header.sh_size;
	}
	return vaddr;
}

/* Functions without a size go on to the next function, or to the end of their section. */
static void size_functions(struct tm_object *object)
{
	for (size_t i = 0; i < object->symbol_count; i++) {
		struct tm_symbol *symbol = &object->symbols[i];
		uint64_t end;
		size_t next = i + 1;

		if (symbol->size)
			continue;
		while (next < object->symbol_count && symbol[next - i].vaddr == symbol->vaddr)
			next++;
		end = object->main.elf ? section_end(&object->main, symbol->vaddr)
				       : section_end(&object->debug, symbol->vaddr);
		if (next < object->symbol_count && symbol[next - i].vaddr < end)
			end = symbol[next - i].vaddr;
		symbol->size = end - symbol->vaddr;
	}
}

/* The procedure linkage tables (System V ABI, x86-64 supplement, 5.2), with the linker's names. */
static void read_plt(struct tm_object *object)
{
	static const char *const names[] = {".plt", ".plt.got", ".plt.sec", ".iplt"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		GElf_Shdr header;

		if (tm_elf_section(&object->main, names[i], &header) &&
		    !tm_ranges_add(&object->plt_ranges, header.sh_addr,
				   header.sh_addr + header.sh_size, (uint32_t)i))
			break;
	}
	tm_ranges_sort(&object->plt_ranges);
}

static void read_symbols(struct tm_object *object)
{
	size_t capacity = 0;
	bool complete;

	/* A file that was not stripped has all; else its debug file has, or what it has packed. */
	complete = read_tables(object, &capacity, &object->main, SHT_SYMTAB, 0);
	if (complete && !object->symbol_count)
		complete = read_tables(object, &capacity, &object->debug, SHT_SYMTAB,
				       object->debug_bias);
	if (complete && !object->symbol_count) {
		tm_object_open_mini(object);
		complete = read_tables(object, &capacity, &object->mini, SHT_SYMTAB, 0);
	}
	if (complete)
		complete = read_tables(object, &capacity, &object->main, SHT_DYNSYM, 0);
	if (object->symbol_count)
		qsort(object->symbols, object->symbol_count, sizeof(*object->symbols),
		      compare_symbols);
	size_functions(object);
	for (size_t i = 0; complete && i < object->symbol_count && i < TM_NO_INDEX; i++) {
		const struct tm_symbol *symbol = &object->symbols[i];

		if (i && symbol[-1].vaddr == symbol->vaddr && symbol[-1].size == symbol->size)
			continue;
		complete = tm_ranges_add(&object->symbol_ranges, symbol->vaddr,
					 symbol->vaddr + symbol->size, (uint32_t)i);
	}
	tm_ranges_sort(&object->symbol_ranges);
	read_plt(object);
}

bool tm_object_in_plt(struct tm_object *object, uint64_t vaddr)
{
	return tm_ranges_find(&object->plt_ranges, vaddr) != TM_NO_INDEX;
}

const struct tm_symbol *tm_object_symbol(struct tm_object *object, uint64_t vaddr)
{
	uint32_t index;

	if (!object->symbols_read)
		read_symbols(object);
	object->symbols_read = true;
	index = tm_ranges_find(&object->symbol_ranges, vaddr);
	return index == TM_NO_INDEX ? NULL : &object->symbols[index];
}

void tm_object_symbols_deinit(struct tm_object *object)
{
	free(object->symbols);
	tm_ranges_deinit(&object->symbol_ranges);
	tm_ranges_deinit(&object->plt_ranges);
	object->symbols = NULL;
	object->symbol_count = 0;
	object->symbols_read = false;
}
