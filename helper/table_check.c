/*
 * The invariants of the trace table that tm_layout.h states, looked at one by
 * one.  For tests: nothing in a traced process calls it.
 *
 * Uses segment and traceback; must never write.
 */
#include "segment.h"
#include "table.h"
#include "traceback.h"

static uint32_t domain_of(const struct tm_generation *generation, const struct tm_slot *slot)
{
	return slot->key & TM_SLOT_FOREIGN ? traceback_domain(generation, tm_slot_traceback(slot))
					   : 0;
}

bool table_is_valid(const struct tm_generation *generation)
{
	const struct tm_shard *shards = (const struct tm_shard *)generation->shards;
	uint32_t s, e, i;

	for (s = 0; s < TM_SHARDS; s++) {
		uint32_t depth;
		const uint64_t *directory = directory_of(&shards[s], &depth);
		uint64_t live_in_shard = 0;

		for (e = 0; e < UINT32_C(1) << depth; e++) {
			const struct tm_segment *segment = (const struct tm_segment *)directory[e];
			const struct tm_slot *slots = slots_of(segment);
			uint32_t live = 0;

			if (segment->depth > depth || segment->capacity > TM_MAX_SEGMENT)
				return false;
			if (e != (e & ((UINT32_C(1) << segment->depth) - 1)))
				continue;
			for (i = 0; i < segment->capacity; i++) {
				uint64_t address = tm_slot_address(&slots[i]);

				if (slots[i].key == TM_SLOT_DEAD)
					return false; /* only while a record moves */
				if (!is_live(slots[i].key))
					continue;
				live++;
				if (segment_of(&shards[s], address) != segment ||
				    slot_find(generation, segment, address,
					      domain_of(generation, &slots[i])) != &slots[i])
					return false;
			}
			if (live != segment->live || segment->moving_from)
				return false;
			live_in_shard += live;
		}
		if (live_in_shard != shards[s].live)
			return false;
	}
	return true;
}
