/*
 * Names for addresses: file, line, function and the calls inlined there, from
 * DWARF where there is any, else from the symbol tables.  Files are opened
 * once and kept.  Nothing is fetched over the network unless that is asked for.
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

/*
 * From now on, debug files that are not on this machine come from the servers
 * that DEBUGINFOD_URLS names (debuginfod-client-config(7)).
 */
void tm_symbolizer_use_debuginfod(struct tm_symbolizer *symbolizer);

enum tm_work_kind {
	TM_WORK_READING,  /* a file */
	TM_WORK_FETCHING, /* a debug file, from a server */
};

/* `done` bytes of `total` (0: not known) for the object at `path`; true ends the work. */
typedef bool tm_work_listener(void *data, enum tm_work_kind kind, const char *path, uint64_t done,
			      uint64_t total);

/*
 * Who is told of work inside tm_symbolizer_resolve(), at most ten times a second; it
 * must not use the symbolizer.
 */
void tm_symbolizer_tell(struct tm_symbolizer *symbolizer, tm_work_listener *listener, void *data);

struct tm_module_description {
	const char *path;       /* as the process sees it, and as frames show it */
	const char *file;       /* where to open it; NULL: at path */
	const char *other_file; /* opened when that is not what is mapped; or NULL */
	const uint8_t *image;   /* its bytes, used where no file fits; or NULL; copied */
	size_t image_size;
	uint64_t start; /* first mapped byte … */
	uint64_t end;   /* … and behind the last */
	uint64_t bias;  /* run-time address - address in the file */
	const uint8_t *build_id;
	size_t build_id_size; /* 0: not known; else a file with another id is not used */
};

/* Replaces modules that were at the same addresses.  Opens nothing yet. */
struct tm_error *tm_symbolizer_add_module(struct tm_symbolizer *symbolizer,
					  const struct tm_module_description *module)
	__attribute__((warn_unused_result));

/*
 * The frames at an address, innermost first.  None at all: the code there is a
 * stub of the linker's or the compiler's that no traceback shows.  Files that
 * are missing or damaged cost names, and are no error.  TM_ERROR_INTERRUPTED, when
 * the listener ended it: all is as it was, but the object's files are opened anew.
 */
struct tm_error *tm_symbolizer_resolve(struct tm_symbolizer *symbolizer, uint64_t address,
				       const struct tm_frame_name **ret, size_t *ret_count)
	__attribute__((warn_unused_result));

enum tm_complaint {
	TM_COMPLAINT_NONE,
	TM_COMPLAINT_CHANGED, /* the file is gone or another one, and there is no debug file */
	TM_COMPLAINT_DAMAGED, /* the file or its debug info makes no sense */
};

/*
 * What stands in the way of names, as far as addresses were asked for: the path
 * of a module, or NULL when there is no more.  Each is told once.
 */
const char *tm_symbolizer_complaint(struct tm_symbolizer *symbolizer, enum tm_complaint *ret);

/* Forgets all modules and closes all files. */
void tm_symbolizer_clear(struct tm_symbolizer *symbolizer);

#endif
