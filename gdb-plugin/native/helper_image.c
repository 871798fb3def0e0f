/*
 * The helper's shared object, as it is to be copied into a process: see
 * elf_file.h.  Checks that it is ours and that it can run anywhere.
 *
 * May use: libelf, tm_layout.h, error.h.  Must not use: Python, gdb; must not
 * trust any field of the file.
 */
#include "elf_file.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>

#include "tm_layout.h"

#define PAGE UINT64_C(4096)
#define MAX_IMAGE (UINT64_C(64) << 20)

/* A symbol while it is not yet decided which of those with its name counts. */
struct candidate {
	const char *name;
	uint64_t vaddr;
	uint64_t size;
	unsigned int rank; /* 2 global, 1 hidden, 0 static */
};

static unsigned int symbol_rank(const GElf_Sym *symbol)
{
	if (GELF_ST_BIND(symbol->st_info) != STB_LOCAL)
		return 2;
	return GELF_ST_VISIBILITY(symbol->st_other) != STV_DEFAULT;
}

static int compare_candidates(const void *left, const void *right)
{
	const struct candidate *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	if (order)
		return order;
	return (a->rank < b->rank) - (a->rank > b->rank);
}

/* Keeps one symbol of each name; static ones of the same name are ambiguous and dropped. */
static struct tm_error *keep_unique(struct candidate *candidates, size_t count,
				    struct tm_helper_image *ret)
{
	qsort(candidates, count, sizeof(*candidates), compare_candidates);
	ret->symbols = calloc(count ? count : 1, sizeof(*ret->symbols));
	if (!ret->symbols)
		return tm_error_no_memory();
	for (size_t i = 0; i < count;) {
		const struct candidate *best = &candidates[i];
		size_t next = i + 1;
		bool ambiguous = false;

		for (; next < count && !strcmp(candidates[next].name, best->name); next++)
			if (candidates[next].rank == best->rank &&
			    candidates[next].vaddr != best->vaddr)
				ambiguous = true;
		i = next;
		if (ambiguous)
			continue;
		ret->symbols[ret->symbol_count].name = strdup(best->name);
		if (!ret->symbols[ret->symbol_count].name)
			return tm_error_no_memory();
		ret->symbols[ret->symbol_count++].offset = best->vaddr;
	}
	return NULL;
}

static struct tm_error *read_symbol_table(const struct tm_elf *file, Elf_Scn *section,
					  uint32_t string_index, struct tm_helper_image *ret)
{
	Elf_Data *symbols = elf_getdata(section, NULL);
	Elf_Scn *string_section = elf_getscn(file->elf, string_index);
	Elf_Data *strings = string_section ? elf_getdata(string_section, NULL) : NULL;
	struct candidate *candidates;
	struct tm_error *error = NULL;
	size_t count, kept = 0;

	if (!symbols || !symbols->d_buf || !strings || !strings->d_buf)
		return tm_error_new(TM_ERROR_INPUT, "%s has a damaged symbol table", file->path);
	count = symbols->d_size / sizeof(Elf64_Sym);
	candidates = calloc(count ? count : 1, sizeof(*candidates));
	if (!candidates)
		return tm_error_no_memory();
	for (size_t i = 1; i < count && !error; i++) {
		unsigned int type;
		const char *name;
		GElf_Sym symbol;

		if (!gelf_getsym(symbols, (int)i, &symbol) || symbol.st_name >= strings->d_size ||
		    strnlen((const char *)strings->d_buf + symbol.st_name,
			    strings->d_size - symbol.st_name) == strings->d_size - symbol.st_name) {
			error = tm_error_new(TM_ERROR_INPUT, "%s has a damaged symbol table",
					     file->path);
			break;
		}
		name = (const char *)strings->d_buf + symbol.st_name;
		type = GELF_ST_TYPE(symbol.st_info);
		if (type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE)
			continue;
		if (!*name || symbol.st_shndx == SHN_ABS)
			continue;
		if (symbol.st_shndx == SHN_UNDEF)
			error = tm_error_new(TM_ERROR_INPUT, "%s is no tm helper: it needs %s",
					     file->path, name);
		else if (symbol.st_value > ret->size)
			error = tm_error_new(TM_ERROR_INPUT, "%s: symbol %s is outside the image",
					     file->path, name);
		candidates[kept++] = (struct candidate){
			.name = name,
			.vaddr = symbol.st_value,
			.size = symbol.st_size,
			.rank = symbol_rank(&symbol),
		};
	}
	if (!error)
		error = keep_unique(candidates, kept, ret);
	for (size_t i = 0; i < kept && !error; i++)
		if (!strcmp(candidates[i].name, "tm_header") && candidates[i].size &&
		    candidates[i].size < sizeof(struct tm_header))
			error = tm_error_new(TM_ERROR_INPUT,
					     "%s has another memory layout: build tm again",
					     file->path);
	free(candidates);
	return error;
}

static struct tm_error *read_sections(const struct tm_elf *file, struct tm_helper_image *ret)
{
	Elf_Scn *section = NULL, *table = NULL;
	uint32_t table_type = 0, strings = 0;
	size_t names;

	if (elf_getshdrstrndx(file->elf, &names) < 0)
		return tm_error_new(TM_ERROR_INPUT, "%s has no section headers", file->path);
	while ((section = elf_nextscn(file->elf, section))) {
		const char *name;
		GElf_Shdr header;

		if (!gelf_getshdr(section, &header))
			return tm_error_new(TM_ERROR_INPUT, "%s has a damaged section header",
					    file->path);
		name = elf_strptr(file->elf, names, header.sh_name);
		if (header.sh_type == SHT_RELA || header.sh_type == SHT_REL) {
			if (header.sh_flags & SHF_ALLOC && header.sh_entsize)
				ret->relocations += header.sh_size / header.sh_entsize;
		} else if (header.sh_type == SHT_RELR && header.sh_size) {
			ret->relocations += header.sh_size / 8;
		} else if (header.sh_type == SHT_SYMTAB ||
			   (header.sh_type == SHT_DYNSYM && table_type != SHT_SYMTAB)) {
			table = section;
			table_type = header.sh_type;
			strings = header.sh_link;
		} else if (name && !strcmp(name, ".eh_frame")) {
			if (header.sh_addr > ret->size ||
			    header.sh_size > ret->size - header.sh_addr)
				return tm_error_new(TM_ERROR_INPUT,
						    "%s: .eh_frame is outside the image",
						    file->path);
			ret->eh_frame = header.sh_addr;
			ret->eh_frame_size = header.sh_size;
		}
	}
	if (!table)
		return tm_error_new(TM_ERROR_INPUT, "%s is no tm helper: it has no symbols",
				    file->path);
	return read_symbol_table(file, table, strings, ret);
}

static struct tm_error *read_segments(const struct tm_elf *file, const struct tm_elf_info *info,
				      struct tm_helper_image *ret)
{
	ret->segments =
		calloc(info->segment_count ? info->segment_count : 1, sizeof(*ret->segments));
	if (!ret->segments)
		return tm_error_no_memory();
	for (size_t i = 0; i < info->segment_count; i++) {
		const struct tm_elf_segment *from = &info->segments[i];
		struct tm_helper_segment *to = &ret->segments[ret->segment_count];
		struct tm_error *error;

		if (from->type != PT_LOAD)
			continue;
		if (from->vaddr > MAX_IMAGE || from->memsz > MAX_IMAGE ||
		    from->filesz > from->memsz)
			return tm_error_new(TM_ERROR_INPUT, "%s has a damaged program header",
					    file->path);
		to->bytes = malloc(from->filesz ? from->filesz : 1);
		if (!to->bytes)
			return tm_error_no_memory();
		ret->segment_count++;
		to->offset = from->vaddr;
		to->memsz = from->memsz;
		to->flags = from->flags;
		to->size = from->filesz;
		if (from->vaddr + from->memsz > ret->size)
			ret->size = from->vaddr + from->memsz;
		error = tm_elf_read_at(file, from->offset, to->bytes, to->size);
		if (error)
			return error;
	}
	ret->size = (ret->size + PAGE - 1) & ~(PAGE - 1);
	return NULL;
}

static bool has_symbol(const struct tm_helper_image *image, const char *name)
{
	for (size_t i = 0; i < image->symbol_count; i++)
		if (!strcmp(image->symbols[i].name, name))
			return true;
	return false;
}

static struct tm_error *read_image(const struct tm_elf *file, const struct tm_elf_info *info,
				   struct tm_helper_image *ret)
{
	struct tm_error *error;

	if (info->type != ET_DYN || info->machine != EM_X86_64 || !info->is_64 || info->interp)
		return tm_error_new(TM_ERROR_INPUT,
				    "%s is no tm helper: not an x86-64 shared library", file->path);
	error = read_segments(file, info, ret);
	if (!error)
		error = read_sections(file, ret);
	if (error)
		return error;
	if (!has_symbol(ret, "tm_header"))
		return tm_error_new(TM_ERROR_INPUT, "%s is no tm helper: it has no tm_header",
				    file->path);
	memcpy(ret->build_id, info->build_id, info->build_id_size);
	ret->build_id_size = info->build_id_size;
	return NULL;
}

struct tm_error *tm_helper_image_read(const char *path, struct tm_helper_image *ret)
{
	struct tm_elf_info info;
	struct tm_elf file;
	struct tm_error *error;

	*ret = (struct tm_helper_image){0};
	error = tm_elf_read_info(path, &info);
	if (error)
		return error;
	error = tm_elf_open(path, &file);
	if (!error) {
		error = read_image(&file, &info, ret);
		tm_elf_close(&file);
	}
	tm_elf_info_deinit(&info);
	if (error)
		tm_helper_image_deinit(ret);
	return error;
}

void tm_helper_image_deinit(struct tm_helper_image *image)
{
	for (size_t i = 0; i < image->segment_count; i++)
		free(image->segments[i].bytes);
	for (size_t i = 0; i < image->symbol_count; i++)
		free(image->symbols[i].name);
	free(image->segments);
	free(image->symbols);
	*image = (struct tm_helper_image){0};
}
