/*
 * Which stub a redirected function leads to: decided once, when tracing starts or
 * stops or functions were added, so that no stub has to ask at each call.
 *
 * A thread that stands in a stub meanwhile comes to its end there, so each stub
 * must do no harm in any state: a call that is recorded though it need not be
 * is right, and one that is not, of a time when nothing was recorded, as well.
 */
#ifndef TM_ROUTE_H
#define TM_ROUTE_H

#include "helper.h"

/* How many patches have been led somewhere. */
extern uint32_t tm_routed TM_HIDDEN;

/* Leads all patches to the stubs that the header's state and generation ask for.  Any thread. */
void tm_route_all(void) TM_HIDDEN;

/* The debugger may have redirected more. */
static inline void tm_route_new(void)
{
	if (unlikely(load_relaxed(&tm_header.patch_count) != load_relaxed(&tm_routed)))
		tm_route_all();
}

#endif
