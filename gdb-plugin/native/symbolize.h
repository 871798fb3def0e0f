/*
 * Names for addresses: file, line, function and the calls inlined there, from
 * DWARF where there is any, else from the symbol tables.  Files are opened
 * once and kept.  Nothing is fetched over the network.
 *
 * May use: libdw, libelf, elf_file.h, error.h.  Must not use: Python, gdb.
 */
#ifndef TM_SYMBOLIZE_H
#define TM_SYMBOLIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Strings belong to the symbolizer: valid until it is cleared. */
struct tm_frame_name {
	const char *file;     /* or NULL */
	const char *function; /* or NULL */
	const char *module;   /* path of the object, or NULL */
	uint64_t offset;      /* from the function's start; without one, from the module's */
	uint32_t line;        /* 0: unknown */
	bool inlined;         /* into the next frame */
};

struct tm_symbolizer;

/* debug_directories: copied; where separate debug files are looked for. */
struct tm_error *tm_symbolizer_new(const char *const *debug_directories, size_t count,
				   struct tm_symbolizer **ret) __attribute__((warn_unused_result));
void tm_symbolizer_free(struct tm_symbolizer *symbolizer);

struct tm_module_description {
	const char *path; /* as the process sees it, and as frames show it */
	const char *file; /* where to open it; NULL: at path */
	uint64_t start;   /* first mapped byte … */
	uint64_t end;     /* … and behind the last */
	uint64_t bias;    /* run-time address - address in the file */
	const uint8_t *build_id;
	size_t build_id_size; /* 0: not known; else a file with another id is not used */
};

/* Replaces modules that were at the same addresses.  Opens nothing yet. */
struct tm_error *tm_symbolizer_add_module(struct tm_symbolizer *symbolizer,
					  const struct tm_module_description *module)
	__attribute__((warn_unused_result));

/*
 * The frames at an address, innermost first; at least one.  Files that are
 * missing or damaged cost names, and are no error.
 */
struct tm_error *tm_symbolizer_resolve(struct tm_symbolizer *symbolizer, uint64_t address,
				       const struct tm_frame_name **ret, size_t *ret_count)
	__attribute__((warn_unused_result));

/* Forgets all modules and closes all files. */
void tm_symbolizer_clear(struct tm_symbolizer *symbolizer);

#endif
