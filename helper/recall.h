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
 * A walk (see struct tm_log) and the traceback that it was interned as.  Groups
 * of words are compared, up to a fixed end: a group is filled up with words that
 * are equal whatever happens.
 */
struct tm_path {
	uint64_t rip; /* where it started; 0: nothing is remembered here */
	uint64_t rsp;
	uint64_t stamp; /* tm_path_stamp(), and TM_STAMP_FOREIGN if the domain is not 0 */
	uint64_t end;   /* address behind the last word that is compared */
	uint64_t more;  /* address of a word of which only that it is not 0 matters */
	uint32_t domain;
	uint32_t traceback;
	struct tm_word words[];
};

_Static_assert(sizeof(struct tm_path) == 48, "three words and this fill a cache line or two");

#define TM_PLACES 128u       /* at first */
#define TM_MOST_PLACES 2048u /* of a thread whose stacks come back, but not soon */
#define TM_WAYS 2u           /* paths of one place, one behind the other */
#define TM_PATHS (TM_PLACES * TM_WAYS)
#define TM_WALKED 4096u /* walks that are counted together; stacks walked last */
#define TM_PATH_GROUP 5u
#define TM_HINTS 256u
#define TM_JOINTS 1024u /* join.h */

/* What tells how far a walk may be joined (join.h). */
struct tm_shape {
	uint16_t words;  /* that it read, without those that fill the last group */
	uint16_t plain;  /* those from this one on are return addresses, and rbp did not matter */
	uint16_t frames; /* that it found */
	uint8_t made;    /* how often this was written, modulo 256 */
	uint8_t reserved;
};

/* All that a thread remembers. */
struct tm_recall {
	uint64_t paths;          /* address of TM_WAYS paths of size bytes for each place */
	uint64_t size;           /* of a path, bytes; 0: all are tm_no_path */
	uint64_t place_size;     /* TM_WAYS times that */
	uint64_t turn;           /* 0 or size: the one of two that was made anew last */
	uint64_t chosen;         /* address of the path that tm_recall_second() spoke of last */
	uint64_t second_found;   /* how often a stack was found in the second path of a place */
	uint16_t hint[TM_HINTS]; /* by rip: bytes from below rsp to the next return address */
	uint64_t cut;            /* all bits set when the last walk ended at its limit, or 0 */
	uint64_t joints[TM_JOINTS];
	uint64_t shapes;            /* address of a struct tm_shape for each path */
	uint32_t last_place;        /* number of places less one: one bit less than a power of 2 */
	uint32_t walks, again;      /* of TM_WALKED; those of stacks that are in the following */
	uint16_t walked[TM_WALKED]; /* bits of a hash */
};

extern const struct tm_path tm_no_path TM_HIDDEN;

#define TM_PATH_WORDS 257u /* at most */

/* Words that a walk of so many frames may read: a return address and a saved rbp each. */
static inline uint32_t tm_path_room(uint32_t frames)
{
	return frames < TM_PATH_WORDS / 2 ? 2 * frames + 1 : TM_PATH_WORDS;
}

/* Bytes of a path whose traceback has at most so many frames: whole cache lines. */
static inline uint32_t tm_path_size(uint32_t frames)
{
	uint32_t words = tm_path_room(frames) + TM_PATH_GROUP - 1;

	return (uint32_t)(sizeof(struct tm_path) + words * sizeof(struct tm_word) + 63) & ~63u;
}

/*
 * What else a walk and its traceback depended on: the rules of an epoch, what was
 * known of the stack, the generation.  None of their numbers ever goes down, so
 * their sum is another one when any of them has changed.  Two bits say that not every
 * block is recorded, or one of another domain than malloc's was.
 */
#define TM_STAMP_CHOSEN (UINT64_C(1) << 63)
#define TM_STAMP_FOREIGN (UINT64_C(1) << 62)

static inline uint64_t tm_path_stamp(const struct tm_generation *generation,
				     const struct tm_stack *stack, const struct tm_log *log)
{
	return log->epoch + stack->changes + generation->id +
	       (generation->filter ? TM_STAMP_CHOSEN : 0);
}

/* The same for a walk that would begin now. */
static inline uint64_t tm_recall_stamp(const struct tm_generation *generation,
				       const struct tm_stack *stack)
{
	return load_relaxed(&tm_rules_epoch) + stack->changes + generation->id +
	       (generation->filter ? TM_STAMP_CHOSEN : 0);
}

static inline uint32_t tm_hint_index(uint64_t rip)
{
	return (uint8_t)rip;
}

_Static_assert(TM_HINTS == 256, "a byte");

/* Not the golden ratio: differences of a few bytes that are Fibonacci numbers would meet. */
#define TM_RECALL_FACTOR 0x2c1b3c6du

/*
 * The first of the two paths where a walk from there may be remembered.  Many
 * functions may call the one that calls the allocator, so the next return address
 * has a say.  Its place is a guess, and what was known of the stack may be gone (a
 * coroutine's that was unmapped): it is looked for in the page of the return
 * address below rsp alone, which was just written.  NULL when the record was wiped
 * since the call began: a signal handler that interrupted it has called fork.
 */
static inline struct tm_path *tm_path_at(const struct tm_recall *recall, uint64_t rip, uint64_t rsp)
{
	uint64_t below = rsp - sizeof(uint64_t);
	uint64_t last = below + recall->hint[tm_hint_index(rip)] + 7; /* byte of the word */
	uint32_t hash = (uint32_t)(rip + rsp * 8);

	if (likely((last ^ below) < TM_PAGE))
		hash += (uint32_t)tm_stack_word(last - 7);
	return (struct tm_path *)(recall->paths +
				  (hash * TM_RECALL_FACTOR >> 21 & recall->last_place) *
					  recall->place_size);
}

_Static_assert(TM_MOST_PLACES == 1u << (32 - 21), "bits of a hash");

static inline bool tm_word_is(const struct tm_word *word)
{
	uint64_t value = tm_stack_word(word->at);

	__asm__("" : "+r"(value)); /* compared where it is, with what is in memory: one register */
	return value == word->value;
}

/*
 * Whether the stack at rip and rsp is that of the path.
 * The loads are bounded as a walk's are: each address was read by the walk,
 * which follows from the words before it, and lies in the known part of the stack,
 * which has at most grown.
 */
static inline bool tm_path_is(const struct tm_path *path, uint64_t rip, uint64_t rsp,
			      uint64_t stamp)
{
	const struct tm_word *word = path->words;
	uint64_t end = path->end;

	if (path->rip != rip || path->rsp != rsp || path->stamp != stamp)
		return false;
	while ((uint64_t)word != end) {
		if (!tm_word_is(&word[0]) || !tm_word_is(&word[1]) || !tm_word_is(&word[2]) ||
		    !tm_word_is(&word[3]) || !tm_word_is(&word[4]))
			return false;
		word += TM_PATH_GROUP;
	}
	return tm_stack_word(path->more) != 0;
}

_Static_assert(TM_PATH_GROUP == 5, "words that are compared together");

/* The same for any domain: the traceback, or 0 when the stack is not that of the path. */
static inline uint32_t tm_recall(const struct tm_path *path, uint64_t rip, uint64_t rsp,
				 uint64_t stamp, uint32_t domain)
{
	if (domain != TM_DOMAIN_MALLOC)
		stamp += TM_STAMP_FOREIGN;
	return tm_path_is(path, rip, rsp, stamp) && path->domain == domain ? path->traceback : 0;
}

#define TM_MOVED 32u /* one in so many stacks that are found in the second path of a place */

/*
 * The same from the second path of a place.  When it is 0 the stack is to be walked,
 * and remembered in the path that this has chosen: now and then that is one from the
 * second path, so that what is there often comes to be in the first.
 */
static inline uint32_t tm_recall_second(struct tm_recall *recall, struct tm_path *first,
					uint64_t rip, uint64_t rsp, uint64_t stamp, uint32_t domain)
{
	uint64_t second = (uint64_t)first + recall->size;
	uint32_t found = tm_recall((struct tm_path *)second, rip, rsp, stamp, domain);

	recall->chosen = (uint64_t)first;
	if (found) {
		if (++recall->second_found % TM_MOVED == 0)
			return 0;
		recall->chosen = second;
	} else if (first->rip) {
		recall->turn ^= recall->size;
		recall->chosen += recall->turn;
	}
	return found;
}

/* Lets the next walk keep its log in a path that has room for so many frames. */
static inline void tm_path_begin(struct tm_path *path, uint32_t frames, struct tm_log *log)
{
	log->before = path->rip ? path : NULL;
	store_relaxed(&path->rip, 0);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	log->words = path->words;
	log->end = path->words + tm_path_room(frames);
	log->recall = NULL;
}

/* Remembers that walk. */
static inline void tm_path_end(struct tm_path *path, const struct tm_log *log, uint64_t rip,
			       uint64_t rsp, uint64_t stamp, uint32_t domain, uint32_t traceback)
{
	struct tm_word *word = log->next;

	if (!log->whole || !traceback)
		return;
	for (; (uint32_t)(word - path->words) % TM_PATH_GROUP; word++)
		word->at = (uint64_t)&word->value;
	path->rsp = rsp;
	path->stamp = stamp + (domain == TM_DOMAIN_MALLOC ? 0 : TM_STAMP_FOREIGN);
	path->end = (uint64_t)word;
	path->more = log->nonzero_at ? log->nonzero_at : (uint64_t)&path->rip;
	path->domain = domain;
	path->traceback = traceback;
	store_release(&path->rip, rip);
}

/* Remembers where the walk from there found its second return address: near, if it is to help. */
static inline void tm_hint_set(struct tm_recall *recall, const struct tm_log *log, uint64_t rip,
			       uint64_t rsp)
{
	const struct tm_word *word = log->words;

	while (word < log->next && word->at < rsp) /* the first frame pointer */
		word++;
	if (word < log->next && word->at - (rsp - 8) < TM_PAGE)
		recall->hint[tm_hint_index(rip)] = (uint16_t)(word->at - (rsp - 8));
}

/*
 * Counts a walk.  True when most of the last TM_WALKED were of stacks that had been walked a
 * short time before: with more places they would not have been.
 */
static inline bool tm_walks_again(struct tm_recall *recall, uint64_t rsp, uint32_t traceback)
{
	uint64_t hash = (rsp + ((uint64_t)traceback << 32)) * UINT64_C(0xd6e8feb86659fd93);
	uint16_t *walked = &recall->walked[hash >> 52], bits = (uint16_t)(hash >> 36);
	bool most;

	recall->again += *walked == bits;
	*walked = bits;
	if (likely(++recall->walks % TM_WALKED))
		return false;
	most = recall->again > TM_WALKED / 2;
	recall->again = 0;
	return most;
}

_Static_assert(TM_WALKED == 1u << (64 - 52), "bits of a hash");

#endif
