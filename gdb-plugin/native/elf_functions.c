/*
 * Functions of an ELF file by name: see elf_file.h.  Made to be quick: a symbol
 * table is walked once, and almost every symbol is dismissed by its kind or
 * by the first byte of its name.
 *
 * May use: libelf, error.h.  Must not use: Python, gdb; must not trust any
 * field of a file.
 */
#include "elf_file.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash_bytes(const char *bytes, size_t length)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (uint8_t)bytes[i]) * UINT64_C(0x100000001b3);
	return hash ^ (hash >> 32);
}

/* The slot of a name, or the empty slot where it belongs. */
static size_t names_slot(const struct tm_names *set, const char *name, size_t length)
{
	size_t slot = hash_bytes(name, length) & set->mask;

	while (set->names[slot] &&
	       (set->lengths[slot] != length || memcmp(set->names[slot], name, length) != 0))
		slot = (slot + 1) & set->mask;
	return slot;
}

struct tm_error *tm_names_init(struct tm_names *set, const char *const *names, size_t count)
{
	size_t slots = 16;

	*set = (struct tm_names){0};
	if (count > UINT32_MAX / 4)
		return tm_error_new(TM_ERROR_INPUT, "too many function names");
	while (slots < count * 2)
		slots *= 2;
	set->mask = slots - 1;
	set->names = calloc(slots, sizeof(*set->names));
	set->lengths = calloc(slots, sizeof(*set->lengths));
	set->indexes = calloc(slots, sizeof(*set->indexes));
	if (!set->names || !set->lengths || !set->indexes) {
		tm_names_deinit(set);
		return tm_error_no_memory();
	}
	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(names[i]);
		size_t slot;

		if (length == 0 || length > UINT32_MAX)
			continue;
		slot = names_slot(set, names[i], length);
		if (set->names[slot])
			continue;
		set->names[slot] = names[i];
		set->lengths[slot] = (uint32_t)length;
		set->indexes[slot] = (uint32_t)i;
		set->first[(uint8_t)names[i][0] >> 6] |= UINT64_C(1) << (names[i][0] & 63);
	}
	return NULL;
}

void tm_names_deinit(struct tm_names *set)
{
	free(set->names);
	free(set->lengths);
	free(set->indexes);
	*set = (struct tm_names){0};
}

static struct tm_error *add_function(struct tm_elf_functions *ret, struct tm_elf_function function)
{
	if (ret->count == ret->capacity) {
		size_t capacity = ret->capacity ? ret->capacity * 2 : 64;
		struct tm_elf_function *items = realloc(ret->items, capacity * sizeof(*items));

		if (!items)
			return tm_error_no_memory();
		ret->items = items;
		ret->capacity = capacity;
	}
	ret->items[ret->count++] = function;
	return NULL;
}

static bool is_function(const GElf_Sym *symbol)
{
	return GELF_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF &&
	       symbol->st_shndx != SHN_ABS && symbol->st_shndx != SHN_COMMON &&
	       symbol->st_value != 0;
}

static struct tm_error *find_in_table(const struct tm_elf *file, Elf_Scn *section,
				      const GElf_Shdr *header, const struct tm_names *set,
				      struct tm_elf_functions *ret)
{
	Elf_Data *symbols = elf_getdata(section, NULL);
	Elf_Scn *string_section = elf_getscn(file->elf, header->sh_link);
	Elf_Data *strings = string_section ? elf_getdata(string_section, NULL) : NULL;
	size_t entry = gelf_fsize(file->elf, ELF_T_SYM, 1, EV_CURRENT);
	size_t count;

	if (header->sh_type == SHT_NOBITS)
		return NULL;
	if (!symbols || !strings || !strings->d_buf || !symbols->d_buf || entry == 0)
		return tm_error_new(TM_ERROR_INPUT, "%s has a damaged symbol table", file->path);
	count = symbols->d_size / entry;
	for (size_t i = 0; i < count; i++) {
		struct tm_error *error;
		GElf_Sym symbol;
		const char *name;
		size_t available, length, slot;

		if (!gelf_getsym(symbols, (int)i, &symbol))
			return tm_error_new(TM_ERROR_INPUT, "%s has a damaged symbol table",
					    file->path);
		if (!is_function(&symbol) || symbol.st_name >= strings->d_size)
			continue;
		name = (const char *)strings->d_buf + symbol.st_name;
		if (!(set->first[(uint8_t)name[0] >> 6] >> (name[0] & 63) & 1))
			continue;
		available = strings->d_size - symbol.st_name;
		length = strnlen(name, available);
		if (length == available)
			continue;
		/* Static symbols carry their version in the name: memalign@@VERSION. */
		if (memchr(name + 1, '@', length - 1))
			length = (size_t)((const char *)memchr(name + 1, '@', length - 1) - name);
		slot = names_slot(set, name, length);
		if (!set->names[slot])
			continue;
		error = add_function(ret, (struct tm_elf_function){
						  .name = set->indexes[slot],
						  .dynamic = header->sh_type == SHT_DYNSYM,
						  .vaddr = symbol.st_value,
						  .size = symbol.st_size,
					  });
		if (error)
			return error;
	}
	return NULL;
}

static struct tm_error *find_functions(const struct tm_elf *file, const struct tm_names *set,
				       struct tm_elf_functions *ret)
{
	Elf_Scn *section = NULL;
	GElf_Ehdr header;

	if (!gelf_getehdr(file->elf, &header))
		return tm_error_new(TM_ERROR_INPUT, "%s has a damaged ELF header: %s", file->path,
				    elf_errmsg(-1));
	if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
		return tm_error_new(TM_ERROR_INPUT, "%s is neither a program nor a shared library",
				    file->path);
	/* libelf leaves out sections that a truncated file lost: say so instead. */
	if (header.e_shoff > file->file_size ||
	    (uint64_t)header.e_shnum * header.e_shentsize > file->file_size - header.e_shoff)
		return tm_error_new(TM_ERROR_INPUT, "%s is truncated", file->path);
	while ((section = elf_nextscn(file->elf, section))) {
		struct tm_error *error;
		GElf_Shdr table;

		if (!gelf_getshdr(section, &table))
			return tm_error_new(TM_ERROR_INPUT, "%s has a damaged section header: %s",
					    file->path, elf_errmsg(-1));
		if (table.sh_type != SHT_DYNSYM && table.sh_type != SHT_SYMTAB)
			continue;
		error = find_in_table(file, section, &table, set, ret);
		if (error)
			return error;
	}
	return NULL;
}

struct tm_error *tm_elf_find_functions(const char *path, const struct tm_names *set,
				       struct tm_elf_functions *ret)
{
	struct tm_elf file;
	struct tm_error *error;

	*ret = (struct tm_elf_functions){0};
	error = tm_elf_open(path, &file);
	if (error)
		return error;
	error = find_functions(&file, set, ret);
	tm_elf_close(&file);
	if (error)
		tm_elf_functions_deinit(ret);
	return error;
}

void tm_elf_functions_deinit(struct tm_elf_functions *functions)
{
	free(functions->items);
	*functions = (struct tm_elf_functions){0};
}
