/*
 * Equal tracebacks of one or two snapshots, and their order.
 *
 * May use: analysis.h.  Must not use: Python objects, gdb.
 *
 * Nodes of both snapshots are numbered as one: those of the new one first,
 * then those of the old one.  Tracebacks are equal when their frames have
 * equal keys; a class is the first node of those with an equal traceback, so
 * that a class, too, is higher than that of its caller.
 */
#ifndef TM_ANALYSIS_TRACEBACKS_H
#define TM_ANALYSIS_TRACEBACKS_H

#include "analysis.h"

struct tracebacks {
	const struct traces *sides[2]; /* new, old or NULL */
	const uint32_t *ranks;         /* by key: its place among all keys, in their order */
	size_t new_count;              /* nodes of the new snapshot */
	size_t node_count;             /* of both */
	uint32_t *classes;             /* by node */
	uint32_t *numbers;    /* by class, from 1 on where a row names it, else 0; see below */
	uint32_t *named;      /* by number - 1, its class */
	size_t count;         /* different tracebacks that rows name */
	uint32_t *places;     /* by class, in the order of tracebacks; NULL until asked for */
	uint64_t comparisons; /* frames that were looked at to compare without places */
};

/* Finds and numbers the different tracebacks; tracebacks_deinit() in any case. */
struct tm_error *tracebacks_init(const struct traces *new, const struct traces *old,
				 const uint32_t *ranks, struct tracebacks *ret)
	__attribute__((warn_unused_result));
void tracebacks_deinit(struct tracebacks *tracebacks);

/* Puts all in order once, so that the depth is without effect on later comparisons. */
struct tm_error *tracebacks_place(struct tracebacks *tracebacks)
	__attribute__((warn_unused_result));

/*
 * Tracebacks compare as sequences of keys, oldest frame first, as those of
 * tracemalloc.  Below 0, 0 or above, as the class `a` is to the class `b`.
 */
int tracebacks_compare(struct tracebacks *tracebacks, uint32_t a, uint32_t b);

/* The number, from 0 on, of the traceback of a row of the new (0) or old (1) snapshot. */
static inline uint32_t tracebacks_number(const struct tracebacks *tracebacks, int side,
					 const struct trace_row *row)
{
	size_t node = row->node + (side ? tracebacks->new_count : 0);

	return tracebacks->numbers[tracebacks->classes[node]] - 1;
}

#endif
