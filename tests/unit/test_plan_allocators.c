/*
 * The patch planner on real allocators: every function that allocates or frees,
 * in every allocator of the system, can be patched.
 *
 * links: gdb-plugin/native/plan.c gdb-plugin/native/elf_file.c
 * gdb-plugin/native/error.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gelf.h>

#include <cmocka.h>

#include "elf_file.h"
#include "plan.h"

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))
#define CODE_BYTES 8192u

struct library {
	const char *path;
	size_t least; /* functions that must be found, so that the test cannot pass on nothing */
};

static const struct library libraries[] = {
	{"/lib/x86_64-linux-gnu/libc.so.6", 10},
	{"/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 20},
	{"/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", 20},
	{"/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4", 20},
	{"/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", 20},
	{"/usr/lib/x86_64-linux-gnu/libtcmalloc_debug.so.4", 20},
	{"/usr/lib/x86_64-linux-gnu/libmimalloc.so.2", 100},
	{"/usr/lib/x86_64-linux-musl/libc.so", 9},
};

static bool is_allocator_name(const char *name)
{
	static const char *const names[] = {
		"malloc",          "free",
		"calloc",          "realloc",
		"reallocarray",    "posix_memalign",
		"aligned_alloc",   "memalign",
		"valloc",          "pvalloc",
		"cfree",           "malloc_usable_size",
		"free_sized",      "free_aligned_sized",
		"mallocx",         "rallocx",
		"xallocx",         "sallocx",
		"dallocx",         "sdallocx",
		"nallocx",         "__libc_malloc",
		"__libc_free",     "__libc_calloc",
		"__libc_realloc",  "__libc_memalign",
		"__libc_valloc",   "__libc_pvalloc",
		"_dl_debug_state",
	};
	static const char *const prefixes[] = {"_Znw", "_Zna", "_Zdl", "_Zda", "tc_", "mi_"};

	for (size_t i = 0; i < LENGTH(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	for (size_t i = 0; i < LENGTH(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

/* Reads code from an address on, as far as its segment has it. */
static size_t read_code(const struct tm_elf *file, const struct tm_elf_info *info, uint64_t vaddr,
			uint8_t *ret, size_t size)
{
	for (size_t i = 0; i < info->segment_count; i++) {
		const struct tm_elf_segment *segment = &info->segments[i];
		uint64_t into = vaddr - segment->vaddr;

		if (segment->type != PT_LOAD || vaddr < segment->vaddr || into >= segment->filesz)
			continue;
		if (size > segment->filesz - into)
			size = segment->filesz - into;
		assert_null(tm_elf_read_at(file, segment->offset + into, ret, size));
		return size;
	}
	return 0;
}

struct counts {
	size_t found, adjusted;
};

static void plan_symbol(const struct tm_elf *file, const struct tm_elf_info *info,
			const GElf_Sym *symbol, const char *name, struct counts *counts)
{
	static uint8_t code[CODE_BYTES];
	const uint64_t bias = UINT64_C(0x7f0000000000);
	struct tm_plan_request request = {
		.code = code,
		.code_size = symbol->st_size > 64 ? symbol->st_size : 64,
		.function = bias + symbol->st_value,
		.size = symbol->st_size,
		.original_at = bias - 4096,
		.relay_at = bias - 2048,
	};
	struct tm_plan plan;
	struct tm_error *error;

	if (request.code_size > sizeof(code))
		request.code_size = sizeof(code);
	request.code_size = read_code(file, info, symbol->st_value, code, request.code_size);
	assert_true(request.code_size >= TM_JUMP_BYTES);
	error = tm_plan_patch(&request, &plan);
	if (error)
		fail_msg("%s: %s: %s", file->path, name, error->message);
	assert_in_range(plan.offset + plan.length, TM_JUMP_BYTES, 4 + TM_PATCH_BYTES);
	counts->found++;
	counts->adjusted += memcmp(plan.relocated, code + plan.offset, plan.length) != 0;
}

static void plan_table(const struct tm_elf *file, const struct tm_elf_info *info, Elf_Scn *section,
		       const GElf_Shdr *header, struct counts *counts)
{
	Elf_Data *symbols = elf_getdata(section, NULL);
	GElf_Sym symbol;

	assert_non_null(symbols);
	for (int i = 1; gelf_getsym(symbols, i, &symbol); i++) {
		const char *name = elf_strptr(file->elf, header->sh_link, symbol.st_name);

		if (name && GELF_ST_TYPE(symbol.st_info) == STT_FUNC &&
		    symbol.st_shndx != SHN_UNDEF && is_allocator_name(name))
			plan_symbol(file, info, &symbol, name, counts);
	}
}

static void test_library(void **state)
{
	const struct library *library = *state;
	struct counts counts = {0};
	struct tm_elf_info info;
	struct tm_elf file;
	Elf_Scn *section = NULL;

	if (access(library->path, R_OK) < 0) {
		print_message("%s is not installed\n", library->path);
		skip();
	}
	assert_null(tm_elf_read_info(library->path, &info));
	assert_null(tm_elf_open(library->path, &file));
	while ((section = elf_nextscn(file.elf, section))) {
		GElf_Shdr header;

		assert_non_null(gelf_getshdr(section, &header));
		if (header.sh_type == SHT_DYNSYM)
			plan_table(&file, &info, section, &header, &counts);
	}
	print_message("%s: %zu functions, %zu of them with something to adjust\n", library->path,
		      counts.found, counts.adjusted);
	assert_true(counts.found >= library->least);
	tm_elf_close(&file);
	tm_elf_info_deinit(&info);
}

int main(void)
{
	struct CMUnitTest tests[LENGTH(libraries)];

	for (size_t i = 0; i < LENGTH(libraries); i++)
		tests[i] = (struct CMUnitTest){
			.name = libraries[i].path,
			.test_func = test_library,
			.initial_state = (void *)(uintptr_t)&libraries[i],
		};
	return _cmocka_run_group_tests("plan_allocators", tests, LENGTH(tests), NULL, NULL);
}
