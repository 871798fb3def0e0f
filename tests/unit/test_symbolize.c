/*
 * The symbolizer: how names and paths are made, what is found where ranges
 * overlap, modules that come and go, and files that lie.
 *
 * links: gdb-plugin/native/symbolize.c gdb-plugin/native/symbolize_dwarf.c
 * gdb-plugin/native/symbolize_elf.c gdb-plugin/native/symbolize_file.c
 * gdb-plugin/native/symbolize_names.c gdb-plugin/native/symbolize_ranges.c
 * gdb-plugin/native/symbolize_scopes.c gdb-plugin/native/symbolize_search.c
 * gdb-plugin/native/symbolize_fetch.c gdb-plugin/native/symbolize_functions.c
 * gdb-plugin/native/symbolize_mini.c gdb-plugin/native/symbolize_package.c
 * gdb-plugin/native/symbolize_texts.c gdb-plugin/native/symbolize_walk.c
 * gdb-plugin/native/elf_file.c gdb-plugin/native/error.c
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

#include <cmocka.h>

#include "symbolize_parts.h"

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))
#define BIAS UINT64_C(0x500000000000)
#define MODULE_END (BIAS + (UINT64_C(1) << 32))

/* ---- names ------------------------------------------------------------ */

static void test_function_names(void **state)
{
	static const char *const expected[][2] = {
		{"main", "main"},
		{"_start", "_start"},
		{"_ZN7SessionC1Ev", "Session::Session"},
		{"_ZN7SessionC4ERKS_", "Session::Session"},
		{"_ZNK7Session4nameEv", "Session::name"},
		{"_ZNO7Session4moveEv", "Session::move"},
		{"_Znwm", "operator new"},
		{"_ZdlPvm", "operator delete"},
		{"_ZN1AclEi", "A::operator()"},
		{"_ZN1AcvbEv", "A::operator bool"},
		{"_ZlsIiEvRSoT_", "operator<< <int>"},
		{"_ZN1AltERKS_", "A::operator<"},
		{"_ZN1AptEv", "A::operator->"},
		{"_Z1fIiEvT_", "f<int>"},
		{"_Z1fIPFivEEvT_", "f<int (*)()>"},
		{"_ZN12_GLOBAL__N_15Cache3getEv", "(anonymous namespace)::Cache::get"},
		{"_ZZ4mainENKUliE_clEi", "main::{lambda(int)#1}::operator()"},
		{"_ZZNK1A1fEvENKUliE_clEi", "A::f() const::{lambda(int)#1}::operator()"},
		{"_ZZNVK1A1fEvENKUliE_clEi", "A::f() const volatile::{lambda(int)#1}::operator()"},
		{"_ZZNKR1A1fEvENKUlT_E_clIiEEDaS1_",
		 "A::f() const &::{lambda(auto:1)#1}::operator()<int>"},
		{"_ZNSt6vectorIiSaIiEE9push_backERKi",
		 "std::vector<int, std::allocator<int> >::push_back"},
		{"_ZZNK1A1fEvENKUlvE_clEv", "A::f() const::{lambda()#1}::operator()"},
		{"_ZZNVKR1A1fEvENKUlvE_clEv", "A::f() const volatile &::{lambda()#1}::operator()"},
		{"_ZN1A1fEv.cold", "A::f"},
		{"work.cold", "work"},
		{"work.part.0", "work"},
		{"work.isra.0.cold", "work"},
		{"work.constprop.1.isra.0", "work"},
		{"work.cold.17", "work"},
		{"work.llvm.123456", "work"},
		{"work.colder", "work.colder"},
		{"table.12", "table.12"},
		{".cold", ".cold"},
		{"", ""},
		{"_ZN4core3mem4swap17h0123456789abcdefE", "core::mem::swap"},
		{"_Znotmangled", "_Znotmangled"},
		{"_Z", "_Z"},
	};
	struct tm_strings strings = {0};

	(void)state;
	for (size_t i = 0; i < LENGTH(expected); i++)
		assert_string_equal(tm_strings_keep_function(&strings, expected[i][0]),
				    expected[i][1]);
	tm_strings_deinit(&strings);
}

static void test_paths(void **state)
{
	static const char *const expected[][2] = {
		{"/a/b.c", "/a/b.c"},
		{"/a//b.c", "/a/b.c"},
		{"/a/./b.c", "/a/b.c"},
		{"/a/x/../b.c", "/a/b.c"},
		{"/a/x/y/../../b.c", "/a/b.c"},
		{"/../b.c", "/b.c"},
		{"./malloc/./malloc.c", "./malloc/malloc.c"},
		{"./build/../Objects/object.c", "./Objects/object.c"},
		{"../x/y.c", "../x/y.c"},
		{"../../y.c", "../../y.c"},
		{"a/../../y.c", "../y.c"},
		{"b.c", "b.c"},
		{"..b/c...d", "..b/c...d"},
		{"/", "/"},
	};
	struct tm_strings strings = {0};

	(void)state;
	for (size_t i = 0; i < LENGTH(expected); i++)
		assert_string_equal(tm_strings_keep_path(&strings, expected[i][0]), expected[i][1]);
	tm_strings_deinit(&strings);
}

static void test_strings_are_kept_once(void **state)
{
	struct tm_strings strings = {0};
	char text[16];
	const char *first;

	(void)state;
	first = tm_strings_keep(&strings, "name0");
	for (int i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "name%d", i);
		assert_string_equal(tm_strings_keep(&strings, text), text);
	}
	assert_ptr_equal(tm_strings_keep(&strings, "name0"), first);
	assert_int_equal(strings.count, 5000);
	tm_strings_deinit(&strings);
}

/* ---- ranges ----------------------------------------------------------- */

static void test_shortest_range_wins(void **state)
{
	struct tm_ranges ranges = {0};

	(void)state;
	assert_true(tm_ranges_add(&ranges, 100, 1000, 0));
	assert_true(tm_ranges_add(&ranges, 200, 300, 1));
	assert_true(tm_ranges_add(&ranges, 210, 220, 2));
	assert_true(tm_ranges_add(&ranges, 50, 50, 3)); /* empty */
	tm_ranges_sort(&ranges);
	assert_int_equal(tm_ranges_find(&ranges, 50), TM_NO_INDEX);
	assert_int_equal(tm_ranges_find(&ranges, 100), 0);
	assert_int_equal(tm_ranges_find(&ranges, 215), 2);
	assert_int_equal(tm_ranges_find(&ranges, 220), 1);
	assert_int_equal(tm_ranges_find(&ranges, 300), 0);
	assert_int_equal(tm_ranges_find(&ranges, 999), 0);
	assert_int_equal(tm_ranges_find(&ranges, 1000), TM_NO_INDEX);
	tm_ranges_deinit(&ranges);
}

/* ---- modules ---------------------------------------------------------- */

static struct tm_symbolizer *new_symbolizer(void)
{
	static const char *const directories[] = {"/usr/lib/debug"};
	struct tm_symbolizer *symbolizer;

	assert_null(tm_symbolizer_new(directories, LENGTH(directories), &symbolizer));
	return symbolizer;
}

static void add(struct tm_symbolizer *symbolizer, const char *path, uint64_t start, uint64_t end,
		uint64_t bias)
{
	const struct tm_module_description module = {
		.path = path,
		.start = start,
		.end = end,
		.bias = bias,
	};

	assert_null(tm_symbolizer_add_module(symbolizer, &module));
}

/* None at all for a stub. */
static const struct tm_frame_name *resolve_any(struct tm_symbolizer *symbolizer, uint64_t address,
					       size_t *count)
{
	const struct tm_frame_name *frames;

	assert_null(tm_symbolizer_resolve(symbolizer, address, &frames, count));
	for (size_t i = 0; i < *count; i++)
		assert_int_equal(frames[i].inlined, i + 1 < *count);
	return frames;
}

static const struct tm_frame_name *resolve(struct tm_symbolizer *symbolizer, uint64_t address,
					   size_t *count)
{
	const struct tm_frame_name *frames = resolve_any(symbolizer, address, count);

	assert_true(*count >= 1);
	return frames;
}

/* From the linker: where this program starts. */
extern const char __executable_start[];

static uint64_t own_bias(void)
{
	return (uintptr_t)__executable_start;
}

static inline __attribute__((always_inline)) uint64_t inlined_here(void)
{
	uint64_t address;

	__asm__ volatile("lea 0(%%rip), %0" : "=r"(address));
	return address - 1;
}

static __attribute__((noinline)) uint64_t not_inlined(uint32_t *line)
{
	*line = __LINE__ + 1;
	return inlined_here();
}

static void test_own_frames(void **state)
{
	struct tm_symbolizer *symbolizer = new_symbolizer();
	const struct tm_frame_name *frames;
	uint64_t bias = own_bias(), address;
	uint32_t line;
	size_t count;

	(void)state;
	add(symbolizer, "/proc/self/exe", bias, bias + 0x1000000, bias);
	address = not_inlined(&line);
	frames = resolve(symbolizer, address, &count);
	assert_int_equal(count, 2);
	assert_string_equal(frames[0].function, "inlined_here");
	assert_string_equal(frames[1].function, "not_inlined");
	assert_int_equal(frames[1].line, line);
	assert_true(frames[0].file[0] == '/');
	assert_non_null(strstr(frames[0].file, "test_symbolize.c"));
	assert_int_equal(frames[1].offset, address - (uintptr_t)not_inlined);
	assert_string_equal(frames[1].module, "/proc/self/exe");
	assert_ptr_equal(resolve(symbolizer, address, &count), frames);
	tm_symbolizer_free(symbolizer);
}

static void test_nothing_there(void **state)
{
	struct tm_symbolizer *symbolizer = new_symbolizer();
	const struct tm_frame_name *frames;
	size_t count;

	(void)state;
	frames = resolve(symbolizer, 0x1234, &count);
	assert_int_equal(count, 1);
	assert_null(frames->module);
	assert_null(frames->function);
	assert_int_equal(frames->offset, 0x1234);
	add(symbolizer, "/deleted/library.so", BIAS, BIAS + 0x1000, BIAS - 0x10);
	frames = resolve(symbolizer, BIAS + 5, &count);
	assert_string_equal(frames->module, "/deleted/library.so");
	assert_null(frames->function);
	assert_null(frames->file);
	assert_int_equal(frames->offset, 0x15);
	assert_null(resolve(symbolizer, BIAS + 0x1000, &count)->module);
	tm_symbolizer_clear(symbolizer);
	assert_null(resolve(symbolizer, BIAS + 5, &count)->module);
	tm_symbolizer_free(symbolizer);
}

static void test_modules_replace_others(void **state)
{
	struct tm_symbolizer *symbolizer = new_symbolizer();
	size_t count;

	(void)state;
	add(symbolizer, "/one", 0x10000, 0x20000, 0x10000);
	add(symbolizer, "/three", 0x30000, 0x40000, 0x30000);
	add(symbolizer, "/two", 0x20000, 0x30000, 0x20000);
	assert_string_equal(resolve(symbolizer, 0x1ffff, &count)->module, "/one");
	assert_string_equal(resolve(symbolizer, 0x20000, &count)->module, "/two");
	assert_string_equal(resolve(symbolizer, 0x30000, &count)->module, "/three");
	add(symbolizer, "/new", 0x1f000, 0x30001, 0);
	assert_string_equal(resolve(symbolizer, 0x20000, &count)->module, "/new");
	assert_null(resolve(symbolizer, 0x10000, &count)->module);
	assert_null(resolve(symbolizer, 0x38000, &count)->module);
	tm_symbolizer_free(symbolizer);
}

static void test_wrong_build_id(void **state)
{
	static const uint8_t id[20] = {1, 2, 3};
	const struct tm_module_description module = {
		.path = "/proc/self/exe",
		.start = BIAS,
		.end = MODULE_END,
		.bias = BIAS,
		.build_id = id,
		.build_id_size = sizeof(id),
	};
	struct tm_symbolizer *symbolizer = new_symbolizer();
	uint64_t address = (uintptr_t)test_wrong_build_id - own_bias();
	size_t count;

	(void)state;
	assert_null(tm_symbolizer_add_module(symbolizer, &module));
	assert_null(resolve(symbolizer, BIAS + address, &count)->function);
	add(symbolizer, "/proc/self/exe", BIAS, MODULE_END, BIAS);
	assert_string_equal(resolve(symbolizer, BIAS + address, &count)->function,
			    "test_wrong_build_id");
	tm_symbolizer_free(symbolizer);
}

static void test_module_without_bytes_is_refused(void **state)
{
	const struct tm_module_description module = {.path = "/a", .start = 16, .end = 16};
	struct tm_symbolizer *symbolizer = new_symbolizer();
	struct tm_error *error = tm_symbolizer_add_module(symbolizer, &module);

	(void)state;
	assert_non_null(error);
	assert_non_null(strstr(error->message, "ends before it starts"));
	tm_error_free(error);
	tm_symbolizer_free(symbolizer);
}

/* ---- files that lie --------------------------------------------------- */

static uint8_t *read_self(size_t *size)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	struct stat status;
	uint8_t *bytes;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &status), 0);
	*size = (size_t)status.st_size;
	bytes = malloc(*size);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, *size), *size);
	close(fd);
	return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

/* Damage may make any code a stub. */
static void resolve_many(const char *path, uint64_t around)
{
	struct tm_symbolizer *symbolizer = new_symbolizer();
	size_t count;

	add(symbolizer, path, BIAS, MODULE_END, BIAS);
	for (uint64_t i = 0; i < 400; i++)
		resolve_any(symbolizer, BIAS + around + i * 37, &count);
	tm_symbolizer_free(symbolizer);
}

static void test_damaged_files(void **state)
{
	char path[] = "/tmp/test_symbolize.XXXXXX";
	uint64_t random = 0x2545f4914f6cdd1du, around;
	size_t size;
	uint8_t *bytes = read_self(&size);

	(void)state;
	close(mkstemp(path));
	around = (uintptr_t)test_function_names - own_bias();
	for (unsigned int round = 0; round < 150; round++) {
		uint8_t saved[16][4];
		size_t places[16];

		for (size_t i = 0; i < LENGTH(places); i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			places[i] = 64 + random % (size - 68);
			memcpy(saved[i], bytes + places[i], 4);
			memcpy(bytes + places[i], &random, 4);
		}
		write_file(path, bytes, size);
		resolve_many(path, around);
		for (size_t i = LENGTH(places); i > 0; i--)
			memcpy(bytes + places[i - 1], saved[i - 1], 4);
	}
	for (size_t cut = size; cut > 64; cut = cut * 7 / 8) {
		write_file(path, bytes, cut);
		resolve_many(path, around);
	}
	unlink(path);
	free(bytes);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_function_names),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_strings_are_kept_once),
		cmocka_unit_test(test_shortest_range_wins),
		cmocka_unit_test(test_own_frames),
		cmocka_unit_test(test_nothing_there),
		cmocka_unit_test(test_modules_replace_others),
		cmocka_unit_test(test_wrong_build_id),
		cmocka_unit_test(test_module_without_bytes_is_refused),
		cmocka_unit_test(test_damaged_files),
	};

	return cmocka_run_group_tests_name("symbolize", tests, NULL, NULL);
}
