/*
 * From where a walk may go on as a remembered one did.
 *
 * Uses join.h alone.  Called from walks only, and must follow their rules.
 */
#include "join.h"

TM_NOINLINE uint64_t *tm_join(struct tm_unwinder *unwinder, uint64_t joint, uint64_t cfa,
			      struct tm_word *word, uint64_t *addresses, uint64_t *next,
			      size_t limit)
{
	struct tm_log *log = &unwinder->log;
	const struct tm_recall *recall = log->recall;
	uint32_t number = (joint >> TM_JOINT_PATH) % (1u << 12);
	uint32_t first = (uint32_t)(joint >> TM_JOINT_WORD);
	const struct tm_path *path =
		(const struct tm_path *)(recall->paths + number * recall->size);
	const struct tm_shape *shape = tm_joint_shape(recall, joint);
	const struct tm_word *from = path->words + first, *last = path->words + shape->words;
	size_t before = (size_t)(next - addresses), left = (size_t)(last - from);
	uint64_t stamp = log->epoch + unwinder->walk.stack->changes + log->generation;
	bool cut = path->more != (uint64_t)&path->rip;

	if (first < shape->plain || first >= shape->words || from->at != cfa - 8 ||
	    (path->stamp ^ stamp) & ~(TM_STAMP_CHOSEN | TM_STAMP_FOREIGN))
		return NULL;
	if ((cut ? before + left != limit : before + left > limit) ||
	    (size_t)(log->end - word) < left)
		return NULL;
	/* Its own path still holds what it held, from the word on that is to be written next. */
	if (path == log->before ? from != word : !path->rip)
		return NULL;
	if (path != log->before)
		log->before = NULL; /* is overwritten even if this comes to nothing */
	for (; from != last; from++, word++) {
		uint64_t at = from->at, value = tm_stack_word(at);

		if (value != from->value)
			return NULL;
		word->at = at;
		word->value = value;
		*next++ = value;
	}
	if (cut && !tm_stack_word(path->more))
		return NULL;
	log->nonzero_at = cut ? path->more : 0;
	if (!next[-1]) { /* the outermost frame's return address */
		next--;
		left--;
	}
	log->next = word;
	log->joined = path;
	log->fresh = (uint32_t)before;
	log->skipped = shape->frames - (uint32_t)left;
	return next;
}
