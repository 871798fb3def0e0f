/*
 * Recording and forgetting blocks, in the general case; usual.c has the short way
 * of most calls.
 *
 * Uses the unwinder, the table and thread records; must never call the
 * program's code.
 */
#include "record.h"
#include "counter.h"
#include "join.h"
#include "modules.h"
#include "sample.h"
#include "table_usual.h"

TM_NOINLINE uint32_t record_recall_second(struct tm_recall *recall, struct tm_path *first,
					  uint64_t rip, uint64_t rsp, uint64_t stamp,
					  uint32_t domain)
{
	return tm_recall_second(recall, first, rip, rsp, stamp, domain);
}

/* The id of what a walk has found. */
static uint32_t intern(struct tm_generation *generation, struct tm_thread *thread, uint32_t domain,
		       uint32_t count, bool complete)
{
	const struct tm_log *log = &thread->unwinder.log;
	const uint64_t *frames = (const uint64_t *)thread->frames;

	if (likely(log->joined && log->joined->domain == domain))
		return traceback_intern_below(generation, thread->owner,
					      traceback_outer(generation, log->joined->traceback,
							      log->skipped),
					      frames, log->fresh);
	return traceback_intern(generation, thread->owner, domain, !complete, frames, count);
}

/* A signal handler that interrupted the walk has called fork, and this is the child. */
static inline bool is_wiped(const struct tm_thread *thread)
{
	return !load_relaxed(&thread->owner);
}

uint32_t record_walk(struct tm_generation *generation, struct tm_thread *thread,
		     const struct tm_entry *entry, uint32_t domain)
{
	struct tm_unwinder *unwinder = &thread->unwinder;
	struct tm_recall *recall = &thread->recall;
	bool followed = tm_modules_follow_loader(), complete;
	struct tm_registers registers;
	struct tm_path *path;
	uint32_t traceback;
	size_t count;

	tm_entry_registers(entry, &registers);
	if (unlikely(thread->capacity < generation->limit)) {
		if (!thread_reserve(thread, generation->limit))
			return 0;
		path = tm_path_at(recall, registers.rip, registers.rsp);
	} else {
		path = (struct tm_path *)recall->chosen;
	}
	tm_path_begin(path, thread->capacity, &unwinder->log);
	tm_join_begin(recall, path, generation, &unwinder->log);
	count = tm_unwind(unwinder, &registers, &thread->stack, (uint64_t *)thread->frames,
			  generation->limit, &complete);
	if (unlikely(is_wiped(thread)))
		return 0;
	thread_sees(thread, generation); /* before the usual way can find the path */
	traceback = intern(generation, thread, domain, (uint32_t)count, complete);
	if (unlikely(is_wiped(thread)))
		return 0;
	if (likely(followed)) {
		tm_join_end(recall, &unwinder->log, count);
		tm_path_end(path, &unwinder->log, registers.rip, registers.rsp,
			    tm_path_stamp(generation, &thread->stack, &unwinder->log), domain,
			    traceback);
	}
	tm_hint_set(recall, &unwinder->log, registers.rip, registers.rsp);
	if (unlikely(tm_walks_again(recall, registers.rsp, traceback)))
		thread_remember_more(thread);
	return traceback;
}

/* The same where the stack may be one that was seen before. */
static uint32_t recall(struct tm_generation *generation, struct tm_thread *thread,
		       const struct tm_entry *entry, uint32_t domain)
{
	uint64_t rip = tm_entry_rip(entry), rsp = tm_entry_rsp(entry);
	uint64_t stamp = tm_recall_stamp(generation, &thread->stack);
	struct tm_path *path = tm_path_at(&thread->recall, rip, rsp);
	uint32_t known;

	if (unlikely(!path))
		return record_walk(generation, thread, entry, domain);
	known = tm_recall(path, rip, rsp, stamp, domain);
	if (unlikely(!known))
		known = record_recall_second(&thread->recall, path, rip, rsp, stamp, domain);
	return likely(known) ? known : record_walk(generation, thread, entry, domain);
}

/* Where not every block is recorded: the filter knows of it, and it counts as what it stands for. */
static TM_NOINLINE bool put_chosen(struct tm_generation *generation, struct tm_thread *thread,
				   const struct tm_block *block)
{
	uint64_t replaced, period = generation->sample_period;
	enum table_result result;

	sample_count(generation->filter, block->address, +1);
	result = table_put(generation, thread_owner(thread), block, &replaced);
	if (result != TABLE_NONE)
		sample_count(generation->filter, block->address, -1);
	if (result == TABLE_DROPPED) {
		count_dropped();
		return false;
	}
	counter_add(generation, thread->number,
		    (int64_t)(tm_sample_bytes(block->size, period) -
			      tm_sample_bytes(replaced, period)));
	return true;
}

bool record_put(struct tm_generation *generation, struct tm_thread *thread,
		const struct tm_block *block)
{
	uint64_t replaced;

	if (unlikely(generation->filter))
		return put_chosen(generation, thread, block);
	if (likely(block->domain == TM_DOMAIN_MALLOC &&
		   table_put_usual(generation, thread->owner, block->address, &block->size,
				   &block->traceback))) {
		if (counter_fills(counter_of(generation, thread->number), block->size))
			counter_add(generation, thread->number, 0);
		return true;
	}
	if (unlikely(table_put(generation, thread_owner(thread), block, &replaced) ==
		     TABLE_DROPPED)) {
		count_dropped();
		return false;
	}
	counter_add(generation, thread->number, (int64_t)(block->size - replaced));
	return true;
}

bool record_chosen(struct tm_thread *thread, const struct tm_entry *entry, uint32_t domain,
		   uint64_t address, uint64_t size)
{
	struct tm_generation *generation = current_generation();
	struct tm_block block = {.address = address, .size = size, .domain = domain};

	block.traceback = recall(generation, thread, entry, domain);
	if (unlikely(!block.traceback)) {
		count_dropped();
		return false;
	}
	return record_put(generation, thread, &block);
}

bool record_block(struct tm_thread *thread, const struct tm_entry *entry, uint32_t domain,
		  uint64_t address, uint64_t size)
{
	const struct tm_generation *generation = current_generation();

	if (unlikely(generation->filter) && !sample_takes(generation, thread, size))
		return true;
	return record_chosen(thread, entry, domain, address, size);
}

static TM_NOINLINE bool forget_chosen(struct tm_generation *generation, struct tm_thread *thread,
				      uint32_t domain, uint64_t address, struct tm_block *ret)
{
	enum table_result result =
		table_take(generation, thread_owner(thread), address, domain, ret);

	if (result == TABLE_FOUND) {
		sample_count(generation->filter, address, -1);
		counter_add(generation, thread->number,
			    -(int64_t)tm_sample_bytes(ret->size, generation->sample_period));
	} else if (result == TABLE_DROPPED)
		count_dropped();
	return result == TABLE_FOUND;
}

bool record_forget(struct tm_generation *generation, struct tm_thread *thread, uint32_t domain,
		   uint64_t address, struct tm_block *ret)
{
	enum table_result result;

	if (unlikely(generation->filter))
		return sample_may_hold(generation->filter, address) &&
		       forget_chosen(generation, thread, domain, address, ret);
	result = table_take(generation, thread_owner(thread), address, domain, ret);
	if (likely(result == TABLE_FOUND))
		counter_add(generation, thread->number, -(int64_t)ret->size);
	else if (unlikely(result == TABLE_DROPPED))
		count_dropped();
	return result == TABLE_FOUND;
}
