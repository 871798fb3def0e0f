/*
 * New trees from old ones, see analysis_trees.h.
 *
 * May use: analysis_trees.h, the C library.  Must not use: Python objects, gdb.
 * Must never recurse.
 */
#include "analysis_trees.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "estimate.h"

void made_traces_deinit(struct made_traces *made)
{
	free(made->rows);
	free(made->nodes);
}

/* ---- from an image ----------------------------------------------------------- */

/* `lasts`: by node of the image, the node of its innermost frame in the new tree. */
static struct tm_error *expand_nodes(const struct tm_image_view *image, const uint32_t *starts,
				     const uint32_t *lengths, uint32_t *lasts,
				     struct made_traces *made)
{
	uint64_t total = 1; /* the unknown frame's */

	for (uint64_t i = 0; i < image->header->node_count; i++)
		total += lengths[i];
	if (total >= TM_NO_NODE)
		return tm_error_new(TM_ERROR_INPUT, "the snapshot has too many frames");
	made->nodes = malloc(total * sizeof(*made->nodes));
	if (!made->nodes)
		return tm_error_no_memory();
	for (uint64_t i = 0; i < image->header->node_count; i++) {
		uint32_t parent = image->nodes[i].parent;

		parent = parent == TM_NO_NODE ? TM_NO_NODE : lasts[parent];
		for (uint32_t inner = lengths[i]; inner--;) {
			made->nodes[made->node_count] =
				(struct trace_node){starts[i] + inner, parent};
			parent = (uint32_t)made->node_count++;
		}
		lasts[i] = parent;
	}
	return NULL;
}

static struct tm_error *copy_image_rows(const struct tm_image_view *image, const uint32_t *lasts,
					uint32_t unknown, struct made_traces *made)
{
	uint64_t count = image->header->row_count;
	uint32_t *depths = malloc((made->node_count + 1) * sizeof(*depths));
	uint32_t nothing = TM_NO_NODE;

	made->rows = malloc((count + 1) * sizeof(*made->rows));
	if (!made->rows || !depths) {
		free(depths);
		return tm_error_no_memory();
	}
	for (size_t i = 0; i < made->node_count; i++)
		depths[i] =
			made->nodes[i].parent == TM_NO_NODE ? 1 : depths[made->nodes[i].parent] + 1;
	for (uint64_t i = 0; i < count; i++) {
		const struct tm_row *row = &image->rows[i];
		int empty = row->traceback == TM_NO_NODE;

		if (empty && nothing == TM_NO_NODE) {
			nothing = (uint32_t)made->node_count++;
			made->nodes[nothing] = (struct trace_node){unknown, TM_NO_NODE};
			depths[nothing] = 0;
		}
		made->rows[i] = (struct trace_row){
			.size = row->size,
			.count = row->count,
			.node = empty ? nothing : lasts[row->traceback],
			.domain = row->domain,
		};
		made->rows[i].total = row->truncated ? -1 : (int64_t)depths[made->rows[i].node];
	}
	made->row_count = count;
	free(depths);
	return NULL;
}

struct tm_error *traces_from_image(const struct tm_image_view *image, const uint32_t *starts,
				   const uint32_t *lengths, uint32_t unknown,
				   struct made_traces *ret)
{
	uint32_t *lasts = malloc((image->header->node_count + 1) * sizeof(*lasts));
	struct tm_error *error = lasts ? NULL : tm_error_no_memory();

	*ret = (struct made_traces){NULL, 0, NULL, 0};
	if (!error)
		error = expand_nodes(image, starts, lengths, lasts, ret);
	if (!error)
		error = copy_image_rows(image, lasts, unknown, ret);
	free(lasts);
	return error;
}

/* ---- filters -------------------------------------------------------------------- */

/* By node: does it or any of its callers match? */
static struct tm_error *match_callers(const struct traces *traces, const uint8_t *match,
				      uint8_t **ret)
{
	uint8_t *any = malloc(traces->node_count + 1);

	if (!any)
		return tm_error_no_memory();
	for (size_t i = 0; i < traces->node_count; i++) {
		const struct trace_node *node = &traces->nodes[i];

		any[i] = match[node->frame] || (node->parent != TM_NO_NODE && any[node->parent]);
	}
	*ret = any;
	return NULL;
}

/* What tracemalloc's _match() says of the row. */
static int filter_accepts(const struct traces *traces, const struct trace_filter *filter,
			  const uint8_t *any, const struct trace_row *row)
{
	int inclusive = (filter->flags & FILTER_INCLUSIVE) != 0;
	int domain_matches = filter->domain == row->domain;
	int matches;

	if (filter->flags & FILTER_DOMAIN_ONLY)
		return domain_matches == inclusive;
	matches = any ? any[row->node] : filter->match[traces->nodes[row->node].frame];
	matches = matches == inclusive;
	if (!(filter->flags & FILTER_HAS_DOMAIN))
		return matches;
	return inclusive ? matches && domain_matches : matches || !domain_matches;
}

static int row_passes(const struct traces *traces, const struct trace_filter *filters,
		      uint8_t *const *any, size_t filter_count, const struct trace_row *row)
{
	int wanted = 0, included = 0;

	for (size_t i = 0; i < filter_count; i++) {
		int accepts = filter_accepts(traces, &filters[i], any[i], row);

		if (filters[i].flags & FILTER_INCLUSIVE) {
			wanted = 1;
			included |= accepts;
		} else if (!accepts) {
			return 0;
		}
	}
	return included || !wanted;
}

struct tm_error *traces_filter(const struct traces *traces, const struct trace_filter *filters,
			       size_t filter_count, struct made_traces *ret)
{
	uint8_t **any = calloc(filter_count + 1, sizeof(*any));
	struct tm_error *error = NULL;

	*ret = (struct made_traces){NULL, 0, NULL, 0};
	ret->rows = malloc((traces->row_count + 1) * sizeof(*ret->rows));
	if (!any || !ret->rows)
		error = tm_error_no_memory();
	for (size_t i = 0; i < filter_count && !error; i++)
		if (filters[i].flags & FILTER_ALL_FRAMES)
			error = match_callers(traces, filters[i].match, &any[i]);
	for (size_t i = 0; i < traces->row_count && !error; i++)
		if (row_passes(traces, filters, any, filter_count, &traces->rows[i]))
			ret->rows[ret->row_count++] = traces->rows[i];
	for (size_t i = 0; any && i < filter_count; i++)
		free(any[i]);
	free(any);
	return error;
}

/* ---- frames left out ---------------------------------------------------------------- */

static struct tm_error *copy_rows(const struct traces *traces, struct made_traces *ret)
{
	*ret = (struct made_traces){NULL, 0, NULL, 0};
	ret->rows = malloc((traces->row_count + 1) * sizeof(*ret->rows));
	if (!ret->rows)
		return tm_error_no_memory();
	if (traces->row_count)
		memcpy(ret->rows, traces->rows, traces->row_count * sizeof(*ret->rows));
	ret->row_count = traces->row_count;
	return NULL;
}

static int compare_rows(const void *left, const void *right)
{
	const struct trace_row *a = left, *b = right;

	if (a->node != b->node)
		return COMPARE(a->node, b->node);
	if (a->domain != b->domain)
		return COMPARE(a->domain, b->domain);
	if (a->total != b->total)
		return COMPARE(a->total, b->total);
	return COMPARE(a->size, b->size);
}

/* Rows that became equal are one; a sum that does not fit stays apart. */
static void merge_rows(struct made_traces *made)
{
	size_t kept = 0;

	qsort(made->rows, made->row_count, sizeof(*made->rows), compare_rows);
	for (size_t i = 0; i < made->row_count; i++) {
		uint64_t sum;

		if (kept && compare_rows(&made->rows[kept - 1], &made->rows[i]) == 0 &&
		    !__builtin_add_overflow(made->rows[kept - 1].count, made->rows[i].count, &sum))
			made->rows[kept - 1].count = sum;
		else
			made->rows[kept++] = made->rows[i];
	}
	made->row_count = kept;
}

struct tm_error *traces_skip(const struct traces *traces, const uint8_t *skip,
			     struct made_traces *ret)
{
	struct tm_error *error = copy_rows(traces, ret);
	uint32_t *first;

	if (error)
		return error;
	first = malloc((traces->node_count + 1) * sizeof(*first));
	if (!first)
		return tm_error_no_memory();
	for (size_t i = 0; i < traces->node_count; i++) {
		const struct trace_node *node = &traces->nodes[i];

		if (!skip[node->frame])
			first[i] = (uint32_t)i;
		else
			first[i] = node->parent == TM_NO_NODE ? TM_NO_NODE : first[node->parent];
	}
	for (size_t i = 0; i < ret->row_count; i++)
		if (first[ret->rows[i].node] != TM_NO_NODE)
			ret->rows[i].node = first[ret->rows[i].node];
	merge_rows(ret);
	free(first);
	return NULL;
}

/* `moved`: by node, its number in the new tree, or its next caller's that is kept. */
static struct tm_error *drop_nodes(const struct traces *traces, const uint8_t *drop,
				   struct pairs *pairs, uint32_t *moved)
{
	struct tm_error *error = NULL;

	for (size_t i = 0; i < traces->node_count && !error; i++) {
		const struct trace_node *node = &traces->nodes[i];
		uint32_t parent = node->parent == TM_NO_NODE ? TM_NO_NODE : moved[node->parent];

		if (drop[node->frame] && parent != TM_NO_NODE)
			moved[i] = parent;
		else
			error = pairs_number(pairs, parent, node->frame, &moved[i]);
	}
	return error;
}

struct tm_error *traces_drop(const struct traces *traces, const uint8_t *drop,
			     struct made_traces *ret)
{
	struct tm_error *error = copy_rows(traces, ret);
	uint32_t *moved = malloc((traces->node_count + 1) * sizeof(*moved));
	struct pairs pairs = {.count = 0};

	if (!error && !moved)
		error = tm_error_no_memory();
	if (!error)
		error = drop_nodes(traces, drop, &pairs, moved);
	if (!error) {
		ret->nodes = malloc((pairs.count + 1) * sizeof(*ret->nodes));
		if (!ret->nodes)
			error = tm_error_no_memory();
	}
	for (size_t i = 0; i < pairs.count && !error; i++)
		ret->nodes[i] =
			(struct trace_node){(uint32_t)pairs.second[i], (uint32_t)pairs.first[i]};
	ret->node_count = pairs.count;
	for (size_t i = 0; i < ret->row_count && !error; i++)
		ret->rows[i].node = moved[ret->rows[i].node];
	if (!error)
		merge_rows(ret);
	pairs_deinit(&pairs);
	free(moved);
	return error;
}

/* ---- totals -------------------------------------------------------------------------- */

static struct tm_error *measure_depth(const struct traces *traces, struct traces_measure *ret)
{
	uint32_t *depths = malloc((traces->node_count + 1) * sizeof(*depths));

	if (!depths)
		return tm_error_no_memory();
	for (size_t i = 0; i < traces->node_count; i++) {
		uint32_t parent = traces->nodes[i].parent;

		depths[i] = parent == TM_NO_NODE ? 1 : depths[parent] + 1;
		if (depths[i] > ret->depth)
			ret->depth = depths[i];
	}
	free(depths);
	return NULL;
}

struct tm_error *traces_measure(const struct traces *traces, struct traces_measure *ret)
{
	uint8_t *seen = calloc(traces->node_count + 1, 1);
	struct estimate sum = {.count = 0};
	int failed = 0;

	if (!seen)
		return tm_error_no_memory();
	*ret = (struct traces_measure){.blocks = 0};
	for (size_t i = 0; i < traces->row_count && !failed; i++) {
		const struct trace_row *row = &traces->rows[i];

		failed = estimate_add_blocks(&sum, row->size, row->count, traces->period);
		ret->recorded += row->count;
		ret->tracebacks += !seen[row->node];
		seen[row->node] = 1;
	}
	free(seen);
	if (failed)
		return tm_error_new(TM_ERROR_INPUT,
				    "the snapshot's blocks add up to more than 2^63 bytes");
	ret->blocks = estimate_count(&sum);
	ret->size = sum.size;
	ret->size_error = sqrt(sum.size_variance);
	ret->count_error = sqrt(sum.count_variance);
	return measure_depth(traces, ret);
}
