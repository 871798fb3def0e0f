/*
 * The variables through which traced programs call tm_track and tm_untrack
 * (tm.h): found by a note in each module, filled in while tracing.
 */
#ifndef TM_TRACK_H
#define TM_TRACK_H

#include "helper.h"

/* The note of tm.h: its type, and its name with the end of string. */
#define TM_NOTE_TRACKER 1u
#define TM_NOTE_NAME 0x00006d74u /* "tm" */

/*
 * A module has its variable here.  Called for all modules at each refresh,
 * under the modules lock; mem is /proc/self/mem, or negative without.
 */
void tm_track_found(int mem, uint64_t variable) TM_HIDDEN;

/* Zeroes what was filled in.  The state is idle already. */
void tm_track_stop(void) TM_HIDDEN;

#endif
