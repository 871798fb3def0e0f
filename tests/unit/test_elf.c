/*
 * Reading ELF files: functions by name, identity, the helper's image, and
 * files that lie.
 *
 * links: gdb-plugin/native/elf_file.c gdb-plugin/native/elf_functions.c
 * gdb-plugin/native/helper_image.c gdb-plugin/native/error.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <elf.h>

#include <cmocka.h>

#include "elf_file.h"
#include "tm_layout.h"

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))
#define LIBC "/lib/x86_64-linux-gnu/libc.so.6"
#define HELPER "build/tm-helper.so"

/* ---- functions to be found in this very program ----------------------- */

int here_global(int value);
int here_alias(int value);

__attribute__((noinline)) int here_global(int value)
{
	return value * 3 + 1;
}

__attribute__((alias("here_global"))) int here_alias(int value);

static __attribute__((noinline, used)) int here_static(int value)
{
	return value * 5 + 1;
}

__asm__(".globl here_versioned_1\n.type here_versioned_1, @function\nhere_versioned_1: ret\n"
	".size here_versioned_1, . - here_versioned_1\n"
	".type here_indirect, @gnu_indirect_function\n.globl here_indirect\n"
	"here_indirect: lea here_versioned_1(%rip), %rax\nret\n"
	".size here_indirect, . - here_indirect\n");

int here_data = 7;

/* ---- help ------------------------------------------------------------- */

static struct tm_elf_functions find(const char *path, const char *const *names, size_t count)
{
	struct tm_elf_functions functions;
	struct tm_names set;
	struct tm_error *error;

	assert_null(tm_names_init(&set, names, count));
	error = tm_elf_find_functions(path, &set, &functions);
	tm_names_deinit(&set);
	if (error)
		fail_msg("%s", error->message);
	return functions;
}

static size_t count_of(const struct tm_elf_functions *functions, uint32_t name)
{
	size_t count = 0;

	for (size_t i = 0; i < functions->count; i++)
		count += functions->items[i].name == name;
	return count;
}

static const struct tm_elf_function *first_of(const struct tm_elf_functions *functions,
					      uint32_t name)
{
	for (size_t i = 0; i < functions->count; i++)
		if (functions->items[i].name == name)
			return &functions->items[i];
	fail_msg("function %u was not found", name);
	return NULL;
}

static void must_fail(struct tm_error *error, const char *reason)
{
	assert_non_null(error);
	assert_int_equal(error->kind, TM_ERROR_INPUT);
	assert_null(strchr(error->message, '\n'));
	if (!strstr(error->message, reason))
		fail_msg("expected \"%s\", got \"%s\"", reason, error->message);
	tm_error_free(error);
}

/* All three readers on one file, whatever they say; frees what they give. */
static void read_everything(const char *path)
{
	static const char *const names[] = {"malloc", "free", "here_global", "tm_start", "main"};
	struct tm_elf_functions functions;
	struct tm_helper_image image;
	struct tm_elf_info info;
	struct tm_names set;
	struct tm_error *error;

	assert_null(tm_names_init(&set, names, LENGTH(names)));
	error = tm_elf_find_functions(path, &set, &functions);
	if (!error)
		tm_elf_functions_deinit(&functions);
	tm_error_free(error);
	tm_names_deinit(&set);
	error = tm_elf_read_info(path, &info);
	if (!error)
		tm_elf_info_deinit(&info);
	tm_error_free(error);
	error = tm_helper_image_read(path, &image);
	if (!error)
		tm_helper_image_deinit(&image);
	tm_error_free(error);
}

/* ---- functions -------------------------------------------------------- */

static void test_functions_of_this_program(void **state)
{
	static const char *const names[] = {"here_global",      "here_alias",    "here_static",
					    "here_versioned_1", "here_indirect", "here_data",
					    "here_missing",     "ftruncate",     ""};
	struct tm_elf_functions functions = find("/proc/self/exe", names, LENGTH(names));
	const struct tm_elf_function *global = first_of(&functions, 0);

	(void)state;
	assert_int_equal(global->vaddr, first_of(&functions, 1)->vaddr);
	assert_true(global->size > 0);
	assert_int_equal((uintptr_t)here_global - (uintptr_t)here_static,
			 global->vaddr - first_of(&functions, 2)->vaddr);
	assert_int_equal(first_of(&functions, 3)->size, 1);
	assert_int_equal(count_of(&functions, 4), 0); /* indirect */
	assert_int_equal(count_of(&functions, 5), 0); /* data */
	assert_int_equal(count_of(&functions, 6), 0);
	assert_int_equal(count_of(&functions, 7), 0); /* not defined here */
	tm_elf_functions_deinit(&functions);
}

static void test_functions_of_libc(void **state)
{
	static const char *const names[] = {"malloc", "free", "memcpy", "fmemopen", "malloc"};
	struct tm_elf_functions functions = find(LIBC, names, LENGTH(names));

	(void)state;
	assert_true(count_of(&functions, 0) >= 1);
	assert_true(first_of(&functions, 0)->dynamic);
	assert_true(first_of(&functions, 1)->size > 16);
	assert_int_equal(count_of(&functions, 3), 2); /* both versions */
	for (size_t i = 0; i < functions.count; i++)
		assert_int_not_equal(functions.items[i].name, 4); /* named twice, found once */
	tm_elf_functions_deinit(&functions);
}

static void test_many_names(void **state)
{
	static char texts[3000][16];
	static const char *names[3000];
	struct tm_elf_functions functions;

	(void)state;
	for (size_t i = 0; i < LENGTH(names); i++) {
		snprintf(texts[i], sizeof(texts[i]), "name%zu", i);
		names[i] = texts[i];
	}
	names[2999] = "malloc";
	functions = find(LIBC, names, LENGTH(names));
	assert_true(functions.count >= 1);
	assert_int_equal(count_of(&functions, 2999), functions.count);
	tm_elf_functions_deinit(&functions);
}

/* ---- identity --------------------------------------------------------- */

static void test_info_of_libc(void **state)
{
	struct tm_elf_info info;
	bool executable = false;

	(void)state;
	assert_null(tm_elf_read_info(LIBC, &info));
	assert_int_equal(info.machine, EM_X86_64);
	assert_int_equal(info.type, ET_DYN);
	assert_true(info.is_64);
	assert_string_equal(info.soname, "libc.so.6");
	assert_string_equal(info.interp, "/lib64/ld-linux-x86-64.so.2");
	assert_int_equal(info.build_id_size, 20);
	for (size_t i = 0; i < info.segment_count; i++)
		executable |= info.segments[i].type == PT_LOAD && (info.segments[i].flags & PF_X);
	assert_true(executable);
	tm_elf_info_deinit(&info);
}

static void test_build_id_among_notes(void **state)
{
	static const uint32_t notes[] = {4,          4,          1,
					 0x00554e47, 0, /* another GNU note */
					 4,          6,          NT_GNU_BUILD_ID,
					 0x00554e47, 0x44332211, 0x00006655};
	uint8_t id[TM_BUILD_ID_MAX];
	size_t size = 0;

	(void)state;
	tm_elf_find_build_id(notes, sizeof(notes), 4, id, &size);
	assert_int_equal(size, 6);
	assert_memory_equal(id, "\x11\x22\x33\x44\x55\x66", 6);
	for (size_t cut = 0; cut < sizeof(notes) - 2; cut++) {
		size = 0;
		tm_elf_find_build_id(notes, cut, 4, id, &size);
		assert_int_equal(size, 0);
	}
}

/* ---- the helper ------------------------------------------------------- */

static uint64_t symbol_offset(const struct tm_helper_image *image, const char *name)
{
	for (size_t i = 0; i < image->symbol_count; i++)
		if (!strcmp(image->symbols[i].name, name))
			return image->symbols[i].offset;
	fail_msg("the helper has no %s", name);
	return 0;
}

static void test_helper(void **state)
{
	struct tm_helper_image image;
	struct tm_error *error;

	(void)state;
	assert_int_equal(access(HELPER, R_OK), 0); /* make build-tests makes it */
	error = tm_helper_image_read(HELPER, &image);
	if (error)
		fail_msg("%s", error->message);
	assert_int_equal(image.relocations, 0);
	assert_int_equal(image.size % 4096, 0);
	assert_true(image.eh_frame_size > 0);
	assert_true(image.build_id_size > 0);
	assert_true(symbol_offset(&image, "tm_header") + sizeof(struct tm_header) <= image.size);
	for (size_t i = 0; i < image.segment_count; i++) {
		assert_true(image.segments[i].size <= image.segments[i].memsz);
		assert_true(image.segments[i].offset + image.segments[i].memsz <= image.size);
	}
	for (size_t i = 1; i < image.symbol_count; i++)
		assert_true(strcmp(image.symbols[i - 1].name, image.symbols[i].name) < 0);
	tm_helper_image_deinit(&image);
}

static void test_not_the_helper(void **state)
{
	struct tm_helper_image image;

	(void)state;
	must_fail(tm_helper_image_read(LIBC, &image), "is no tm helper");
	must_fail(tm_helper_image_read("/proc/self/exe", &image), "is no tm helper");
}

/* ---- files that are not what they should be --------------------------- */

static void test_unusable_files(void **state)
{
	char folder[] = "/tmp/test_elf.XXXXXX", fifo[64], text[64];
	struct tm_elf_info info;
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
	snprintf(text, sizeof(text), "%s/a\nb", folder);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	file = fopen(text, "w");
	assert_non_null(file);
	fputs("not an object file", file);
	fclose(file);
	must_fail(tm_elf_read_info("/nonexistent", &info), "cannot open /nonexistent: No such");
	must_fail(tm_elf_read_info("/tmp", &info), "is not a regular file");
	must_fail(tm_elf_read_info(fifo, &info), "is not a regular file");
	must_fail(tm_elf_read_info("/dev/zero", &info), "is not a regular file");
	must_fail(tm_elf_read_info(text, &info), "is not an ELF file");
	unlink(text);
	unlink(fifo);
	rmdir(folder);
}

static void test_object_file_has_no_addresses(void **state)
{
	static const Elf64_Ehdr header = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_REL,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_ehsize = sizeof(Elf64_Ehdr),
	};
	static const char *const names[] = {"malloc"};
	char path[] = "/tmp/test_elf.XXXXXX";
	struct tm_elf_functions functions;
	struct tm_names set;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, &header, sizeof(header)), sizeof(header));
	close(fd);
	assert_null(tm_names_init(&set, names, 1));
	must_fail(tm_elf_find_functions(path, &set, &functions), "neither a program nor");
	tm_names_deinit(&set);
	unlink(path);
}

struct copy {
	char path[32];
	int fd;
	uint8_t *bytes;
	size_t size;
};

static void copy_init(struct copy *copy, const char *from)
{
	struct stat status;
	int fd = open(from, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	copy->size = (size_t)status.st_size;
	copy->bytes = malloc(copy->size);
	assert_non_null(copy->bytes);
	assert_int_equal(pread(fd, copy->bytes, copy->size, 0), copy->size);
	close(fd);
	strcpy(copy->path, "/tmp/test_elf.XXXXXX");
	copy->fd = mkstemp(copy->path);
	assert_true(copy->fd >= 0);
	assert_int_equal(pwrite(copy->fd, copy->bytes, copy->size, 0), copy->size);
}

static void copy_deinit(struct copy *copy)
{
	close(copy->fd);
	unlink(copy->path);
	free(copy->bytes);
}

static const char *victim(void)
{
	return access(HELPER, R_OK) < 0 ? "/proc/self/exe" : HELPER;
}

static void test_truncated_files(void **state)
{
	struct copy copy;

	(void)state;
	copy_init(&copy, victim());
	for (size_t size = copy.size; size > 0; size = size > 2048 ? size * 15 / 16 : size - 1) {
		assert_int_equal(ftruncate(copy.fd, (off_t)size), 0);
		read_everything(copy.path);
	}
	copy_deinit(&copy);
}

/* The headers of the file, of its segments and of its sections, each byte changed. */
static void test_damaged_headers(void **state)
{
	static const uint8_t changes[] = {0xff, 0x80, 0x01};
	Elf64_Ehdr header;
	struct copy copy;
	size_t rounds = 0;

	(void)state;
	copy_init(&copy, victim());
	memcpy(&header, copy.bytes, sizeof(header));
	for (size_t at = 4; at < copy.size; at++) {
		if (at == sizeof(header) + (size_t)header.e_phnum * sizeof(Elf64_Phdr))
			at = header.e_shoff;
		for (size_t i = 0; i < LENGTH(changes); i++) {
			uint8_t changed = copy.bytes[at] ^ changes[i];

			assert_int_equal(pwrite(copy.fd, &changed, 1, (off_t)at), 1);
			read_everything(copy.path);
			rounds++;
		}
		assert_int_equal(pwrite(copy.fd, &copy.bytes[at], 1, (off_t)at), 1);
	}
	assert_true(rounds > 1000);
	copy_deinit(&copy);
}

static void test_damaged_anywhere(void **state)
{
	uint64_t random = 0x9e3779b97f4a7c15u;
	struct copy copy;

	(void)state;
	copy_init(&copy, victim());
	for (size_t round = 0; round < 3000; round++) {
		uint8_t bytes[8];
		size_t at;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		at = random % (copy.size - sizeof(bytes));
		memcpy(bytes, &random, sizeof(bytes));
		assert_int_equal(pwrite(copy.fd, bytes, sizeof(bytes), (off_t)at), 8);
		read_everything(copy.path);
		assert_int_equal(pwrite(copy.fd, copy.bytes + at, sizeof(bytes), (off_t)at), 8);
	}
	copy_deinit(&copy);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_functions_of_this_program),
		cmocka_unit_test(test_functions_of_libc),
		cmocka_unit_test(test_many_names),
		cmocka_unit_test(test_info_of_libc),
		cmocka_unit_test(test_build_id_among_notes),
		cmocka_unit_test(test_helper),
		cmocka_unit_test(test_not_the_helper),
		cmocka_unit_test(test_unusable_files),
		cmocka_unit_test(test_object_file_has_no_addresses),
		cmocka_unit_test(test_truncated_files),
		cmocka_unit_test(test_damaged_headers),
		cmocka_unit_test(test_damaged_anywhere),
	};

	return cmocka_run_group_tests_name("elf", tests, NULL, NULL);
}
