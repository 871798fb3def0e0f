/*
 * The functions that the debugger calls, with every thread stopped wherever it
 * was, one of them made to run the call.  None waits for a lock, none frees
 * what a stopped hook may still use.  Each returns 0 or a negative errno.
 */
#ifndef TM_CONTROL_H
#define TM_CONTROL_H

#include "helper.h"

/* Once after the helper was copied in: makes the header valid. */
long tm_control_init(void) TM_HIDDEN;

/*
 * Starts a fresh table with tracebacks of at most limit frames (1 to TM_MAX_FRAMES).
 * sample_period: 0, or bytes from TM_SAMPLE_MIN to TM_SAMPLE_MAX: see tm_sample.h.
 * min_size: blocks of fewer bytes are not recorded; to TM_SAMPLE_MAX.
 * seed: any number; the same one draws the same gaps.
 */
long tm_control_start(uint32_t limit, uint64_t sample_period, uint64_t min_size,
		      uint64_t seed) TM_HIDDEN;

/* Memory for a `start` that samples, at once: the address of the filter (sample.h). */
long tm_control_reserve(void) TM_HIDDEN;

/* Stops recording and forgets the traces. */
long tm_control_stop(void) TM_HIDDEN;

/* After further functions were redirected: see route.h. */
long tm_control_route(void) TM_HIDDEN;

/* Forgets the traces; counters and peak begin again. */
long tm_control_clear(void) TM_HIDDEN;

/* Sets the peak to the current traced size. */
long tm_control_reset_peak(void) TM_HIDDEN;

/*
 * Gives back all memory but the image and the relays.  No thread may stand in
 * the helper or come back to it; nothing of it may be called afterwards.
 */
long tm_control_unmap(void) TM_HIDDEN;

/*
 * Runs the redirected canary functions: 0 when the block was recorded with its
 * size and with this function as its only caller, and was forgotten when it
 * was freed; else the number of the step that failed.
 */
long tm_control_canary(void) TM_HIDDEN;

/* Maps size bytes at address (nowhere else) for relays: readable and executable. */
long tm_control_map(uint64_t address, uint64_t size) TM_HIDDEN;

/*
 * Where the object that starts there has its .eh_frame, if it has no
 * .eh_frame_hdr.  Before tm_control_start.
 */
long tm_control_tell_eh_frame(uint64_t object, uint64_t eh_frame) TM_HIDDEN;

/*
 * For a process that cannot read /proc/self/maps: memory for its text, which
 * the debugger then writes there, …
 */
long tm_control_map_text(uint64_t size) TM_HIDDEN;

/* … and the list of modules that is made of it; the memory is given back. */
long tm_control_tell_modules(uint64_t text, uint64_t size) TM_HIDDEN;

#endif
