/*
 * Grouping and comparing of traces, see analysis.h.
 *
 * May use: analysis.h, the C library.  Must not use: Python objects, gdb.
 * Must never recurse: a traceback may be as deep as a file says.
 */
#define _GNU_SOURCE /* qsort_r */
#include "analysis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "estimate.h"

static struct tm_error *too_much(void)
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

static size_t larger_capacity(const struct pairs *pairs)
{
	size_t capacity = pairs->capacity ? pairs->capacity * 2 : 1024;

	while (capacity < pairs->expected)
		capacity *= 2;
	return capacity;
}

static struct tm_error *pairs_grow(struct pairs *pairs)
{
	size_t capacity = larger_capacity(pairs);
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
	struct pairs pairs;       /* tracebacks: (parent's number + 1, key); sizes: (size, 0) … */
	uint32_t *depths;         /* tracebacks: by number, frames */
	struct estimate *sums[2]; /* new, old; by number */
	uint32_t *members[2];     /* tracebacks: by node, its number */
};

static struct tm_error *sum_recent(const struct traces *traces, struct estimate *sums)
{
	for (size_t i = 0; i < traces->row_count; i++) {
		const struct trace_row *row = &traces->rows[i];

		if (sum_add_row(&sums[traces->keys[traces->nodes[row->node].frame]], traces, row))
			return too_much();
	}
	return NULL;
}

/* What is allocated below each node, itself included. */
static struct tm_error *sum_nodes(const struct traces *traces, struct estimate **ret)
{
	struct estimate *sums = calloc(traces->node_count + 1, sizeof(*sums));
	int failed = 0;

	if (!sums)
		return tm_error_no_memory();
	for (size_t i = 0; i < traces->row_count && !failed; i++)
		failed = sum_add_row(&sums[traces->rows[i].node], traces, &traces->rows[i]);
	for (size_t i = traces->node_count; i-- && !failed;)
		if (traces->nodes[i].parent != TM_NO_NODE)
			failed = estimate_add(&sums[traces->nodes[i].parent], &sums[i]);
	if (failed) {
		free(sums);
		return too_much();
	}
	*ret = sums;
	return NULL;
}

static struct tm_error *sum_cumulative(const struct traces *traces, struct estimate *sums)
{
	struct tm_error *error;
	struct estimate *below;
	int failed = 0;

	error = sum_nodes(traces, &below);
	if (error)
		return error;
	for (size_t i = 0; i < traces->node_count && !failed; i++)
		failed = estimate_add(&sums[traces->keys[traces->nodes[i].frame]], &below[i]);
	free(below);
	return failed ? too_much() : NULL;
}

/*
 * Walks the tree depth first; `open` counts, by key, the frames between the
 * root and the node: only the outermost one of a key is added.
 */
static int walk_once(const struct traces *traces, const struct estimate *below, uint32_t *child,
		     const uint32_t *sibling, uint32_t *open, struct estimate *sums)
{
	uint32_t at = child[traces->node_count];

	while (at != TM_NO_NODE) {
		uint32_t key = traces->keys[traces->nodes[at].frame];

		if (open[key]++ == 0 && estimate_add(&sums[key], &below[at]))
			return -1;
		if (child[at] != TM_NO_NODE) {
			at = child[at];
			continue;
		}
		for (;;) { /* up to the next node that has not been seen */
			open[traces->keys[traces->nodes[at].frame]]--;
			if (sibling[at] != TM_NO_NODE) {
				at = sibling[at];
				break;
			}
			at = traces->nodes[at].parent;
			if (at == TM_NO_NODE)
				break;
		}
	}
	return 0;
}

static struct tm_error *sum_once(const struct traces *traces, size_t key_count,
				 struct estimate *sums)
{
	size_t count = traces->node_count;
	uint32_t *child = malloc((count + 1) * sizeof(*child)); /* the last: of the forest */
	uint32_t *sibling = malloc((count + 1) * sizeof(*sibling));
	uint32_t *open = calloc(key_count + 1, sizeof(*open));
	struct tm_error *error = NULL;
	struct estimate *below = NULL;

	if (!child || !sibling || !open)
		error = tm_error_no_memory();
	else
		error = sum_nodes(traces, &below);
	if (!error) {
		memset(child, 0xff, (count + 1) * sizeof(*child));
		for (size_t i = count; i--;) {
			size_t parent = traces->nodes[i].parent;

			parent = parent == TM_NO_NODE ? count : parent;
			sibling[i] = child[parent];
			child[parent] = (uint32_t)i;
		}
		if (walk_once(traces, below, child, sibling, open, sums) < 0)
			error = too_much();
	}
	free(child);
	free(sibling);
	free(open);
	free(below);
	return error;
}

/* ---- groups that are not keys --------------------------------------------------------- */

/* Gives each node of `traces` the number of its traceback, by keys. */
static struct tm_error *number_tracebacks(struct grouping *grouping, const struct traces *traces,
					  uint32_t **ret)
{
	uint32_t *numbers = malloc((traces->node_count + 1) * sizeof(*numbers));
	struct tm_error *error = numbers ? NULL : tm_error_no_memory();

	grouping->pairs.expected = traces->node_count;
	for (size_t i = 0; i < traces->node_count && !error; i++) {
		const struct trace_node *node = &traces->nodes[i];
		uint64_t parent = node->parent == TM_NO_NODE ? 0 : numbers[node->parent] + 1ull;

		error = pairs_number(&grouping->pairs, parent, traces->keys[node->frame],
				     &numbers[i]);
	}
	*ret = numbers;
	return error;
}

static uint64_t row_number(const struct trace_row *row, enum group_mode mode)
{
	return mode == GROUP_SIZE ? row->size : row->domain;
}

/* Numbers all groups, of which the sums are then made; keys have numbers already. */
static struct tm_error *number_groups(struct grouping *grouping, const struct traces *traces,
				      int side)
{
	struct tm_error *error = NULL;
	uint32_t ignored;

	if (grouping->mode == GROUP_TRACEBACK)
		return number_tracebacks(grouping, traces, &grouping->members[side]);
	if (grouping->mode != GROUP_SIZE && grouping->mode != GROUP_DOMAIN)
		return NULL;
	for (size_t i = 0; i < traces->row_count && !error; i++)
		error = pairs_number(&grouping->pairs, row_number(&traces->rows[i], grouping->mode),
				     0, &ignored);
	return error;
}

static struct tm_error *sum_rows(struct grouping *grouping, const struct traces *traces, int side)
{
	struct estimate *sums = grouping->sums[side];

	for (size_t i = 0; i < traces->row_count; i++) {
		const struct trace_row *row = &traces->rows[i];
		uint32_t number;

		if (grouping->mode == GROUP_TRACEBACK)
			number = grouping->members[side][row->node];
		else
			number =
				*pairs_place(&grouping->pairs, row_number(row, grouping->mode), 0) -
				1;
		if (sum_add_row(&sums[number], traces, row))
			return too_much();
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
		return sum_cumulative(traces, grouping->sums[side]);
	case GROUP_ONCE:
		return sum_once(traces, grouping->key_count, grouping->sums[side]);
	default:
		return sum_rows(grouping, traces, side);
	}
}

/* ---- order ------------------------------------------------------------------------------ */

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

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

static int compare_groups(const struct grouping *grouping, const struct trace_group *a,
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
	if (!order)
		order = COMPARE(magnitude(a->count_diff), magnitude(b->count_diff));
	if (!order)
		order = COMPARE(a->count, b->count);
	return order ? order : COMPARE(a->place, b->place);
}

static int compare_largest_first(const void *left, const void *right, void *context)
{
	return -compare_groups(context, left, right);
}

/* The caller's number; TM_NO_NODE above the oldest frame. */
static uint32_t caller(const struct grouping *grouping, uint32_t number)
{
	return (uint32_t)(grouping->pairs.first[number] - 1);
}

/* Links the children of each traceback in the order of their keys. */
static struct tm_error *link_children(const struct grouping *grouping, uint32_t *child,
				      uint32_t *sibling)
{
	size_t count = grouping->pairs.count, key_count = grouping->key_count;
	uint32_t *starts = calloc(key_count + 1, sizeof(*starts)); /* by rank */
	uint32_t *sorted = malloc((count + 1) * sizeof(*sorted));  /* numbers, by rank */

	if (!starts || !sorted) {
		free(starts);
		free(sorted);
		return tm_error_no_memory();
	}
	for (size_t i = 0; i < count; i++)
		starts[grouping->ranks[grouping->pairs.second[i]] + 1]++;
	for (size_t i = 0; i < key_count; i++)
		starts[i + 1] += starts[i];
	for (size_t i = 0; i < count; i++)
		sorted[starts[grouping->ranks[grouping->pairs.second[i]]]++] = (uint32_t)i;
	memset(child, 0xff, (count + 1) * sizeof(*child));
	for (size_t i = count; i--;) { /* the first of a list is added last */
		uint32_t parent = caller(grouping, sorted[i]);
		size_t head = parent == TM_NO_NODE ? count : parent;

		sibling[sorted[i]] = child[head];
		child[head] = sorted[i];
	}
	free(starts);
	free(sorted);
	return NULL;
}

/*
 * Tracebacks compare as sequences of keys, oldest frame first: that is the
 * order in which a walk of the tree, depth first, comes to them.
 */
static struct tm_error *order_tracebacks(const struct grouping *grouping, uint32_t *places)
{
	size_t count = grouping->pairs.count;
	uint32_t *child = malloc((count + 1) * sizeof(*child)); /* the last: of the forest */
	uint32_t *sibling = malloc((count + 1) * sizeof(*sibling));
	struct tm_error *error = NULL;
	uint32_t place = 0;

	if (!child || !sibling)
		error = tm_error_no_memory();
	else
		error = link_children(grouping, child, sibling);
	for (uint32_t at = error ? TM_NO_NODE : child[count]; at != TM_NO_NODE;) {
		places[at] = place++;
		if (child[at] != TM_NO_NODE) {
			at = child[at];
			continue;
		}
		while (at != TM_NO_NODE && sibling[at] == TM_NO_NODE)
			at = caller(grouping, at);
		if (at != TM_NO_NODE)
			at = sibling[at];
	}
	free(child);
	free(sibling);
	return error;
}

/* Gives each group, which still has its number for an id, its place among all names. */
static struct tm_error *place_groups(const struct grouping *grouping, struct trace_group *groups,
				     size_t count)
{
	struct tm_error *error = NULL;
	uint32_t *places = NULL;

	if (grouping->mode == GROUP_TRACEBACK) {
		places = malloc((grouping->pairs.count + 1) * sizeof(*places));
		error = places ? order_tracebacks(grouping, places) : tm_error_no_memory();
	}
	for (size_t i = 0; i < count && !error; i++) {
		uint64_t number = groups[i].id;

		if (grouping->mode == GROUP_TRACEBACK)
			groups[i].place = places[number];
		else if (grouping->mode > GROUP_TRACEBACK)
			groups[i].place = grouping->pairs.first[number];
		else
			groups[i].place = grouping->ranks[number];
	}
	free(places);
	return error;
}

/* ---- the answer ----------------------------------------------------------------------------- */

static size_t collect(const struct grouping *grouping, size_t group_count,
		      struct trace_group *groups)
{
	size_t count = 0;

	for (size_t i = 0; i < group_count; i++) {
		const struct estimate *new = &grouping->sums[0][i];
		const struct estimate *old = grouping->sums[1] ? &grouping->sums[1][i] : NULL;
		uint64_t blocks = estimate_count(new);

		if (!new->count && (!old || !old->count))
			continue;
		groups[count] = (struct trace_group){
			.id = i,
			.size = new->size,
			.count = blocks,
			.size_error = sqrt(new->size_variance),
			.count_error = sqrt(new->count_variance),
		};
		if (old) {
			groups[count].size_diff = (int64_t)(new->size - old->size);
			groups[count].count_diff = (int64_t)(blocks - estimate_count(old));
			groups[count].size_diff_error =
				sqrt(new->size_variance + old->size_variance);
			groups[count].count_diff_error =
				sqrt(new->count_variance + old->count_variance);
		}
		count++;
	}
	return count;
}

/* Turns numbers into ids: for tracebacks a node that has the number. */
static struct tm_error *name_groups(const struct grouping *grouping, const struct traces *new,
				    const struct traces *old, struct trace_group *groups,
				    size_t count)
{
	uint64_t *ids = calloc(grouping->pairs.count + 1, sizeof(*ids));

	if (!ids)
		return tm_error_no_memory();
	if (grouping->mode == GROUP_TRACEBACK) {
		for (size_t i = old ? old->node_count : 0; i--;)
			ids[grouping->members[1][i]] = i | UINT64_C(1) << 32;
		for (size_t i = new->node_count; i--;)
			ids[grouping->members[0][i]] = i;
	} else {
		memcpy(ids, grouping->pairs.first, grouping->pairs.count * sizeof(*ids));
	}
	for (size_t i = 0; i < count; i++) {
		uint64_t id = ids[groups[i].id];

		if (grouping->mode == GROUP_TRACEBACK) {
			groups[i].old = id >> 32;
			id = (uint32_t)id;
		}
		groups[i].id = id;
	}
	free(ids);
	return NULL;
}

static struct tm_error *make_groups(struct grouping *grouping, const struct traces *new,
				    const struct traces *old, struct trace_group **ret_groups,
				    size_t *ret_count)
{
	int named = grouping->mode >= GROUP_TRACEBACK;
	struct tm_error *error = number_groups(grouping, new, 0);
	size_t group_count;

	if (!error && old)
		error = number_groups(grouping, old, 1);
	if (error)
		return error;
	group_count = named ? grouping->pairs.count : grouping->key_count;
	error = sum_groups(grouping, new, group_count, 0);
	if (!error && old)
		error = sum_groups(grouping, old, group_count, 1);
	if (error)
		return error;
	*ret_groups = malloc((group_count + 1) * sizeof(**ret_groups));
	if (!*ret_groups)
		return tm_error_no_memory();
	*ret_count = collect(grouping, group_count, *ret_groups);
	error = place_groups(grouping, *ret_groups, *ret_count);
	if (error)
		return error;
	qsort_r(*ret_groups, *ret_count, sizeof(**ret_groups), compare_largest_first, grouping);
	for (size_t i = 0; i < *ret_count; i++)
		(*ret_groups)[i].old = 0;
	return named ? name_groups(grouping, new, old, *ret_groups, *ret_count) : NULL;
}

struct tm_error *traces_group(const struct traces *new, const struct traces *old,
			      enum group_mode mode, enum group_order order, const uint32_t *ranks,
			      size_t key_count, struct trace_group **ret_groups, size_t *ret_count)
{
	struct grouping grouping = {
		.mode = mode, .order = order, .ranks = ranks, .key_count = key_count};
	struct tm_error *error;

	*ret_groups = NULL;
	error = make_groups(&grouping, new, old, ret_groups, ret_count);
	if (error) {
		free(*ret_groups);
		*ret_groups = NULL;
	}
	pairs_deinit(&grouping.pairs);
	for (int side = 0; side < 2; side++) {
		free(grouping.sums[side]);
		free(grouping.members[side]);
	}
	return error;
}
