/* Memory of the helper: mappings of its own, counted, given back by generation. */
#ifndef TM_ARENA_H
#define TM_ARENA_H

#include "helper.h"

/*
 * Maps size bytes (rounded up to pages) of zeroed memory, page-aligned, that belongs to the
 * generation and goes when it goes.  NULL when the kernel refuses.
 * Any thread may call it, with any lock held: it takes none.
 */
void *arena_map(struct tm_generation *generation, uint64_t size) TM_HIDDEN;

/* Gives whole pages of such memory to the kernel; when they are used again they are zero. */
void arena_give_back(struct tm_generation *generation, void *memory, uint64_t size) TM_HIDDEN;

/* Corrects the memory that the generation is said to use. */
void arena_count(struct tm_generation *generation, int64_t bytes) TM_HIDDEN;

/* Gives back what arena_map gave to this generation; nobody may use it any more. */
void arena_unmap_all(struct tm_generation *generation) TM_HIDDEN;

/* Memory that nobody lists: its owner keeps the address, and gives it back. */
void *arena_map_alone(uint64_t size) TM_HIDDEN;
void arena_unmap_alone(void *memory, uint64_t size) TM_HIDDEN;

/* Zeroes whole pages of it, which goes to the kernel. */
void arena_wipe(void *memory, uint64_t size) TM_HIDDEN;

/* A child of fork finds this memory, whole pages of it, zeroed.  Accepts NULL. */
void arena_wipe_on_fork(void *memory, uint64_t size) TM_HIDDEN;

/* Like arena_map, for memory that stays until the helper is unloaded and is wiped on fork. */
void *arena_map_wiped(uint64_t size) TM_HIDDEN;

/* Gives back what arena_map_wiped gave; nobody may use it any more. */
void arena_unmap_forever(void) TM_HIDDEN;

#endif
