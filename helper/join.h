/*
 * Walks that end where a remembered one went on.
 *
 * Most stacks that have to be walked differ from one walked before in their
 * innermost frames alone.  A walk that stands where a remembered walk stood, at
 * the same return address with the same stack pointer, and that never asked for
 * rbp from there on, reads the same words as long as each holds what it held.
 * So the words are compared instead of looking for the rule of each frame, and
 * the traceback has the outer part of that one's.
 *
 * Where walks stood is kept by a hash, as a hint: whether it is so is looked
 * up in the path itself.  Part of the hash is how deep the frame was, where the
 * stacks are deeper than the limit: tracebacks are trees from their outermost
 * frame on, so an outer part serves only where it is cut at the same frame.
 *
 * Uses recall.h alone; reads no word of the stack that the walk would not read.
 */
#ifndef TM_JOIN_H
#define TM_JOIN_H

#include "recall.h"

/* Frames that a walk finds before it looks for others: a path has been looked for by those. */
#define TM_JOIN_FROM 3

/*
 * A joint: 32 bits of the hash, the number of a path, how often it was made (8 bits of that),
 * and the number of the word that its walk read next.
 */
#define TM_JOINT_PATH 32
#define TM_JOINT_MADE 44
#define TM_JOINT_WORD 52

_Static_assert(TM_MOST_PLACES *TM_WAYS <= 1u << (TM_JOINT_MADE - TM_JOINT_PATH), "12 bits");

static inline struct tm_shape *tm_joint_shape(const struct tm_recall *recall, uint64_t joint)
{
	return (struct tm_shape *)recall->shapes + (joint >> TM_JOINT_PATH) % (1u << 12);
}

/* Lets the next walk, which keeps its log in that path of recall, join another one. */
static inline void tm_join_begin(struct tm_recall *recall, const struct tm_path *path,
				 const struct tm_generation *generation, struct tm_log *log)
{
	uint32_t number = (uint32_t)((uint64_t)path - recall->paths) / (uint32_t)recall->size;
	uint64_t mine = (uint64_t)number << TM_JOINT_PATH;
	uint8_t made = tm_joint_shape(recall, mine)->made + 1;

	log->recall = recall;
	log->generation = generation->id;
	log->mine = mine | (uint64_t)made << TM_JOINT_MADE;
}

/*
 * A walk stands at the frame of this key, whose caller it has found at this CFA, with `word`
 * of its log to be written and so many addresses found as next says.  Returns the joint that
 * may fit, or 0, and leaves one for later walks in its place.
 */
static inline uint64_t tm_joint(struct tm_recall *recall, const struct tm_log *log, uint64_t key,
				uint64_t caller, uint64_t cfa, const struct tm_word *word,
				const uint64_t *next)
{
	uint64_t hash = caller + cfa * 8 + ((key + ((uint64_t)next & recall->cut)) << 24), *place;
	uint64_t old;

	hash *= UINT64_C(0xd6e8feb86659fd93);
	place = &recall->joints[hash >> 54];
	old = *place;
	*place = log->mine + ((uint64_t)(word - log->words) << TM_JOINT_WORD) + (uint32_t)hash;
	if ((uint32_t)old != (uint32_t)hash ||
	    tm_joint_shape(recall, old)->made != (uint8_t)(old >> TM_JOINT_MADE))
		return 0;
	return old;
}

_Static_assert(TM_JOINTS == 1u << (64 - 54), "bits of a hash");

/*
 * Goes on as the remembered walk of a joint did, from a frame whose CFA is known and that
 * does not depend on rbp: returns the place behind the last address when all is as it was,
 * or NULL.  What was found lies from addresses to next; there is room for limit.
 */
uint64_t *tm_join(struct tm_unwinder *unwinder, uint64_t joint, uint64_t cfa, struct tm_word *word,
		  uint64_t *addresses, uint64_t *next, size_t limit) TM_HIDDEN;

/* Lets others join the walk that tm_path_end() is about to remember. */
static inline void tm_join_end(struct tm_recall *recall, const struct tm_log *log, size_t frames)
{
	struct tm_shape *shape = tm_joint_shape(recall, log->mine);

	shape->made++;
	shape->words = (uint16_t)(log->next - log->words);
	shape->plain = (uint16_t)(log->plain - log->words);
	shape->frames = (uint16_t)frames;
	recall->cut = log->nonzero_at ? ~UINT64_C(0) : 0;
}

#endif
