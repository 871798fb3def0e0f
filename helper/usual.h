/* Which redirected functions lead to the stubs of usual.S. */
#ifndef TM_USUAL_H
#define TM_USUAL_H

#include <stdbool.h>

#include "tm_layout.h"

/*
 * Of malloc's domain, and the size is its first argument, or the block it frees is: those
 * that nearly all calls go to.
 */
static inline bool tm_is_usual(const struct tm_patch *patch)
{
	if (patch->domain != TM_DOMAIN_MALLOC)
		return false;
	return (patch->shape == TM_SHAPE_ALLOC && patch->size_argument == 0 &&
		patch->count_argument == TM_NO_ARGUMENT) ||
	       (patch->shape == TM_SHAPE_FREE && patch->block_argument == 0);
}

#endif
