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

/*
 * A walk (see struct tm_log) and the traceback that it was interned as.  Whoever
 * compares the words stops at the end, even while another writes them: threads
 * that share a thread pointer share this.
 */
struct tm_path {
	uint64_t rip; /* where it started; 0: nothing is remembered here */
	uint64_t rsp;
	uint64_t root;  /* generation and domain of the traceback: tm_path_root */
	uint64_t epoch; /* as in struct tm_log */
	uint64_t high;  /* likewise */
	uint64_t end;   /* address of the word behind them, which differs from what it tells of */
	uint32_t traceback;
	uint32_t reserved0;
	uint64_t reserved1;
	struct tm_word words[];
};

_Static_assert(sizeof(struct tm_path) == 64, "one cache line");

#define TM_PATHS 128u
#define TM_PATH_WORDS 256u
#define TM_HINTS 256u

/* All that a thread remembers. */
struct tm_recall {
	uint64_t paths;          /* address of TM_PATHS times size bytes; 0: none yet */
	uint64_t size;           /* of a path, bytes */
	uint16_t hint[TM_HINTS]; /* by rip: words from rsp to the next return address; 0: unknown */
};

/* Bytes of a path whose traceback has at most so many frames. */
static inline uint32_t tm_path_size(uint32_t frames)
{
	/* A return address and a saved rbp each: fewer as a rule.  Then the one that differs. */
	uint32_t words = frames < TM_PATH_WORDS / 2 ? 2 * frames + 3 : TM_PATH_WORDS;

	return (uint32_t)(sizeof(struct tm_path) + words * sizeof(struct tm_word));
}

static inline uint64_t tm_path_root(const struct tm_generation *generation, uint32_t domain)
{
	return (uint64_t)domain << 32 | generation->id;
}

/* Not the golden ratio: differences of a few bytes that are Fibonacci numbers would meet. */
#define TM_RECALL_FACTOR UINT64_C(0xd6e8feb86659fd93)

static inline uint32_t tm_hint_index(uint64_t rip)
{
	return (uint32_t)(rip * TM_RECALL_FACTOR >> 56);
}

/*
 * The one path where a walk from there is remembered.  Many functions may call
 * the one that calls the allocator, so the next return address has a say.  Its
 * place is a guess, and what was known of the stack may be gone (a coroutine's
 * that was unmapped): it is looked for in the page of the return address below
 * rsp alone, which was just written.
 */
static inline struct tm_path *tm_path_at(const struct tm_recall *recall, uint64_t rip, uint64_t rsp)
{
	uint64_t next_at = rsp + recall->hint[tm_hint_index(rip)] * sizeof(uint64_t);
	uint64_t hash = rip ^ rsp << 13;

	if (likely(next_at != rsp && ((next_at + 7) ^ (rsp - 8)) < TM_PAGE))
		hash += tm_stack_word(next_at);
	return (struct tm_path *)(recall->paths + (hash * TM_RECALL_FACTOR >> 57) * recall->size);
}

/*
 * The traceback of the stack at rip and rsp, or 0 when it is not that of the path.
 * The loads are bounded as a walk's are: each address was read by the walk,
 * which follows from the words before it, and lies in the known part of the stack.
 */
static inline uint32_t tm_recall(const struct tm_path *path, uint64_t rip, uint64_t rsp,
				 uint64_t root, const struct tm_stack *stack)
{
	const struct tm_word *word = path->words;

	if (path->rip != rip || path->rsp != rsp || path->root != root ||
	    path->epoch != load_relaxed(&tm_rules_epoch) || rsp < stack->low ||
	    path->high > stack->high)
		return 0;
	while (tm_stack_word(word->at) == word->value)
		word++;
	return (uint64_t)word == path->end ? path->traceback : 0;
}

/* Lets the next walk keep its log in a path. */
static inline void tm_path_begin(struct tm_path *path, uint64_t size, struct tm_log *log)
{
	store_relaxed(&path->rip, 0);
	tm_word_that_differs(path->words);
	log->words = path->words;
	log->room = (uint32_t)((size - sizeof(*path)) / sizeof(struct tm_word)) - 1;
}

/* Remembers that walk. */
static inline void tm_path_end(struct tm_path *path, const struct tm_log *log, uint64_t rip,
			       uint64_t rsp, uint64_t root, uint32_t traceback)
{
	struct tm_word *end = path->words + log->count;

	if (!log->whole || !traceback)
		return;
	if (log->nonzero_at)
		end->value = 0; /* the word that log_limit took back, then one that differs */
	path->rsp = rsp;
	path->root = root;
	path->epoch = log->epoch;
	path->high = log->high;
	path->end = (uint64_t)end;
	path->traceback = traceback;
	store_release(&path->rip, rip);
}

/* Remembers where the walk from there found its second return address: near, if it is to help. */
static inline void tm_hint_set(struct tm_recall *recall, const struct tm_log *log, uint64_t rip,
			       uint64_t rsp)
{
	uint32_t i = 0;

	while (i < log->count && log->words[i].at < rsp) /* the first frame pointer */
		i++;
	if (i < log->count && log->words[i].at - rsp <= UINT16_MAX * sizeof(uint64_t))
		recall->hint[tm_hint_index(rip)] =
			(uint16_t)((log->words[i].at - rsp) / sizeof(uint64_t));
}

#endif
