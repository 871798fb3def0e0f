/*
 * What each frame holds together with all that it called, see analysis.h.
 *
 * May use: analysis.h, the C library.  Must not use: Python objects, gdb.
 * Must never recurse: a traceback may be as deep as a file says.
 */
#include "analysis.h"

#include <stdlib.h>
#include <string.h>

#include "estimate.h"

/* The tree as a walk needs it; TM_NO_NODE ends each list. */
struct tree {
	uint32_t *child;   /* by node, its first; the last is that of the forest */
	uint32_t *sibling; /* by node, the next */
	uint32_t *row;     /* by node, the first that names it, … */
	uint32_t *next;    /* … and by row, the next that names the same */
	uint32_t *open;    /* by key, frames between the root and the node */
};

static void tree_deinit(struct tree *tree)
{
	free(tree->child);
	free(tree->sibling);
	free(tree->row);
	free(tree->next);
	free(tree->open);
}

/* tree_deinit() in any case. */
static struct tm_error *tree_init(const struct traces *traces, size_t key_count, struct tree *ret)
{
	size_t count = traces->node_count;

	*ret = (struct tree){.child = NULL};
	if (traces->row_count >= TM_NO_NODE)
		return traces_too_much();
	*ret = (struct tree){
		.child = malloc((count + 1) * sizeof(uint32_t)),
		.sibling = malloc((count + 1) * sizeof(uint32_t)),
		.row = malloc((count + 1) * sizeof(uint32_t)),
		.next = malloc((traces->row_count + 1) * sizeof(uint32_t)),
		.open = calloc(key_count + 1, sizeof(uint32_t)),
	};
	if (!ret->child || !ret->sibling || !ret->row || !ret->next || !ret->open)
		return tm_error_no_memory();
	memset(ret->child, 0xff, (count + 1) * sizeof(uint32_t));
	memset(ret->row, 0xff, (count + 1) * sizeof(uint32_t));
	for (size_t i = count; i--;) {
		size_t parent = traces->nodes[i].parent;

		parent = parent == TM_NO_NODE ? count : parent;
		ret->sibling[i] = ret->child[parent];
		ret->child[parent] = (uint32_t)i;
	}
	for (size_t i = traces->row_count; i--;) {
		ret->next[i] = ret->row[traces->rows[i].node];
		ret->row[traces->rows[i].node] = (uint32_t)i;
	}
	return NULL;
}

/* What is allocated below each node of a path, as far as it was walked. */
struct path {
	struct estimate *below;
	size_t depth, capacity;
};

static int add_row(struct estimate *to, const struct traces *traces, uint32_t row)
{
	return estimate_add_blocks(to, traces->rows[row].size, traces->rows[row].count,
				   traces->period);
}

/* Down to a node: what it allocates itself. */
static struct tm_error *path_enter(struct path *path, const struct traces *traces,
				   const struct tree *tree, uint32_t node)
{
	if (path->depth == path->capacity) {
		size_t capacity = path->capacity ? path->capacity * 2 : 64;
		struct estimate *below = realloc(path->below, capacity * sizeof(*below));

		if (!below)
			return tm_error_no_memory();
		path->below = below;
		path->capacity = capacity;
	}
	path->below[path->depth] = (struct estimate){0};
	for (uint32_t row = tree->row[node]; row != TM_NO_NODE; row = tree->next[row])
		if (add_row(&path->below[path->depth], traces, row))
			return traces_too_much();
	path->depth++;
	return NULL;
}

/* Up from a node, all of it known: `sum` gets it unless it is NULL, and so does the caller. */
static struct tm_error *path_leave(struct path *path, struct estimate *sum)
{
	const struct estimate *below = &path->below[--path->depth];

	if ((sum && estimate_add(sum, below)) ||
	    (path->depth && estimate_add(&path->below[path->depth - 1], below)))
		return traces_too_much();
	return NULL;
}

/*
 * Walks the tree depth first, so that only the sums along one path are held.  With
 * `once`, of the frames of a key in a path the outermost one alone is added.
 */
static struct tm_error *walk(const struct traces *traces, struct tree *tree, int once,
			     struct path *path, struct estimate *sums)
{
	uint32_t at = tree->child[traces->node_count];
	struct tm_error *error = NULL;

	while (at != TM_NO_NODE && !error) {
		uint32_t next = tree->child[at];

		error = path_enter(path, traces, tree, at);
		tree->open[traces->keys[traces->nodes[at].frame]]++;
		while (next == TM_NO_NODE && at != TM_NO_NODE && !error) {
			uint32_t key = traces->keys[traces->nodes[at].frame];

			error = path_leave(path, --tree->open[key] && once ? NULL : &sums[key]);
			next = tree->sibling[at];
			at = traces->nodes[at].parent;
		}
		at = next;
	}
	return error;
}

struct tm_error *traces_sum_paths(const struct traces *traces, size_t key_count, int once,
				  struct estimate *sums)
{
	struct path path = {.below = NULL};
	struct tree tree;
	struct tm_error *error = tree_init(traces, key_count, &tree);

	if (!error)
		error = walk(traces, &tree, once, &path, sums);
	free(path.below);
	tree_deinit(&tree);
	return error;
}
