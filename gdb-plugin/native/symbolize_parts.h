/*
 * What the files of the symbolizer share: strings, address ranges, and the
 * layers object file -> compilation unit -> function -> inlined call.
 *
 * May use: libdw, libelf, elf_file.h, error.h.  Must not use: Python, gdb.
 */
#ifndef TM_SYMBOLIZE_PARTS_H
#define TM_SYMBOLIZE_PARTS_H

#include <elfutils/libdw.h>
#include <gelf.h>
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

/*
 * The name of a function from its linkage name: without parameters, return
 * type, and what the compiler adds to the name of a part or a copy.
 */
const char *tm_strings_keep_function(struct tm_strings *strings, const char *linkage_name);

/* Whether a symbol is of code that the compiler put between a caller and a function. */
bool tm_is_stub_name(const char *symbol);

/* A path without needless parts: "a//b", "a/./b", "a/c/../b" become "a/b". */
const char *tm_strings_keep_path(struct tm_strings *strings, const char *path);

/* ---- work that takes long: symbolize_walk.c --------------------------- */

struct tm_work {
	tm_work_listener *listener; /* or NULL */
	void *data;
	enum tm_work_kind kind;
	const char *path;
	uint64_t total;
	int64_t due;  /* when it is told again: CLOCK_MONOTONIC_COARSE, in nanoseconds */
	bool stopped; /* all loops end at once, and nothing that they made is kept */
};

/* What is worked at from now on; see tm_work_listener. */
void tm_work_begin(struct tm_work *work, enum tm_work_kind kind, const char *path, uint64_t total);

/* To be called in every loop that may last; false when the work is to end. */
bool tm_work_at(struct tm_work *work, uint64_t done);

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
struct tm_scopes;
struct tm_package;

/* Of the DIE that inlined calls and copies of a function have in common. */
struct tm_function_name {
	const void *die;  /* Dwarf_Die.addr; NULL: the slot is empty */
	const char *name; /* or NULL */
};

struct tm_object {
	struct tm_work *work; /* of the symbolizer */
	char *path;           /* where the file is */
	char *other_path;     /* where else it may be; or NULL */
	uint8_t *image;       /* its bytes, when it is no file; or NULL */
	size_t image_size;
	uint8_t build_id[TM_BUILD_ID_MAX];
	size_t build_id_size;
	bool must_match; /* the build id was given: a file with another is not used */
	dev_t device;    /* together: which file it was */
	ino_t inode;
	struct timespec changed_at;

	bool opened;
	bool changed; /* no file and no debug file is what is mapped */
	bool damaged;
	bool told;           /* about the two above */
	struct tm_elf main;  /* .elf is NULL when it could not be used */
	struct tm_elf debug; /* likewise */
	struct tm_elf alternate;
	struct tm_elf package_file; /* of split debug information */
	struct tm_elf mini;         /* symbols out of .gnu_debugdata */
	uint8_t *mini_bytes;
	Dwarf *dwarf; /* or NULL */
	Dwarf *alternate_dwarf;
	struct tm_package *package; /* once it was needed */
	uint64_t debug_bias;        /* address in the debug file - address in the file */

	bool indexed;
	struct tm_unit *units;
	size_t unit_count;
	struct tm_ranges unit_ranges;

	struct tm_function_name *names; /* open addressing */
	size_t name_mask;               /* slots - 1 */
	size_t name_count;
	struct tm_scopes *scopes; /* of the units that needed them */
	size_t scope_count;

	struct tm_ranges plt_ranges;
	bool symbols_read;
	struct tm_symbol *symbols;
	size_t symbol_count;
	struct tm_ranges symbol_ranges;
};

/* Opens the file and its debug files, the first time. */
struct tm_search;
void tm_object_open(struct tm_object *object, struct tm_search *search);

/* Closes all files: they are opened anew when they are needed. */
void tm_object_forget(struct tm_object *object);
void tm_object_deinit(struct tm_object *object);

/* ---- separate debug files: symbolize_search.c ------------------------- */

struct tm_search {
	char **directories;
	size_t directory_count;
	bool debuginfod;
	struct tm_work work;
	struct tm_fetcher *fetcher; /* once it was needed */
};

bool tm_search_by_build_id(struct tm_search *search, const uint8_t *build_id, size_t size,
			   struct tm_elf *ret);

/* By build id, by .gnu_debuglink, from debuginfod: what is found fits. */
bool tm_search_debug_file(struct tm_search *search, const struct tm_object *object,
			  struct tm_elf *ret);

/*
 * The package of split debug information of an object whose debug information is in
 * `source`.  That they belong together, the identities of the units tell.
 */
bool tm_search_package(struct tm_search *search, const struct tm_object *object,
		       const struct tm_elf *source, struct tm_elf *ret);

/* Where an open file is, in PATH_MAX bytes; false when that is not known. */
bool tm_search_real_path(const struct tm_elf *file, char *ret);

/* Opens a file that has this build id. */
bool tm_search_try(const char *path, const uint8_t *build_id, size_t size, struct tm_elf *ret);
void tm_search_deinit(struct tm_search *search);

/* ---- debuginfod: symbolize_fetch.c ------------------------------------ */

/* The path of a debug file, to be freed; NULL when there is none or the work is to end. */
char *tm_fetch_debug_file(struct tm_search *search, const uint8_t *build_id, size_t size);
void tm_fetcher_free(struct tm_fetcher *fetcher);

/* ---- .gnu_debugdata: symbolize_mini.c --------------------------------- */

/* Opens object->mini where the object has it. */
void tm_object_open_mini(struct tm_object *object);

/* The section of that name that has bytes in the file, or NULL. */
Elf_Scn *tm_elf_section(const struct tm_elf *file, const char *wanted, GElf_Shdr *ret);

/* ---- packages of split debug information: symbolize_package.c --------- */

/* The split unit of a skeleton, from the package; false when it has none, or none that is good. */
bool tm_object_packaged_unit(struct tm_object *object, Dwarf_Die *skeleton, Dwarf_Die *ret);
void tm_object_package_deinit(struct tm_object *object);

/* ---- symbol tables: symbolize_elf.c ----------------------------------- */

/* The symbol that covers an address, or NULL. */
const struct tm_symbol *tm_object_symbol(struct tm_object *object, uint64_t vaddr);

/* Whether it is in a section of the linker's stubs, that only lead to functions. */
bool tm_object_in_plt(struct tm_object *object, uint64_t vaddr);
void tm_object_symbols_deinit(struct tm_object *object);

/* ---- names put together from scopes: symbolize_scopes.c --------------- */

struct tm_scope {
	const void *die;  /* of a namespace, class or function: Dwarf_Die.addr */
	const char *name; /* in full, once it was asked for; or NULL */
	uint32_t parent;  /* index of the scope around it, or TM_NO_INDEX */
	bool named;       /* it was asked for */
};

struct tm_scopes {
	Dwarf_CU *unit;
	struct tm_scope *items; /* sorted by die */
	size_t count;
	size_t capacity;
};

/* Reads the scopes of a unit; false when memory runs out. */
bool tm_scopes_read(struct tm_scopes *scopes, Dwarf_Die *unit, struct tm_work *work, bool *damaged);

/* The full name of a function without a linkage name; NULL without, or when memory runs out. */
const char *tm_scopes_find(struct tm_scopes *scopes, const Dwarf_Die *die,
			   struct tm_strings *strings);
void tm_scopes_deinit(struct tm_scopes *scopes);

/* ---- names of functions: symbolize_functions.c ------------------------- */

/* The name of a function or an inlined call; NULL when it has none, or memory runs out. */
const char *tm_object_function_name(struct tm_object *object, Dwarf_Die *die,
				    struct tm_strings *strings);

/* Whether a function is a thunk: some compilers give it a name, and lines of the class. */
bool tm_die_is_stub(Dwarf_Die *die);
void tm_object_names_deinit(struct tm_object *object);

/* ---- walks over DIEs: symbolize_walk.c -------------------------------- */

/* Damage cannot make a walk endless: each DIE comes after those before it in the file. */
struct tm_die_walk {
	struct tm_work *work; /* or NULL: it is short */
	const void *first;    /* Dwarf_Die.addr */
	const void *last;
	unsigned int count;
	bool damaged;
};

/* As dwarf_child() and dwarf_siblingof(); false at the end, at damage, when the work is to end. */
bool tm_die_child(struct tm_die_walk *walk, Dwarf_Die *parent, Dwarf_Die *ret);
bool tm_die_sibling(struct tm_die_walk *walk, Dwarf_Die *die);

/* As dwarf_ranges(): > 0 while there are any.  A list without an end is damage. */
struct tm_range_walk {
	ptrdiff_t at;
	size_t count;
	Dwarf_Addr base, low, high;
};

bool tm_die_range(struct tm_range_walk *walk, Dwarf_Die *die, bool *damaged);

/* ---- texts: symbolize_texts.c ----------------------------------------- */

/*
 * Whether the sections of texts end with one: libdw reads each to its end, wherever that
 * is.  To be asked before anything is read.
 */
bool tm_texts_end(Dwarf *dwarf);

/* As dwarf_formstring(), of a file whose texts end; NULL for one that does not. */
const char *tm_attribute_text(Dwarf_Attribute *attribute);

/* Whether the texts end that libdw itself reads of a unit: for its line table, its split unit. */
bool tm_unit_texts_end(Dwarf_Die *unit);

/* ---- DWARF: symbolize_dwarf.c ----------------------------------------- */

#define TM_MAX_INLINED 64u

/* frames[0 … count-1], innermost first; offset and module are left to the caller. */
struct tm_frame_list {
	struct tm_frame_name frames[TM_MAX_INLINED + 1];
	size_t count;
	bool stub;               /* code that no traceback shows */
	uint64_t function_start; /* in the file; valid when the last frame has a function */
};

/* count is 0 when DWARF knows nothing; false when memory runs out. */
bool tm_object_dwarf_frames(struct tm_object *object, struct tm_strings *strings, uint64_t vaddr,
			    struct tm_frame_list *ret);
void tm_object_units_deinit(struct tm_object *object);

#endif
