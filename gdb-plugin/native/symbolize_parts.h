/*
 * What the files of the symbolizer share: strings, address ranges, and the
 * layers object file -> compilation unit -> function -> inlined call.
 *
 * May use: libdw, libelf, elf_file.h, error.h.  Must not use: Python, gdb.
 */
#ifndef TM_SYMBOLIZE_PARTS_H
#define TM_SYMBOLIZE_PARTS_H

#include <elfutils/libdw.h>
#include <sys/types.h>

#include "elf_file.h"
#include "symbolize.h"

/* ---- strings, each kept once: symbolize_names.c ----------------------- */

struct tm_strings {
	char **slots; /* open addressing */
	size_t mask;  /* slots - 1 */
	size_t count;
};

void tm_strings_deinit(struct tm_strings *strings);

/* NULL when memory runs out. */
const char *tm_strings_keep(struct tm_strings *strings, const char *text);

/* The name of a function without parameters and return type, from its linkage name. */
const char *tm_strings_keep_function(struct tm_strings *strings, const char *linkage_name);

/* A path without needless parts: "a//b", "a/./b", "a/c/../b" become "a/b". */
const char *tm_strings_keep_path(struct tm_strings *strings, const char *path);

/* ---- address ranges: symbolize_ranges.c ------------------------------- */

struct tm_range {
	uint64_t low;
	uint64_t high;  /* exclusive */
	uint64_t reach; /* highest `high` of this and all earlier ranges */
	uint32_t index; /* of what is there */
};

struct tm_ranges {
	struct tm_range *items;
	size_t count;
	size_t capacity;
};

#define TM_NO_INDEX UINT32_MAX

/* Ignores empty ranges; false when memory runs out. */
bool tm_ranges_add(struct tm_ranges *ranges, uint64_t low, uint64_t high, uint32_t index);

/* To be called between the last tm_ranges_add() and the first tm_ranges_find(). */
void tm_ranges_sort(struct tm_ranges *ranges);

/* Index of the shortest range that holds the address, or TM_NO_INDEX. */
uint32_t tm_ranges_find(const struct tm_ranges *ranges, uint64_t address);
void tm_ranges_deinit(struct tm_ranges *ranges);

/* ---- object files: symbolize_file.c ----------------------------------- */

struct tm_symbol {
	uint64_t vaddr;
	uint64_t size;
	const char *name; /* in the file's string table */
	bool local;
};

struct tm_unit;

struct tm_object {
	char *path; /* where the file is */
	uint8_t build_id[TM_BUILD_ID_MAX];
	size_t build_id_size;
	bool must_match; /* the build id was given: a file with another is not used */
	dev_t device;    /* together: which file it was */
	ino_t inode;
	struct timespec changed;

	bool opened;
	struct tm_elf main;  /* .elf is NULL when it could not be used */
	struct tm_elf debug; /* likewise */
	struct tm_elf alternate;
	Dwarf *dwarf; /* or NULL */
	Dwarf *alternate_dwarf;
	uint64_t debug_bias; /* address in the debug file - address in the file */

	bool indexed;
	struct tm_unit *units;
	size_t unit_count;
	struct tm_ranges unit_ranges;

	bool symbols_read;
	struct tm_symbol *symbols;
	size_t symbol_count;
	struct tm_ranges symbol_ranges;
};

struct tm_directories {
	char **paths;
	size_t count;
};

/* Opens the file and its debug files, the first time. */
void tm_object_open(struct tm_object *object, const struct tm_directories *directories);
void tm_object_close(struct tm_object *object);

/* ---- symbol tables: symbolize_elf.c ----------------------------------- */

/* The symbol that covers an address, or NULL. */
const struct tm_symbol *tm_object_symbol(struct tm_object *object, uint64_t vaddr);
void tm_object_symbols_deinit(struct tm_object *object);

/* ---- names put together from scopes: symbolize_scopes.c --------------- */

struct tm_scope {
	const void *die;  /* of a function's declaration: Dwarf_Die.addr */
	const char *name; /* in full */
};

struct tm_scopes {
	bool read;
	struct tm_scope *items; /* sorted by die */
	size_t count;
	size_t capacity;
};

/* Reads the declarations of a unit, the first time; false when memory runs out. */
bool tm_scopes_read(struct tm_scopes *scopes, Dwarf_Die *unit, struct tm_strings *strings);

/* The full name of a function without a linkage name, or NULL. */
const char *tm_scopes_find(const struct tm_scopes *scopes, const Dwarf_Die *die);
void tm_scopes_deinit(struct tm_scopes *scopes);

/* ---- DWARF: symbolize_dwarf.c ----------------------------------------- */

#define TM_MAX_INLINED 64u

/* frames[0 … count-1], innermost first; offset and module are left to the caller. */
struct tm_frame_list {
	struct tm_frame_name frames[TM_MAX_INLINED + 1];
	size_t count;
	uint64_t function_start; /* in the file; valid when the last frame has a function */
};

/* count is 0 when DWARF knows nothing; false when memory runs out. */
bool tm_object_dwarf_frames(struct tm_object *object, struct tm_strings *strings, uint64_t vaddr,
			    struct tm_frame_list *ret);
void tm_object_units_deinit(struct tm_object *object);

#endif
