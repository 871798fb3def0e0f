/*
 * What tm needs of ELF files: functions by name, program headers and
 * identity, and the helper's own image.  Every field of a file is hostile:
 * wrong ones give an error, never a fault.
 *
 * May use: libelf, error.h.  Must not use: Python, gdb.
 */
#ifndef TM_ELF_FILE_H
#define TM_ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#define TM_BUILD_ID_MAX 64u

struct tm_elf_segment {
	uint32_t type;
	uint32_t flags;
	uint64_t vaddr;
	uint64_t offset;
	uint64_t filesz;
	uint64_t memsz;
};

struct tm_elf_info {
	struct tm_elf_segment *segments;
	size_t segment_count;
	uint8_t build_id[TM_BUILD_ID_MAX];
	size_t build_id_size; /* 0: none */
	uint64_t entry;
	uint32_t machine;
	uint32_t type;
	bool is_64;
	char *soname; /* or NULL */
	char *interp; /* or NULL */
};

struct tm_error *tm_elf_read_info(const char *path, struct tm_elf_info *ret)
	__attribute__((warn_unused_result));
void tm_elf_info_deinit(struct tm_elf_info *info);

/* A set of names, looked up by the hash of the bytes. */
struct tm_names {
	const char **names; /* borrowed; open addressing, NULL is empty */
	uint32_t *lengths;
	uint32_t *indexes; /* of each name, as given */
	size_t mask;       /* slots - 1 */
	uint64_t first[4]; /* which first bytes occur */
};

struct tm_error *tm_names_init(struct tm_names *set, const char *const *names, size_t count)
	__attribute__((warn_unused_result));
void tm_names_deinit(struct tm_names *set);

struct tm_elf_function {
	uint32_t name; /* index into the names given */
	bool dynamic;  /* from .dynsym, else from .symtab */
	uint64_t vaddr;
	uint64_t size;
};

struct tm_elf_functions {
	struct tm_elf_function *items;
	size_t count;
	size_t capacity;
};

/*
 * All defined functions whose name, without its version, is in the set.  Aliases,
 * versions, and a function that both tables name, are listed each; indirect
 * functions (IFUNC) are left out: their symbol is not the address that runs.
 */
struct tm_error *tm_elf_find_functions(const char *path, const struct tm_names *set,
				       struct tm_elf_functions *ret)
	__attribute__((warn_unused_result));
void tm_elf_functions_deinit(struct tm_elf_functions *functions);

/* ---- the helper's image: helper_image.c ------------------------------- */

struct tm_helper_segment {
	uint64_t offset; /* from the start of the image */
	uint64_t memsz;
	uint8_t *bytes;
	size_t size;
	uint32_t flags; /* PF_* */
};

struct tm_helper_symbol {
	char *name;
	uint64_t offset; /* from the start of the image */
};

struct tm_helper_image {
	uint64_t size; /* bytes of address space, whole pages */
	struct tm_helper_segment *segments;
	size_t segment_count;
	struct tm_helper_symbol *symbols; /* names are unique */
	size_t symbol_count;
	uint8_t build_id[TM_BUILD_ID_MAX];
	size_t build_id_size;
	uint64_t eh_frame;
	uint64_t eh_frame_size; /* 0: none */
	uint64_t relocations;
};

struct tm_error *tm_helper_image_read(const char *path, struct tm_helper_image *ret)
	__attribute__((warn_unused_result));
void tm_helper_image_deinit(struct tm_helper_image *image);

/* ---- shared between the files that read ELF --------------------------- */

struct tm_elf {
	int fd;
	struct Elf *elf;
	uint64_t file_size;
	const char *path; /* borrowed */
};

struct tm_error *tm_elf_open(const char *path, struct tm_elf *ret)
	__attribute__((warn_unused_result));

/*
 * For libdw, which loads all debug info of a file at once.  Above 64 MiB that is
 * mapped instead of read, as gdb does with its own: such a file must not shrink
 * until it is closed.
 */
struct tm_error *tm_elf_open_debug(const char *path, struct tm_elf *ret)
	__attribute__((warn_unused_result));

/* Of bytes that stay until it is closed. */
struct tm_error *tm_elf_open_memory(void *bytes, size_t size, struct tm_elf *ret)
	__attribute__((warn_unused_result));
void tm_elf_close(struct tm_elf *file);

/* Reads exactly size bytes at offset. */
struct tm_error *tm_elf_read_at(const struct tm_elf *file, uint64_t offset, void *bytes,
				size_t size) __attribute__((warn_unused_result));

/* Looks for the build id in notes; leaves *ret_size alone when there is none. */
void tm_elf_find_build_id(const void *notes, size_t size, size_t alignment, uint8_t *ret,
			  size_t *ret_size);

#endif
