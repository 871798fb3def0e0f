/*
 * What the hooks do with a block: record it with the caller's traceback, forget
 * it again.  The thread is inside the helper meanwhile (see guard.h).
 */
#ifndef TM_RECORD_H
#define TM_RECORD_H

#include "table.h"
#include "thread.h"

static inline void count_dropped(void)
{
	add_relaxed(&tm_header.dropped, 1);
}

static inline struct tm_generation *current_generation(void)
{
	return (struct tm_generation *)load_acquire(&tm_header.generation);
}

/* tm_recall_second(), out of line. */
uint32_t record_recall_second(struct tm_recall *recall, struct tm_path *first, uint64_t rip,
			      uint64_t rsp, uint64_t stamp, uint32_t domain) TM_HIDDEN;

/*
 * The caller's traceback by a walk, interned.  0 when it cannot be kept.  To be called
 * after tm_recall_second() did not find it.
 */
uint32_t record_walk(struct tm_generation *generation, struct tm_thread *thread,
		     const struct tm_entry *entry, uint32_t domain) TM_HIDDEN;

/* Records a block with the traceback that it names.  False when the record is lost, and counted. */
bool record_put(struct tm_generation *generation, struct tm_thread *thread,
		const struct tm_block *block) TM_HIDDEN;

/* The same with the caller's traceback. */
bool record_chosen(struct tm_thread *thread, const struct tm_entry *entry, uint32_t domain,
		   uint64_t address, uint64_t size) TM_HIDDEN;

/* The same unless the block is left out (sample.h); such a one is not lost. */
bool record_block(struct tm_thread *thread, const struct tm_entry *entry, uint32_t domain,
		  uint64_t address, uint64_t size) TM_HIDDEN;

/* Takes a record away and returns it in *ret.  False when there is none, or it cannot be. */
bool record_forget(struct tm_generation *generation, struct tm_thread *thread, uint32_t domain,
		   uint64_t address, struct tm_block *ret) TM_HIDDEN;

#endif
