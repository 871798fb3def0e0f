/*
 * Which object is mapped where: found in /proc/self/maps by raw system calls.
 *
 * A list is constant while the header leads to it, and while anyone reads it.
 * Nothing here waits for long: a refresh that another thread is busy with is
 * skipped in the end.
 *
 * modules.c decides when to look, maps.c reads the map, object.c an object's
 * headers, lists.c keeps the lists, links.c follows the loader's own.
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

/* The module or executable range that pc lies in.  False when it is in none. */
bool tm_modules_find(uint64_t pc, struct tm_module *ret) TM_HIDDEN;

/*
 * For a pc that is executable in no known module: whether it is after a look at what is
 * mapped there, which is left out when one was made a moment ago.
 */
bool tm_modules_on_unknown(uint64_t pc) TM_HIDDEN;

/*
 * The loader's list of objects changes, or has changed: what was found by the list
 * is void at once, so whoever uses nothing else need not follow the loader.  notice:
 * the caller is the loader itself, in _dl_debug_state with its lock.
 */
void tm_modules_loader_event(bool notice) TM_HIDDEN;

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

/* ---- parts of a refresh: to be called with the modules lock ------------- */

/* A list that is being made: an array and names, each with room for so many. */
struct tm_module_build {
	struct tm_module *modules;
	uint64_t *nodes; /* of each module: the loader's struct link_map, 0: not known */
	char *names;
	uint32_t count, room;
	uint32_t names_size, names_room;
};

#define TM_NODE_NONE UINT64_C(1) /* no object of the loader's */

/* Which mappings are wanted: from low on, until what is mapped at the address is complete. */
struct tm_maps_part {
	uint64_t low;     /* no object or mapping that is wanted begins below; 0: all */
	uint64_t address; /* UINT64_MAX: to the end */
};

/* Counts the lines of the memory map and the bytes of their names, for the room of a build. */
long tm_maps_measure(uint32_t *ret_lines, uint32_t *ret_names) TM_HIDDEN;

/* Until it is called with NULL, this text stands for /proc/self/maps. */
void tm_maps_use(const char *text, uint64_t size) TM_HIDDEN;

/*
 * Fills the build with the modules of a part, which ends at *ret_high.  -EAGAIN when they
 * outgrew its room, -ERANGE when something begins below the part and reaches into it.
 */
long tm_maps_read(struct tm_module_build *build, const struct tm_maps_part *part,
		  uint64_t *ret_high) TM_HIDDEN;

/* Whether the kernel tells one mapping alone, as far as is known. */
bool tm_maps_can_ask(void) TM_HIDDEN;

/* Reads this process's memory, whatever it is; mem is /proc/self/mem, or negative without. */
bool tm_object_peek(int mem, uint64_t address, void *ret, uint64_t size) TM_HIDDEN;

/* Fills in a module from the ELF header at its start.  False when there is none. */
bool tm_object_read(int mem, struct tm_module *module) TM_HIDDEN;

/* Where the object that starts there has its .eh_frame, if it has no .eh_frame_hdr. */
bool tm_object_tell_eh_frame(uint64_t object, uint64_t eh_frame) TM_HIDDEN;

/* The place in the current list of the last entry that begins at or below pc, or -1. */
int64_t tm_lists_place(uint64_t pc) TM_HIDDEN;

/* What is known of the loader's nodes, by place in the current list. */
uint64_t *tm_lists_nodes(void) TM_HIDDEN;

/* A build to be filled, with at least this room; it is the only one. */
long tm_lists_begin(struct tm_module_build *ret, uint32_t room, uint32_t names_room) TM_HIDDEN;

/* Publishes the current list with what was found from low to high in place of what it has. */
long tm_lists_publish(const struct tm_module_build *found, uint64_t low, uint64_t high) TM_HIDDEN;

/* Bytes mapped for lists. */
uint64_t tm_lists_bytes(void) TM_HIDDEN;

/* Looks at what is mapped at an address, and publishes it.  A negative errno when it cannot. */
long tm_modules_look(uint64_t address) TM_HIDDEN;

/* The loader's struct r_debug is there, says an object's DT_DEBUG. */
void tm_links_found(uint64_t debug) TM_HIDDEN;

bool tm_links_known(void) TM_HIDDEN;

/* Whether the loader is changing one of its lists, as far as it says. */
bool tm_links_busy(void) TM_HIDDEN;

/*
 * Finds out what the loader added and took away since it was last asked, and publishes
 * that.  False when it cannot tell.  Only in the loader's notice: its lists are
 * read as they are.
 */
bool tm_links_follow(void) TM_HIDDEN;

static inline bool tm_module_is_gone(const struct tm_module *module)
{
	return module->text_end == 0;
}

#endif
