/*
 * Which object is mapped where: found in /proc/self/maps by raw system calls.
 *
 * Lists are constant once published in the header, and stay until the helper goes.
 * Nothing here waits for long: a refresh that another thread is busy with is
 * skipped in the end.
 */
#ifndef TM_MODULES_H
#define TM_MODULES_H

#include "helper.h"

/*
 * Reads the memory map anew and publishes a list if it differs.  Returns 0,
 * -EAGAIN when another thread is at it, or why the map cannot be read.
 */
long tm_modules_refresh(void) TM_HIDDEN;

/* The same from the text of a memory map, for a process that cannot read its own. */
long tm_modules_refresh_from(const char *text, uint64_t size) TM_HIDDEN;

/* Gives all lists back; no thread may be in the helper, or come back to it. */
void tm_modules_unmap(void) TM_HIDDEN;

/* The module or executable range that pc lies in, or NULL. */
const struct tm_module *tm_modules_find(uint64_t pc) TM_HIDDEN;

/*
 * For a pc that is executable in no known module: the same after a refresh,
 * which is left out when one was made a moment ago.
 */
const struct tm_module *tm_modules_on_unknown(uint64_t pc) TM_HIDDEN;

/*
 * The loader's list of objects changes, or has changed: what was found by the list
 * is void at once, so whoever uses nothing else need not follow the loader.
 */
void tm_modules_loader_event(void) TM_HIDDEN;

/*
 * Refreshes and forgets the cached rules; waits some milliseconds for another thread that
 * does.  False when that was not enough.
 */
bool tm_modules_loader_changed(void) TM_HIDDEN;

/* Calls of dlopen, where they are seen (entry.S): more code may be mapped soon. */
extern uint32_t tm_modules_opens TM_HIDDEN;

/* The header's loader_events when the loader was last followed. */
extern uint32_t tm_modules_seen_events TM_HIDDEN;

/* To be called before each walk.  False when the list may still be the one of before. */
static inline bool tm_modules_follow_loader(void)
{
	return likely(load_relaxed(&tm_header.loader_events) ==
		      load_relaxed(&tm_modules_seen_events)) ||
	       tm_modules_loader_changed();
}

static inline bool tm_module_executes(const struct tm_module *module, uint64_t pc)
{
	return pc >= module->text_start && pc < module->text_end;
}

static inline struct tm_module *tm_module_array(struct tm_module_list *list)
{
	return (struct tm_module *)(list + 1);
}

/* ---- parts of a refresh, between modules.c and maps.c ------------------ */

/* What maps.c fills: an array and names, each with room for so many. */
struct tm_module_build {
	struct tm_module *modules;
	char *names;
	uint32_t count, room;
	uint32_t names_size, names_room;
};

/*
 * Counts the lines of the memory map and the bytes of their names, for the
 * room of a build.  The caller holds the modules lock.
 */
long tm_maps_measure(uint32_t *ret_lines, uint32_t *ret_names) TM_HIDDEN;

/* Reads this process's memory, whatever it is; mem is /proc/self/mem, or negative without. */
bool tm_maps_peek(int mem, uint64_t address, void *ret, uint64_t size) TM_HIDDEN;

/* Until it is called with NULL, this text stands for /proc/self/maps.  Modules lock. */
void tm_maps_use(const char *text, uint64_t size) TM_HIDDEN;

/* Where the object that starts there has its .eh_frame, if it has no .eh_frame_hdr. */
bool tm_maps_tell_eh_frame(uint64_t object, uint64_t eh_frame) TM_HIDDEN;

/* Fills the build.  -EAGAIN when the map outgrew its room. */
long tm_maps_read(struct tm_module_build *build) TM_HIDDEN;

#endif
