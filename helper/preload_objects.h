/*
 * The loader's objects, as libtm-preload.so sees them: where the functions are
 * that it stands in for, and how it gets out of their way.
 *
 * May use: tm_layout.h.
 */
#ifndef TM_PRELOAD_OBJECTS_H
#define TM_PRELOAD_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tm_layout.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* The linker: where this library begins. */
extern const char __ehdr_start[] HIDDEN;

/*
 * The address of the function that dlsym(RTLD_NEXT, name) would find; but never
 * allocates, and finds the functions of objects that are not global, too.  0:
 * there is none.
 */
uint64_t tm_preload_find_next(const char *name) HIDDEN;

/* Likewise, with the path of the object that has it. */
uint64_t tm_preload_find(const char *name, const char **ret_path) HIDDEN;

/* Nobody else can be in the middle of anything.  False too where that is not known. */
bool tm_preload_is_only_thread(void) HIDDEN;

/*
 * Gives callers the functions themselves in the place of the stubs: `function`
 * of each patch is its stub, `original` what it stands for (0: leave callers
 * alone).  What cannot be changed safely stays as it is, and calls its stub;
 * no call ever fails for it.  When no object is being relocated.
 */
void tm_preload_step_aside(const struct tm_patch *patches, uint32_t count) HIDDEN;

#endif
