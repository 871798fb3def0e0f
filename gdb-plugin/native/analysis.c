/*
 * Grouping and comparing of traces, see analysis.h.
 *
 * May use: analysis.h, analysis_tracebacks.h, the C library.  Must not use: Python objects, gdb.
 * Must never recurse: a traceback may be as deep as a file says.
 */
#define _GNU_SOURCE /* qsort_r */
#include "analysis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis_tracebacks.h"
#include "estimate.h"

struct tm_error *traces_too_much(void)
{
	return tm_error_new(TM_ERROR_INPUT, "the snapshot's blocks add up to more than 2^63 bytes");
}

/* ---- numbered pairs ---------------------------------------------------------- */

static uint32_t *pairs_place(const struct pairs *pairs, uint64_t first, uint64_t second)
{
	size_t at = traces_hash(first, second) & pairs->mask;

	while (pairs->index[at] && (pairs->first[pairs->index[at] - 1] != first ||
				    pairs->second[pairs->index[at] - 1] != second))
		at = (at + 1) & pairs->mask;
	return &pairs->index[at];
}

static struct tm_error *pairs_grow(struct pairs *pairs)
{
	size_t capacity = pairs->capacity ? pairs->capacity * 2 : 1024;
	uint64_t *first = realloc(pairs->first, capacity * sizeof(*first));
	uint64_t *second = realloc(pairs->second, capacity * sizeof(*second));
	uint32_t *index = calloc(capacity * 2, sizeof(*index));

	if (first)
		pairs->first = first;
	if (second)
		pairs->second = second;
	if (!first || !second || !index || capacity > UINT32_MAX) {
		free(index);
		return tm_error_no_memory();
	}
	free(pairs->index);
	pairs->index = index;
	pairs->mask = capacity * 2 - 1;
	pairs->capacity = capacity;
	for (size_t i = 0; i < pairs->count; i++)
		*pairs_place(pairs, first[i], second[i]) = (uint32_t)i + 1;
	return NULL;
}

struct tm_error *pairs_number(struct pairs *pairs, uint64_t first, uint64_t second, uint32_t *ret)
{
	uint32_t *place;

	if (pairs->count == pairs->capacity) {
		struct tm_error *error = pairs_grow(pairs);

		if (error)
			return error;
	}
	place = pairs_place(pairs, first, second);
	if (!*place) {
		pairs->first[pairs->count] = first;
		pairs->second[pairs->count] = second;
		*place = (uint32_t)++pairs->count;
	}
	*ret = *place - 1;
	return NULL;
}

void pairs_deinit(struct pairs *pairs)
{
	free(pairs->first);
	free(pairs->second);
	free(pairs->index);
}

/* ---- sums ------------------------------------------------------------------------ */

/* Adds `row` to `sum`. */
static int sum_add_row(struct estimate *sum, const struct traces *traces,
		       const struct trace_row *row)
{
	return estimate_add_blocks(sum, row->size, row->count, traces->period);
}

/* The groups of one or two snapshots: numbers from 0, the same for both. */
struct grouping {
	enum group_mode mode;
	enum group_order order;
	const uint32_t *ranks; /* by key: its place among all keys, in their order */
	size_t key_count;
	struct pairs pairs; /* sizes: (size, 0) …, by number */
	struct tracebacks tracebacks;
	struct estimate *sums[2]; /* new, old; by number */
};

static struct tm_error *sum_recent(const struct traces *traces, struct estimate *sums)
{
	for (size_t i = 0; i < traces->row_count; i++) {
		const struct trace_row *row = &traces->rows[i];

		if (sum_add_row(&sums[traces->keys[traces->nodes[row->node].frame]], traces, row))
			return traces_too_much();
	}
	return NULL;
}

/* ---- groups that are not keys --------------------------------------------------------- */

static uint64_t row_number(const struct trace_row *row, enum group_mode mode)
{
	return mode == GROUP_SIZE ? row->size : row->domain;
}

/* Numbers all groups, of which the sums are then made; keys have numbers already. */
static struct tm_error *number_rows(struct grouping *grouping, const struct traces *traces)
{
	struct tm_error *error = NULL;
	uint32_t ignored;

	for (size_t i = 0; i < traces->row_count && !error; i++)
		error = pairs_number(&grouping->pairs, row_number(&traces->rows[i], grouping->mode),
				     0, &ignored);
	return error;
}

static struct tm_error *number_groups(struct grouping *grouping, const struct traces *new,
				      const struct traces *old, size_t *ret_count)
{
	struct tm_error *error = NULL;

	switch (grouping->mode) {
	case GROUP_TRACEBACK:
		error = tracebacks_init(new, old, grouping->ranks, &grouping->tracebacks);
		*ret_count = grouping->tracebacks.count;
		return error;
	case GROUP_SIZE:
	case GROUP_DOMAIN:
		error = number_rows(grouping, new);
		if (!error && old)
			error = number_rows(grouping, old);
		*ret_count = grouping->pairs.count;
		return error;
	default:
		*ret_count = grouping->key_count;
		return NULL;
	}
}

static struct tm_error *sum_rows(struct grouping *grouping, const struct traces *traces, int side)
{
	for (size_t i = 0; i < traces->row_count; i++) {
		const struct trace_row *row = &traces->rows[i];
		uint32_t number;

		if (grouping->mode == GROUP_TRACEBACK)
			number = tracebacks_number(&grouping->tracebacks, side, row);
		else
			number =
				*pairs_place(&grouping->pairs, row_number(row, grouping->mode), 0) -
				1;
		if (sum_add_row(&grouping->sums[side][number], traces, row))
			return traces_too_much();
	}
	return NULL;
}

static struct tm_error *sum_groups(struct grouping *grouping, const struct traces *traces,
				   size_t group_count, int side)
{
	grouping->sums[side] = calloc(group_count + 1, sizeof(struct estimate));
	if (!grouping->sums[side])
		return tm_error_no_memory();
	switch (grouping->mode) {
	case GROUP_RECENT:
		return sum_recent(traces, grouping->sums[side]);
	case GROUP_CUMULATIVE:
	case GROUP_ONCE:
		return traces_sum_paths(traces, grouping->key_count, grouping->mode == GROUP_ONCE,
					grouping->sums[side]);
	default:
		return sum_rows(grouping, traces, side);
	}
}

/* ---- order ------------------------------------------------------------------------------ */

static int compare_averages(const struct trace_group *a, const struct trace_group *b)
{
	unsigned __int128 left = (unsigned __int128)a->size * b->count;
	unsigned __int128 right = (unsigned __int128)b->size * a->count;

	return COMPARE(left, right);
}

static uint64_t magnitude(int64_t value)
{
	return value < 0 ? -(uint64_t)value : (uint64_t)value;
}

/* By what the groups, which still have their numbers for ids, are called. */
static int compare_names(struct grouping *grouping, uint64_t a, uint64_t b)
{
	struct tracebacks *tracebacks = &grouping->tracebacks;

	switch (grouping->mode) {
	case GROUP_TRACEBACK:
		return tracebacks_compare(tracebacks, tracebacks->named[a], tracebacks->named[b]);
	case GROUP_SIZE:
	case GROUP_DOMAIN:
		return COMPARE(grouping->pairs.first[a], grouping->pairs.first[b]);
	default:
		return COMPARE(grouping->ranks[a], grouping->ranks[b]);
	}
}

static int compare_groups(struct grouping *grouping, const struct trace_group *a,
			  const struct trace_group *b)
{
	int order = 0;

	if (grouping->order == ORDER_DIFFERENCE)
		order = COMPARE(magnitude(a->size_diff), magnitude(b->size_diff));
	else if (grouping->order == ORDER_COUNT)
		order = COMPARE(a->count, b->count);
	else if (grouping->order == ORDER_AVERAGE)
		order = compare_averages(a, b);
	if (!order)
		order = COMPARE(a->size, b->size);
	if (!order && grouping->order == ORDER_DIFFERENCE)
		order = COMPARE(magnitude(a->count_diff), magnitude(b->count_diff));
	if (!order)
		order = COMPARE(a->count, b->count);
	return order ? order : compare_names(grouping, a->id, b->id);
}

static int compare_largest_first(const void *left, const void *right, void *context)
{
	return -compare_groups(context, left, right);
}

/* ---- the answer ----------------------------------------------------------------------------- */

/*
 * Deep tracebacks that hardly differ are dear to compare: at some point it is
 * cheaper to put all of them in order, which takes about as long for each
 * frame as to look at so many in comparisons.
 */
#define PATIENCE 8ull

static struct tm_error *end_patience(struct grouping *grouping)
{
	struct tracebacks *tracebacks = &grouping->tracebacks;

	if (tracebacks->comparisons <= PATIENCE * tracebacks->node_count || tracebacks->places)
		return NULL;
	return tracebacks_place(tracebacks);
}

/* Moves the group at `at` down in a heap that has the last in order on top. */
static struct tm_error *sift_down(struct grouping *grouping, struct trace_group *heap, size_t count,
				  size_t at)
{
	struct trace_group moved = heap[at];

	for (size_t next; (next = 2 * at + 1) < count; at = next) {
		if (next + 1 < count && compare_groups(grouping, &heap[next + 1], &heap[next]) < 0)
			next++;
		if (compare_groups(grouping, &moved, &heap[next]) <= 0)
			break;
		heap[at] = heap[next];
	}
	heap[at] = moved;
	return end_patience(grouping);
}

static struct tm_error *make_heap(struct grouping *grouping, struct trace_group *groups,
				  size_t count)
{
	struct tm_error *error = NULL;

	for (size_t i = count / 2; i-- && !error;)
		error = sift_down(grouping, groups, count, i);
	return error;
}

/* Keeps `group` when it is one of the first `limit` so far, which may not be 0. */
static struct tm_error *keep_first(struct grouping *grouping, const struct trace_group *group,
				   size_t limit, struct trace_groups *kept)
{
	size_t before = kept->count++;
	struct tm_error *error = NULL;

	kept->size += group->size;
	kept->blocks += group->count;
	if (before < limit) {
		kept->first[kept->first_count++] = *group;
		return NULL;
	}
	if (before == limit)
		error = make_heap(grouping, kept->first, limit);
	if (error)
		return error;
	if (compare_groups(grouping, group, &kept->first[0]) <= 0)
		return end_patience(grouping);
	kept->first[0] = *group;
	return sift_down(grouping, kept->first, limit, 0);
}

/* Puts what was kept in order. */
static struct tm_error *sort_first(struct grouping *grouping, struct trace_groups *kept)
{
	struct tm_error *error = make_heap(grouping, kept->first, kept->first_count);

	for (size_t left = kept->first_count; left > 1 && !error;) {
		struct trace_group last = kept->first[0];

		kept->first[0] = kept->first[--left];
		kept->first[left] = last;
		error = sift_down(grouping, kept->first, left, 0);
	}
	return error;
}

static struct tm_error *sort_all(struct grouping *grouping, struct trace_groups *kept)
{
	if (grouping->mode == GROUP_TRACEBACK) {
		struct tm_error *error = tracebacks_place(&grouping->tracebacks);

		if (error)
			return error;
	}
	qsort_r(kept->first, kept->first_count, sizeof(*kept->first), compare_largest_first,
		grouping);
	return NULL;
}

/* Not 0 where there are no blocks. */
static int make_group(const struct grouping *grouping, size_t number, struct trace_group *ret)
{
	const struct estimate *new = &grouping->sums[0][number];
	const struct estimate *old = grouping->sums[1] ? &grouping->sums[1][number] : NULL;

	if (!new->count && (!old || !old->count))
		return -1;
	*ret = (struct trace_group){
		.id = number,
		.size = new->size,
		.count = estimate_count(new),
		.size_error = sqrt(new->size_variance),
		.count_error = sqrt(new->count_variance),
	};
	if (old) {
		ret->size_diff = (int64_t)(new->size - old->size);
		ret->count_diff = (int64_t)(ret->count - estimate_count(old));
		ret->size_diff_error = sqrt(new->size_variance + old->size_variance);
		ret->count_diff_error = sqrt(new->count_variance + old->count_variance);
	}
	return 0;
}

/* The first `limit` groups, or more, in order. */
static struct tm_error *select_first(struct grouping *grouping, size_t group_count, size_t limit,
				     struct trace_groups *ret)
{
	int all = limit >= group_count / 8;
	struct tm_error *error = NULL;

	limit = all ? group_count : limit ? limit : 1;
	ret->first = malloc((limit + 1) * sizeof(*ret->first));
	if (!ret->first)
		return tm_error_no_memory();
	for (size_t i = 0; i < group_count && !error; i++) {
		struct trace_group group;

		if (make_group(grouping, i, &group) == 0)
			error = keep_first(grouping, &group, limit, ret);
	}
	if (error)
		return error;
	return all ? sort_all(grouping, ret) : sort_first(grouping, ret);
}

/* Turns numbers into ids: for tracebacks a node that has the number. */
static void name_groups(const struct grouping *grouping, struct trace_groups *groups)
{
	const struct tracebacks *tracebacks = &grouping->tracebacks;

	for (size_t i = 0; i < groups->first_count; i++) {
		struct trace_group *group = &groups->first[i];

		if (grouping->mode == GROUP_TRACEBACK) {
			group->id = tracebacks->named[group->id];
			group->old = group->id >= tracebacks->new_count;
			group->id -= group->old ? tracebacks->new_count : 0;
		} else if (grouping->mode == GROUP_SIZE || grouping->mode == GROUP_DOMAIN) {
			group->id = grouping->pairs.first[group->id];
		}
	}
}

static struct tm_error *make_groups(struct grouping *grouping, const struct traces *new,
				    const struct traces *old, size_t limit,
				    struct trace_groups *ret)
{
	size_t group_count;
	struct tm_error *error = number_groups(grouping, new, old, &group_count);

	if (!error)
		error = sum_groups(grouping, new, group_count, 0);
	if (!error && old)
		error = sum_groups(grouping, old, group_count, 1);
	if (!error)
		error = select_first(grouping, group_count, limit, ret);
	if (!error)
		name_groups(grouping, ret);
	return error;
}

struct tm_error *traces_group(const struct traces *new, const struct traces *old,
			      enum group_mode mode, enum group_order order, size_t limit,
			      const uint32_t *ranks, size_t key_count, struct trace_groups *ret)
{
	struct grouping grouping = {
		.mode = mode, .order = order, .ranks = ranks, .key_count = key_count};
	struct tm_error *error;

	*ret = (struct trace_groups){.first = NULL};
	error = make_groups(&grouping, new, old, limit, ret);
	if (error) {
		free(ret->first);
		ret->first = NULL;
	}
	pairs_deinit(&grouping.pairs);
	tracebacks_deinit(&grouping.tracebacks);
	for (int side = 0; side < 2; side++)
		free(grouping.sums[side]);
	return error;
}
