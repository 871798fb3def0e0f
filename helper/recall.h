/*
 * The stacks that a thread allocated from lately, each with its traceback: a
 * stack that is there again is known by the words that its walk read, without
 * another walk.
 *
 * Owned by the thread's record.  A path is taken apart before it is made
 * anew, so that a signal handler that never comes back leaves none half made.
 */
#ifndef TM_RECALL_H
#define TM_RECALL_H

#include "unwind.h"

/* A walk (see struct tm_log) and the traceback that it was interned as. */
struct tm_path {
	uint64_t rip; /* where it started; 0: nothing is remembered here */
	uint64_t rsp;
	uint64_t root;       /* generation and domain of the traceback: tm_path_root */
	uint64_t epoch;      /* as in struct tm_log */
	uint64_t high;       /* likewise */
	uint64_t nonzero_at; /* likewise; never 0 */
	uint32_t traceback;
	uint32_t count; /* of words */
	uint64_t reserved;
	struct tm_word words[];
};

_Static_assert(sizeof(struct tm_path) == 64, "one cache line");

#define TM_PATHS 64u
#define TM_PATH_WORDS 256u

/* Bytes of a path whose traceback has at most so many frames. */
static inline uint32_t tm_path_size(uint32_t frames)
{
	/* A return address and a saved rbp each: fewer as a rule. */
	uint32_t words = frames < TM_PATH_WORDS / 2 ? 2 * frames + 2 : TM_PATH_WORDS;

	return (uint32_t)(sizeof(struct tm_path) + words * sizeof(struct tm_word));
}

static inline uint64_t tm_path_root(const struct tm_generation *generation, uint32_t domain)
{
	return (uint64_t)domain << 32 | generation->id;
}

/* The one path of an array of TM_PATHS where a walk that starts there is remembered. */
static inline struct tm_path *tm_path_at(uint64_t paths, uint32_t size, uint64_t rip, uint64_t rsp)
{
	uint64_t hash = (rip ^ rsp << 13) * UINT64_C(0x9e3779b97f4a7c15);

	return (struct tm_path *)(paths + (hash >> 58) * size);
}

/*
 * The traceback of the stack at rip and rsp, or 0 when it is not that of the path.
 * The loads are bounded as a walk's are: each address was read by the walk,
 * which follows from the words before it, and lies in the known part of the stack.
 */
static inline uint32_t tm_recall(const struct tm_path *path, uint64_t rip, uint64_t rsp,
				 uint64_t root, const struct tm_stack *stack)
{
	const struct tm_word *word, *end;

	if (path->rip != rip || path->rsp != rsp || path->root != root ||
	    path->epoch != load_relaxed(&tm_rules_epoch) || rsp < stack->low ||
	    path->high > stack->high)
		return 0;
	for (word = path->words, end = word + path->count; word != end; word++)
		if (tm_stack_word(word->at) != word->value)
			return 0;
	return tm_stack_word(path->nonzero_at) ? path->traceback : 0;
}

/* Lets the next walk keep its log in a path. */
static inline void tm_path_begin(struct tm_path *path, uint32_t size, struct tm_log *log)
{
	store_relaxed(&path->rip, 0);
	log->words = path->words;
	log->room = (uint32_t)((size - sizeof(*path)) / sizeof(struct tm_word));
}

/* Remembers that walk. */
static inline void tm_path_end(struct tm_path *path, const struct tm_log *log, uint64_t rip,
			       uint64_t rsp, uint64_t root, uint32_t traceback)
{
	if (!log->whole || !traceback)
		return;
	path->rsp = rsp;
	path->root = root;
	path->epoch = log->epoch;
	path->high = log->high;
	path->nonzero_at = log->nonzero_at ? log->nonzero_at : (uint64_t)&path->rip;
	path->traceback = traceback;
	path->count = log->count;
	store_release(&path->rip, rip);
}

#endif
