/* Interned tracebacks: a tree of return addresses, for one generation. */
#ifndef TM_TRACEBACK_H
#define TM_TRACEBACK_H

#include "helper.h"

/*
 * The last traceback a thread interned, oldest frame first: where the next one
 * begins with the same callers, their ids are known.
 */
struct tm_memo {
	uint64_t root_address; /* of its root: domain and flags */
	uint32_t generation;   /* id of the generation the ids belong to */
	uint32_t root;
	uint32_t count;
	uint32_t reserved;
};

/* Prepares the index of a generation.  0, or -ENOMEM. */
int traceback_init(struct tm_generation *generation) TM_HIDDEN;

/*
 * The id of a traceback: count addresses, most recent first (TM_NODE_EXACT may
 * be set in each).  addresses and ids are the memo's arrays, of at least
 * generation->limit entries.  0 when it could not be stored.
 * owner: the calling thread's lock number.
 */
uint32_t traceback_intern(struct tm_generation *generation, uint32_t owner, uint32_t domain,
			  bool truncated, const uint64_t *frames, uint32_t count,
			  struct tm_memo *memo, uint64_t *addresses, uint32_t *ids) TM_HIDDEN;

/* The domain of a traceback that was given out. */
uint32_t traceback_domain(const struct tm_generation *generation, uint32_t id) TM_HIDDEN;

/* The node with this id, which must have been given out. */
struct tm_node *traceback_node(const struct tm_generation *generation, uint32_t id) TM_HIDDEN;

#endif
