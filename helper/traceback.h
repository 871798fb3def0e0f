/* Interned tracebacks: a tree of return addresses, for one generation. */
#ifndef TM_TRACEBACK_H
#define TM_TRACEBACK_H

#include "helper.h"

#define TM_RECENT_TRACEBACKS 16384u /* that are found by one hash; first in the index */

/* Prepares the index of a generation.  0, or -ENOMEM. */
int traceback_init(struct tm_generation *generation) TM_HIDDEN;

/*
 * The id of a traceback: count addresses, most recent first (TM_NODE_EXACT may
 * be set in each).  0 when it could not be stored.
 * owner: the calling thread's lock number.
 */
uint32_t traceback_intern(struct tm_generation *generation, uint32_t owner, uint32_t domain,
			  bool truncated, const uint64_t *frames, uint32_t count) TM_HIDDEN;

/* The same where the outermost frames are those that an id stands for, or that of a root. */
uint32_t traceback_intern_below(struct tm_generation *generation, uint32_t owner, uint32_t parent,
				const uint64_t *frames, uint32_t count) TM_HIDDEN;

/* What is left of a traceback without so many of its innermost frames. */
uint32_t traceback_outer(const struct tm_generation *generation, uint32_t id,
			 uint32_t frames) TM_HIDDEN;

/* The domain of a traceback that was given out. */
uint32_t traceback_domain(const struct tm_generation *generation, uint32_t id) TM_HIDDEN;

/* The node with this id, which must have been given out. */
struct tm_node *traceback_node(const struct tm_generation *generation, uint32_t id) TM_HIDDEN;

#endif
