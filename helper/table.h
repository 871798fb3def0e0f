/* The trace table: (domain, address) -> (size, traceback), for one generation. */
#ifndef TM_TABLE_H
#define TM_TABLE_H

#include "helper.h"

struct tm_block {
	uint64_t address;
	uint64_t size; /* bytes requested */
	uint32_t traceback;
	uint32_t domain; /* also that of the traceback */
};

enum table_result {
	TABLE_NONE,    /* nothing was there before */
	TABLE_FOUND,   /* an entry was taken or replaced */
	TABLE_DROPPED, /* not done: no memory, or the shard is held by this very thread */
};

/* Prepares the shards of a generation.  0, or -ENOMEM. */
int table_init(struct tm_generation *generation) TM_HIDDEN;

/*
 * Records a block; an older record of the same address and domain is replaced
 * and its size stored in *replaced (else 0).  owner: the calling thread's lock number.
 */
enum table_result table_put(struct tm_generation *generation, uint32_t owner,
			    const struct tm_block *block, uint64_t *replaced) TM_HIDDEN;

/*
 * Removes the record of address in this domain and returns it in *ret; where
 * there is none, what stands in *ret means nothing.
 */
enum table_result table_take(struct tm_generation *generation, uint32_t owner, uint64_t address,
			     uint32_t domain, struct tm_block *ret) TM_HIDDEN;

/*
 * Reads the record of address in this domain without the lock: while others
 * write it may miss, or be gone already.  False when there is none.
 */
bool table_find(const struct tm_generation *generation, uint64_t address, uint32_t domain,
		struct tm_block *ret) TM_HIDDEN;

/*
 * Unlocks all buckets.  For a process that begins to count with a number that one of
 * its forefathers had, before any of its threads has a record.
 */
void table_forget_locks(const struct tm_generation *generation) TM_HIDDEN;

/* Checks the invariants that tm_layout.h states, and counts the blocks.  For tests. */
bool table_is_valid(const struct tm_generation *generation, uint64_t *ret_blocks) TM_HIDDEN;

#endif
