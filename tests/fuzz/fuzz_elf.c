/*
 * The ELF reader: facts of a file, and functions by name.
 *
 * links: gdb-plugin/native/elf_file.c gdb-plugin/native/elf_functions.c
 * gdb-plugin/native/error.c
 */
#include "elf_file.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"malloc", "free", "main", "twice", "_Znwm"};
	const char *path = fuzz_file(data, size);
	struct tm_elf_functions functions;
	struct tm_elf_info info;
	struct tm_names set;

	if (!fuzz_failed(tm_elf_read_info(path, &info))) {
		FUZZ_REQUIRE(info.build_id_size <= TM_BUILD_ID_MAX);
		tm_elf_info_deinit(&info);
	}
	FUZZ_REQUIRE(!tm_names_init(&set, names, sizeof(names) / sizeof(*names)));
	if (!fuzz_failed(tm_elf_find_functions(path, &set, &functions))) {
		for (size_t i = 0; i < functions.count; i++)
			FUZZ_REQUIRE(functions.items[i].name < sizeof(names) / sizeof(*names));
		tm_elf_functions_deinit(&functions);
	}
	tm_names_deinit(&set);
	return 0;
}
