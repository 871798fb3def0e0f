/* Memory of the helper: mappings of its own, counted, given back by generation. */
#ifndef TM_ARENA_H
#define TM_ARENA_H

#include "helper.h"

/*
 * Maps size bytes (rounded up to pages) of zeroed memory that belongs to the
 * generation and goes when it goes.  NULL when the kernel refuses.
 * Any thread may call it, with any lock held: it takes none.
 */
void *arena_map(struct tm_generation *generation, uint64_t size) TM_HIDDEN;

/* The same for memory that stays until the helper is unloaded. */
void *arena_map_forever(uint64_t size) TM_HIDDEN;

/* The same, and a child of fork finds it zeroed. */
void *arena_map_wiped(uint64_t size) TM_HIDDEN;

/* Gives back what arena_map gave to this generation; nobody may use it any more. */
void arena_unmap_all(struct tm_generation *generation) TM_HIDDEN;

#endif
