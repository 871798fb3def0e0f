/*
 * What the fuzz targets share: a file in memory with the bytes of the input, and the
 * rule that an error is one line.
 *
 * A target is LLVMFuzzerTestOneInput(), which libFuzzer calls with bytes of its choice:
 * whatever they are, it returns 0, without a sanitizer's complaint.
 */
#ifndef TM_FUZZ_H
#define TM_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of libFuzzer: changes bytes in place, returns how many they are then. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* A target may have its own, which starts from bytes that it makes. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* A rule that does not hold is a finding. */
#define FUZZ_REQUIRE(condition)                                                         \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* Takes an error, or NULL; true when there was one. */
static inline int fuzz_failed(struct tm_error *error)
{
	if (!error)
		return 0;
	FUZZ_REQUIRE(error->message && *error->message && !strchr(error->message, '\n'));
	tm_error_free(error);
	return 1;
}

/* The path of a file that holds the bytes; the same file each time. */
static inline const char *fuzz_file(const uint8_t *data, size_t size)
{
	static char path[32];
	static int file = -1;

	if (file < 0) {
		file = memfd_create("input", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	}
	FUZZ_REQUIRE(ftruncate(file, 0) == 0);
	FUZZ_REQUIRE(pwrite(file, data, size, 0) == (ssize_t)size);
	return path;
}

#endif
